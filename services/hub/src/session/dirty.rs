//! The set of keys that are to be sent: latest wins, bounded by the number of keys, and fair. A key that is dirtied again keeps its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::message::Class;

#[derive(Debug, Clone, Copy)]
struct Place {
    class: Class,
    position: u64,
    first_rev: u64,
    rev: u64,
}

/// A key that was taken out and is not handed over yet; put back by [`DirtySet::restore`] or finished by [`DirtySet::done`].
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) text: String,
    place: Place,
}

/// The set.
#[derive(Debug, Default)]
pub(super) struct DirtySet {
    keys: HashMap<String, Place>,
    order: BTreeMap<(Class, u64), String>,
    /// Revisions at which keys became dirty; a key counts until it is handed over.
    first: BTreeSet<u64>,
    next: u64,
    deletes_turn: bool,
}

impl DirtySet {
    /// Marks a key.
    pub(super) fn mark(&mut self, text: String, rev: u64, class: Class) {
        if let Some(place) = self.keys.get_mut(&text) {
            place.rev = place.rev.max(rev);
            if place.class != class {
                self.order.remove(&(place.class, place.position));
                place.class = class;
                self.order.insert((class, place.position), text);
            }
            return;
        }
        let place = Place {
            class,
            position: self.next,
            first_rev: rev,
            rev,
        };
        self.next += 1;
        self.first.insert(rev);
        self.order.insert((class, place.position), text.clone());
        self.keys.insert(text, place);
    }

    /// Takes the next key.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let classes = if self.deletes_turn {
            [Class::High, Class::Delete, Class::Normal, Class::Low]
        } else {
            [Class::High, Class::Normal, Class::Delete, Class::Low]
        };
        let at = classes.into_iter().find_map(|class| {
            self.order
                .range((class, 0)..=(class, u64::MAX))
                .next()
                .map(|(at, _)| *at)
        })?;
        match at.0 {
            Class::Normal => self.deletes_turn = true,
            Class::Delete => self.deletes_turn = false,
            Class::High | Class::Low => {}
        }
        let text = self.order.remove(&at)?;
        let place = self.keys.remove(&text)?;
        Some(Taken { text, place })
    }

    /// Puts a key back to its old place.
    pub(super) fn restore(&mut self, taken: Taken) {
        let Taken { text, mut place } = taken;
        if let Some(newer) = self.keys.remove(&text) {
            self.order.remove(&(newer.class, newer.position));
            self.first.remove(&newer.first_rev);
            place.rev = place.rev.max(newer.rev);
            place.class = newer.class;
        }
        self.order
            .insert((place.class, place.position), text.clone());
        self.keys.insert(text, place);
    }

    /// A taken key does not exist any more. What was marked since it was taken may be a new life of it, so that stays.
    pub(super) fn gone(&mut self, taken: &Taken) {
        self.done(taken, taken.place.rev);
    }

    /// A taken key was handed over at `rev`.
    pub(super) fn done(&mut self, taken: &Taken, rev: u64) {
        self.first.remove(&taken.place.first_rev);
        if let Some(place) = self.keys.get(&taken.text).copied()
            && place.rev <= rev
        {
            self.keys.remove(&taken.text);
            self.order.remove(&(place.class, place.position));
            self.first.remove(&place.first_rev);
        }
        if self.first.is_empty() {
            // Most sessions have nothing to send most of the time, and there are many of them.
            self.keys.shrink_to(0);
        }
    }

    /// Whether every marked key was handed over.
    pub(super) fn is_settled(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether nothing waits to be taken.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The lowest revision that is not handed over.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.first.first().copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_dirtied_again_keeps_its_place_and_its_first_revision() {
        let mut set = DirtySet::default();
        set.mark("hot".into(), 1, Class::Normal);
        set.mark("cold".into(), 2, Class::Normal);
        set.mark("hot".into(), 3, Class::Normal);
        assert_eq!(set.lowest(), Some(1));
        let hot = set.take().unwrap();
        assert_eq!(hot.text, "hot");
        assert_eq!(set.lowest(), Some(1), "taken is not handed over");
        set.done(&hot, 3);
        assert_eq!(set.lowest(), Some(2));
    }

    #[test]
    fn a_key_dirtied_while_it_is_read_is_sent_again_only_when_the_read_was_older() {
        let mut set = DirtySet::default();
        set.mark("k".into(), 1, Class::Normal);
        let taken = set.take().unwrap();
        set.mark("k".into(), 5, Class::Normal);
        set.done(&taken, 4);
        assert_eq!((set.len(), set.lowest()), (1, Some(5)));
        let taken = set.take().unwrap();
        set.done(&taken, 5);
        assert!(set.is_settled() && set.is_empty());
    }

    #[test]
    fn a_key_that_was_purged_and_made_anew_while_it_was_read_is_still_sent() {
        let mut set = DirtySet::default();
        set.mark("k".into(), 1, Class::Delete);
        let taken = set.take().unwrap();
        set.mark("k".into(), 5, Class::Normal);
        set.gone(&taken);
        assert_eq!((set.len(), set.lowest()), (1, Some(5)));
    }

    #[test]
    fn a_backlog_of_deletes_does_not_hold_up_an_intent() {
        let mut set = DirtySet::default();
        for rev in 1..1000 {
            set.mark(format!("d{rev}"), rev, Class::Delete);
        }
        set.mark("new".into(), 1000, Class::Normal);
        let taken = [set.take().unwrap(), set.take().unwrap()];
        assert!(taken.iter().any(|t| t.text == "new"));
    }

    proptest::proptest! {
        #[test]
        fn lowest_is_never_above_a_key_that_was_not_handed_over(steps in proptest::collection::vec((0u8..4, 0u8..6), 0..200)) {
            let mut set = DirtySet::default();
            let mut rev = 0;
            let mut oldest = HashMap::<String, u64>::new();
            let mut taken = Vec::<Taken>::new();
            for (step, key) in steps {
                match step {
                    0 | 1 => {
                        rev += 1;
                        let text = format!("k{key}");
                        oldest.entry(text.clone()).or_insert(rev);
                        set.mark(text, rev, if step == 0 { Class::Normal } else { Class::Delete });
                    }
                    2 => if let Some(t) = set.take() {
                        if taken.iter().any(|o| o.text == t.text) { set.restore(t); } else { taken.push(t); }
                    },
                    _ => if let Some(t) = taken.pop() {
                        set.done(&t, rev);
                        oldest.remove(&t.text);
                    },
                }
                let lowest = oldest.values().min().copied();
                proptest::prop_assert!(set.lowest().unwrap_or(u64::MAX) <= lowest.unwrap_or(u64::MAX));
                proptest::prop_assert!(set.len() <= 6);
            }
        }
    }
}
