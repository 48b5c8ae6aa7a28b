//! Clients that write straight to every member, past the Service: what they see is the time in which no member takes confirmed writes,
//! without what the cluster needs to move the Service; and whether a member that was deposed still confirms anything.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::Child,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{pulse::Pulse, writer::Target};

/// Between two writes at a member; most members refuse them.
const EVERY: Duration = Duration::from_millis(5);
/// Before a member that cannot be reached is tried again.
const UNREACHABLE: Duration = Duration::from_millis(50);

/// What the clients have seen.
#[derive(Debug)]
pub(crate) struct MembersReport {
    /// Keys that were confirmed, with their values.
    pub(crate) confirmed: Vec<(String, u64)>,
    /// The longest time between two confirmed writes, at whatever members, without the time in which this machine stood still.
    pub(crate) longest_gap: Duration,
}

/// Writes at every member until it is told to stop.
#[derive(Debug)]
pub(crate) struct MembersWriter {
    shared: Arc<Shared>,
    watch: Child,
    /// Reads what the watch prints, and starts a client for each member.
    reader: JoinHandle<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    pulse: Pulse,
    /// Addresses by the name of the pod.
    addresses: Mutex<BTreeMap<String, String>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    report: MembersReport,
    last: Option<(Instant, Duration)>,
}

impl MembersWriter {
    pub(crate) fn start(target: &Target, prefix: &str) -> Self {
        let label = format!("unit-operator/unitset.name={}", target.service);
        let mut watch = target.kubectl.watch_addresses(&target.project, &label);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            pulse: Pulse::start(),
            addresses: Mutex::default(),
            seen: Mutex::new(Seen {
                report: MembersReport {
                    confirmed: Vec::new(),
                    longest_gap: Duration::ZERO,
                },
                last: None,
            }),
        });
        let lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
        let (known, target, prefix) = (shared.clone(), target.clone(), prefix.to_owned());
        let reader = thread::spawn(move || {
            let mut clients: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
            for line in lines.map_while(Result::ok) {
                let mut words = line.split_whitespace().map(ToOwned::to_owned);
                let (Some(name), Some(address)) = (words.next(), words.next()) else {
                    continue;
                };
                if address == "<none>" {
                    continue;
                }
                lock(&known.addresses).insert(name.clone(), address);
                clients.entry(name.clone()).or_insert_with(|| {
                    let (shared, target) = (known.clone(), target.clone());
                    let prefix = format!("{prefix}:at:{name}");
                    thread::spawn(move || shared.write(&target, &name, &prefix))
                });
            }
            clients.into_values().collect()
        });
        Self {
            shared,
            watch,
            reader,
        }
    }

    /// Stops all clients.
    pub(crate) fn finish(mut self) -> MembersReport {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.watch.kill().expect("end the watch");
        self.watch.wait().expect("wait for its end");
        for client in self.reader.join().expect("the reader does not panic") {
            client.join().expect("a client does not panic");
        }
        let mut seen = lock(&self.shared.seen);
        assert!(seen.last.is_some(), "no member confirmed a write");
        MembersReport {
            confirmed: std::mem::take(&mut seen.report.confirmed),
            longest_gap: seen.report.longest_gap,
        }
    }
}

impl Shared {
    fn write(&self, target: &Target, name: &str, prefix: &str) {
        let mut open: Option<(String, redis::Connection)> = None;
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            let address = lock(&self.addresses).get(name).cloned().unwrap_or_default();
            if open.as_ref().is_some_and(|(at, _)| *at != address) {
                open = None;
            }
            let Some(connection) = connected(&mut open, address, target) else {
                thread::sleep(UNREACHABLE);
                continue;
            };
            let key = format!("{prefix}:{number}");
            match set_and_wait(connection, &key, number) {
                Ok(0) => {}
                Ok(_) => self.confirm(key, number),
                // most members refuse; a connection that is broken is given up with what was in flight on it
                Err(error) if error.code().is_none() => {
                    open = None;
                }
                Err(_) => {}
            }
            thread::sleep(EVERY);
        }
    }

    fn confirm(&self, key: String, number: u64) {
        let still = self.pulse.stood_still();
        let mut seen = lock(&self.seen);
        if let Some((last, stood)) = seen.last {
            let gap = last.elapsed().saturating_sub(still.saturating_sub(stood));
            seen.report.longest_gap = seen.report.longest_gap.max(gap);
        }
        seen.last = Some((Instant::now(), still));
        seen.report.confirmed.push((key, number));
    }
}

/// The open connection, or a new one; `None` while the member cannot be reached.
fn connected<'a>(
    open: &'a mut Option<(String, redis::Connection)>,
    address: String,
    target: &Target,
) -> Option<&'a mut redis::Connection> {
    if open.is_none() {
        let connection = target.at(&address).connect().ok()?;
        *open = Some((address, connection));
    }
    open.as_mut().map(|(_, connection)| connection)
}

/// One write; how many replicas have it. Not in one pipeline: the answer of a member that refuses is read whole.
fn set_and_wait(
    connection: &mut redis::Connection,
    key: &str,
    number: u64,
) -> redis::RedisResult<i64> {
    let () = redis::cmd("SET").arg(key).arg(number).query(connection)?;
    redis::cmd("WAIT").arg(1).arg(1000).query(connection)
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
