//! One watch per kind: a store, an index, and what it triggers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::future::ready;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::Error;

mod read;

pub use read::Unreadable;
use read::{Computed, Read, Record, Status, split};

/// A stream of objects that shall be reconciled. It ends when the informer does.
pub type Trigger<T> = BoxStream<'static, ObjectRef<T>>;

type Keys<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// What is known of all objects of a kind, kept current by one watch. Clones share it.
pub struct Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<K>,
    shared: Arc<Shared<K>>,
    watch: Arc<AbortOnDropHandle<()>>,
}

struct Shared<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    index: RwLock<Index<K>>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Arc<K>>>>,
    /// Objects that cannot be read, by namespace and name.
    unreadable: Mutex<HashMap<(String, String), Unreadable>>,
    /// Who is told of them.
    reporters: Mutex<Vec<mpsc::UnboundedSender<Unreadable>>>,
    keys: Keys<K>,
    ready: watch::Sender<bool>,
}

impl<K> Clone for Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            shared: Arc::clone(&self.shared),
            watch: Arc::clone(&self.watch),
        }
    }
}

impl<K> Debug for Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Informer")
            .field("kind", &K::kind(&()))
            .field("objects", &self.store.len())
            .finish_non_exhaustive()
    }
}

/// Key → objects, and back.
struct Index<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    objects: HashMap<String, BTreeSet<(String, String)>>,
    keys: HashMap<(String, String), Vec<String>>,
    kind: std::marker::PhantomData<fn(K)>,
}

impl<K> Index<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    fn put(&mut self, object: (String, String), keys: Vec<String>) {
        self.take(&object);
        for key in &keys {
            self.objects
                .entry(key.clone())
                .or_default()
                .insert(object.clone());
        }
        self.keys.insert(object, keys);
    }

    fn take(&mut self, object: &(String, String)) {
        for key in self.keys.remove(object).into_iter().flatten() {
            if let Some(objects) = self.objects.get_mut(&key) {
                objects.remove(object);
                if objects.is_empty() {
                    self.objects.remove(&key);
                }
            }
        }
    }
}

