//! Services of three members that tests take turns with.

use std::{
    ops::Deref,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::{
    service::{HEALING, Service},
    world::World,
};

/// How many there are at most: the nodes have no room for more beside what tests make for themselves.
const AT_MOST: usize = 3;

/// The services of a world.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    places: Mutex<Places>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Places {
    /// Projects of services that nobody uses.
    free: Vec<String>,
    /// How many tests have one.
    lent: usize,
}

/// A place in the pool for one test, given back when it is dropped, also by a test that fails.
struct Place<'w> {
    pool: &'w Pool,
    /// Project of the service; `None` while there is none.
    project: Option<String>,
}

impl Pool {
    /// Waits while all are in use.
    fn take(&self) -> Place<'_> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        while places.lent == AT_MOST {
            let woken = self.given_back.wait(places);
            places = woken.unwrap_or_else(PoisonError::into_inner);
        }
        places.lent += 1;
        Place {
            pool: self,
            project: places.free.pop(),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let places = self.pool.places.lock();
        let mut places = places.unwrap_or_else(PoisonError::into_inner);
        places.lent -= 1;
        places.free.extend(self.project.take());
        drop(places);
        self.pool.given_back.notify_one();
    }
}

/// A service that one test has for itself until it drops it.
pub(crate) struct Shared<'w> {
    service: Service<'w>,
    _place: Place<'w>,
}

impl<'w> Shared<'w> {
    /// One in good health. When a test left it broken, another one is made.
    pub(super) fn of(world: &'w World, pool: &'w Pool) -> Self {
        let mut place = pool.take();
        if let Some(project) = &place.project {
            let service = Service::of(world, project, "cache");
            if service.is_well_within(Duration::from_mins(1)).is_ok() {
                return Self {
                    service,
                    _place: place,
                };
            }
        }
        let project = world.project("shared");
        place.project = Some(project.clone());
        let service = Service::create(world, &project, "cache", 3);
        service.heals(HEALING);
        Self {
            service,
            _place: place,
        }
    }
}

impl<'w> Deref for Shared<'w> {
    type Target = Service<'w>;

    fn deref(&self) -> &Service<'w> {
        &self.service
    }
}
