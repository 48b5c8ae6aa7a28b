//! When keys are made and forgotten. Pure.

use std::time::Duration;

use upm_store::time::micros;

/// How long a key is published before it signs.
const PUBLISHED_BEFORE: Duration = Duration::from_mins(10);
/// Clocks of machines differ, and policies travel: added to the life of the tokens that an old key signed.
const KEPT_AFTER: Duration = Duration::from_mins(10);

/// What the plan needs to know of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyTime<'a> {
    pub(super) kid: &'a str,
    pub(super) sign_from_us: i64,
    /// Whether this process can sign with it.
    pub(super) usable: bool,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Make a key that signs from this time.
    pub(super) create_from_us: Option<i64>,
    /// Forget these.
    pub(super) delete: Vec<String>,
}

/// Decides for keys in order of `sign_from_us`.
pub(super) fn plan(
    keys: &[KeyTime<'_>],
    now_us: i64,
    rotation: Duration,
    token_life: Duration,
) -> Plan {
    let newest = keys.iter().rfind(|key| key.usable);
    let signs_now = keys
        .iter()
        .any(|key| key.usable && key.sign_from_us <= now_us);
    let next_us = now_us.saturating_add(micros(PUBLISHED_BEFORE));
    let create_from_us = match newest {
        _ if !signs_now => Some(now_us),
        Some(newest) if newest.sign_from_us.saturating_add(micros(rotation)) <= next_us => {
            Some(next_us)
        }
        _ => None,
    };
    let kept_us = micros(token_life).saturating_add(micros(KEPT_AFTER));
    let delete = keys
        .iter()
        .zip(keys.iter().skip(1))
        .filter(|(_, successor)| successor.sign_from_us.saturating_add(kept_us) <= now_us)
        .map(|(old, _)| old.kid.to_owned())
        .collect();
    Plan {
        create_from_us,
        delete,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const LIFE: Duration = Duration::from_mins(5);

    fn at(key: &(String, i64)) -> KeyTime<'_> {
        KeyTime {
            kid: &key.0,
            sign_from_us: key.1,
            usable: true,
        }
    }

    #[test]
    fn makes_the_first_key_at_once_and_leaves_it_alone() {
        assert_eq!(plan(&[], 5, DAY, LIFE).create_from_us, Some(5));
        let key = ("a".to_owned(), 5);
        assert_eq!(plan(&[at(&key)], 6, DAY, LIFE), Plan::default());
    }

    #[test]
    fn makes_a_key_at_once_when_it_can_use_none() {
        let key = KeyTime {
            kid: "sealed",
            sign_from_us: 1,
            usable: false,
        };
        let plan = plan(&[key], 2, DAY, LIFE);
        assert_eq!(
            plan,
            Plan {
                create_from_us: Some(2),
                delete: vec![]
            }
        );
    }

    proptest! {
        /// Runs the rotation for a while, looking every `step`: at any time a key signs, it has been published for ten minutes (but
        /// for the first), and every key that signed within the life of a token is still there.
        #[test]
        fn overlap_holds_at_any_pace(step_s in 1_u64..600, rotation_h in 1_u64..72) {
            let rotation = Duration::from_hours(rotation_h);
            let mut keys: Vec<(String, i64)> = Vec::new();
            let mut made: Vec<(String, i64)> = Vec::new();
            let mut signed: Vec<(String, i64)> = Vec::new();
            let step = micros(Duration::from_secs(step_s));
            let mut now = 1_000_000_i64;
            for _ in 0..2_000 {
                let times: Vec<_> = keys.iter().map(at).collect();
                let todo = plan(&times, now, rotation, LIFE);
                keys.retain(|(kid, _)| !todo.delete.contains(kid));
                if let Some(from) = todo.create_from_us {
                    let kid = format!("k{}", made.len());
                    made.push((kid.clone(), now));
                    keys.push((kid, from));
                }
                let signer = keys.iter().rfind(|(_, from)| *from <= now).expect("a key signs");
                let published = made.iter().find(|(kid, _)| *kid == signer.0).expect("made").1;
                prop_assert!(signer.0 == "k0" || published + micros(PUBLISHED_BEFORE) <= now);
                signed.push((signer.0.clone(), now));
                signed.retain(|(_, when)| now - *when <= micros(LIFE));
                for (kid, _) in &signed {
                    prop_assert!(keys.iter().any(|(known, _)| known == kid));
                }
                prop_assert!(keys.len() <= 3);
                now += step;
            }
        }
    }
}