fn id<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Watches the objects that `config` selects, until `cancel`. They are kept without their `managedFields`. One that is not of the
    /// form of its kind is not kept, see [`Informer::unreadable`].
    pub fn start(api: Api<K>, config: watcher::Config, cancel: &CancellationToken) -> Self {
        Self::start_indexed(api, config, cancel, |_| Vec::new())
    }

    /// Like [`Informer::start`], but only of objects that `keep` says to be of interest by their names: what no selector can say.
    pub fn start_named(
        api: Api<K>,
        config: watcher::Config,
        cancel: &CancellationToken,
        keep: impl Fn(&str) -> bool + Send + 'static,
    ) -> Self {
        let events = kept(watched::<K, Record>(api, config), keep);
        Self::follow(events, cancel, |_| Vec::new())
    }

    /// Like [`Informer::start`], and keeps the objects findable by the keys that `keys` gives them.
    pub fn start_indexed(
        api: Api<K>,
        config: watcher::Config,
        cancel: &CancellationToken,
        keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self::follow(watched::<K, Record>(api, config), cancel, keys)
    }

    /// Like [`Informer::start_indexed`], for a kind whose status this process computes from the rest: a status that another version
    /// wrote, and that is not of the form of today, is read as none.
    pub fn start_computed(
        api: Api<K>,
        config: watcher::Config,
        cancel: &CancellationToken,
        keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self::follow(watched::<K, Computed>(api, config), cancel, keys)
    }

    /// An informer over any stream of watch events.
    #[cfg(test)]
    pub(crate) fn over(
        events: BoxStream<'static, watcher::Result<Event<K>>>,
        cancel: &CancellationToken,
        keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self::follow(readable(events), cancel, keys)
    }

    fn follow<S: Status>(
        events: Events<K, S>,
        cancel: &CancellationToken,
        keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let writer = Writer::<K>::new(());
        let store = writer.as_reader();
        let index = Index {
            objects: HashMap::new(),
            keys: HashMap::new(),
            kind: std::marker::PhantomData,
        };
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            subscribers: Mutex::default(),
            unreadable: Mutex::default(),
            reporters: Mutex::default(),
            keys: Box::new(keys),
            ready: watch::Sender::new(false),
        });
        let watch = tokio::spawn(follow(events, writer, Arc::clone(&shared), cancel.clone()));
        Self {
            store,
            shared,
            watch: Arc::new(AbortOnDropHandle::new(watch)),
        }
    }

    /// Waits until the objects have been read once.
    ///
    /// # Errors
    /// [`Error::Deadline`] after `within`, [`Error::Cancelled`] when the watch ended.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let mut ready = self.shared.ready.subscribe();
        let ended = self.store.clone();
        let read = async {
            tokio::select! {
                found = ready.wait_for(|ready| *ready) => found.map(drop).map_err(|_| Error::Cancelled),
                // the writer of the store is dropped with the watch; until then this only says that the index is next
                Err(_) = ended.wait_until_ready() => Err(Error::Cancelled),
            }
        };
        tokio::time::timeout(within, read)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Deadline {
                    what: format!("read every {}", K::kind(&())),
                    within,
                })
            })
    }

    /// The objects, as the frame needs them.
    pub(crate) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// The object of this name; `namespace` is empty for kinds of the cluster.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let reference = ObjectRef::new(name);
        self.store.get(&if namespace.is_empty() {
            reference
        } else {
            reference.within(namespace)
        })
    }

    /// The objects with this key, by namespace and name.
    pub fn indexed(&self, key: &str) -> Vec<Arc<K>> {
        let index = self
            .shared
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let objects: Vec<_> = index
            .objects
            .get(key)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        drop(index);
        objects
            .iter()
            .filter_map(|(namespace, name)| self.get(namespace, name))
            .collect()
    }

    /// The objects that cannot be read. Nobody acts on them, also not on what they were before.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let unreadable = self.shared.unreadable.lock();
        unreadable
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Tells of every object that cannot be read, those known now first, and again when it changed and still cannot.
    pub(crate) fn reports(&self) -> BoxStream<'static, Unreadable> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut reporters = self
            .shared
            .reporters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for unreadable in self.unreadable() {
            // the receiver is held below
            let _ = sender.send(unreadable);
        }
        reporters.push(sender);
        drop(reporters);
        futures::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        })
        .boxed()
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The objects to reconcile when one of these changes. Starts with those that `map` gives for the objects known now.
    pub fn trigger<T>(&self, map: impl Fn(&K) -> Vec<ObjectRef<T>> + Send + 'static) -> Trigger<T>
    where
        T: Resource<DynamicType = ()> + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut subscribers = self
            .shared
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // under the lock: a change is in what is known now, or is told to the new subscriber, and never neither
        for object in self.all() {
            // the receiver is held below
            let _ = sender.send(object);
        }
        subscribers.push(sender);
        drop(subscribers);
        futures::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        })
        .flat_map(move |object| futures::stream::iter(map(&object)))
        .boxed()
    }
}

type Events<K, S> = BoxStream<'static, watcher::Result<Event<Read<K, S>>>>;

fn watched<K, S>(api: Api<K>, config: watcher::Config) -> Events<K, S>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    S: Status,
{
    let namespace = api.namespace().map(str::to_owned);
    let client = api.into_client();
    let api: Api<Read<K, S>> = match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &()),
        None => Api::all_with(client, &()),
    };
    slim(watcher::watcher(api, config).default_backoff().boxed())
}

/// Objects that are there, as if they had been read.
#[cfg(test)]
fn readable<K: Resource + Send + 'static>(
    events: BoxStream<'static, watcher::Result<Event<K>>>,
) -> Events<K, Record> {
    let read = |event| match event {
        Event::Apply(object) => Event::Apply(Read::of(object)),
        Event::InitApply(object) => Event::InitApply(Read::of(object)),
        Event::Delete(object) => Event::Delete(Read::of(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    };
    events.map_ok(read).boxed()
}

/// Who owns which field is the API server's business; held as trees it would be the largest part of most objects.
fn slim<K: Resource + Send + 'static, S: Status>(events: Events<K, S>) -> Events<K, S> {
    events
        .modify(|object| object.meta_mut().managed_fields = None)
        .boxed()
}

/// What happens to objects that `keep` says to be of interest.
fn kept<K: Resource + Send + 'static, S: Status>(
    events: Events<K, S>,
    keep: impl Fn(&str) -> bool + Send + 'static,
) -> Events<K, S> {
    let keeps = move |event: &Event<Read<K, S>>| match event {
        Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) => {
            keep(&object.name_any())
        }
        Event::Init | Event::InitDone => true,
    };
    events.try_filter(move |event| ready(keeps(event))).boxed()
}

async fn follow<K, S>(
    events: Events<K, S>,
    mut writer: Writer<K>,
    shared: Arc<Shared<K>>,
    cancel: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    S: Status,
    (String, String): Hash + Eq,
{
    let mut events = pin!(events.take_until(cancel.cancelled_owned()));
    let mut before: HashMap<ObjectRef<K>, Arc<K>> = HashMap::new();
    let mut listed: HashSet<ObjectRef<K>> = HashSet::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                warn!(kind = %K::kind(&()), %error, "Lost the watch, trying again");
                continue;
            }
        };
        let event = match split(event) {
            Ok(event) => event,
            Err((there, unreadable)) => {
                let reference = reference::<K>(&unreadable);
                // what it was before is no longer what it is
                if let Some(known) = writer.as_reader().get(&reference) {
                    writer.apply_watcher_event(&Event::Delete(known.as_ref().clone()));
                    shared.gone(known);
                }
                shared.cannot_read(unreadable, there);
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        match event {
            Event::Init => {
                // those that still cannot be read are told of again
                shared.all_readable();
                let known = writer.as_reader().state().into_iter();
                before = known
                    .map(|object| (ObjectRef::from_obj(object.as_ref()), object))
                    .collect();
                listed.clear();
            }
            Event::InitApply(object) => {
                listed.insert(ObjectRef::from_obj(&object));
            }
            Event::InitDone => {
                for object in writer.as_reader().state() {
                    shared.changed(object);
                }
                // what vanished while the watch was lost
                for (reference, object) in before.drain() {
                    if !listed.contains(&reference) {
                        shared.gone(object);
                    }
                }
                listed.clear();
                shared.ready.send_replace(true);
            }
            Event::Apply(object) => shared.changed(Arc::new(object)),
            Event::Delete(object) => shared.gone(Arc::new(object)),
        }
    }
    debug!(kind = %K::kind(&()), "Ended the watch");
    shared
        .subscribers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

fn reference<K: Resource<DynamicType = ()>>(unreadable: &Unreadable) -> ObjectRef<K> {
    let reference = ObjectRef::new(unreadable.metadata.name.as_deref().unwrap_or_default());
    match &unreadable.metadata.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

impl<K> Shared<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    fn cannot_read(&self, unreadable: Unreadable, there: bool) {
        let metadata = &unreadable.metadata;
        let id = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let mut known = self
            .unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !there {
            known.remove(&id);
            return;
        }
        let before = known.insert(id.clone(), unreadable.clone());
        drop(known);
        if before.is_some_and(|before| before.error == unreadable.error) {
            return;
        }
        warn!(
            kind = %K::kind(&()),
            namespace = id.0,
            name = id.1,
            error = unreadable.error,
            "An object cannot be read and is left alone"
        );
        let mut reporters = self
            .reporters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reporters.retain(|reporter| reporter.send(unreadable.clone()).is_ok());
    }

    fn all_readable(&self) {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn readable(&self, object: &(String, String)) {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }

    fn changed(&self, object: Arc<K>) {
        self.readable(&id(object.as_ref()));
        let keys = (self.keys)(&object);
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .put(id(object.as_ref()), keys);
        self.notify(&object);
    }

    fn gone(&self, object: Arc<K>) {
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take(&id(object.as_ref()));
        self.notify(&object);
    }

    fn notify(&self, object: &Arc<K>) {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.send(Arc::clone(object)).is_ok());
    }
}

#[cfg(test)]
mod tests;
