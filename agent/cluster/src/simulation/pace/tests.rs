use upm_proto::ledger::{key_text, limits};

use super::{Pace, key};
use crate::session::Observation;

/// What may lie between a change and its frame: what was read before it, and the turn of a tombstone.
const AHEAD: u64 = limits::DESIRED_MESSAGES as u64 + 2;

fn text(name: &str) -> String {
    key_text(&key(name))
}

/// I11.
#[test]
fn a_backlog_of_200000_tombstones_does_not_hold_up_one_creation() {
    let mut pace = Pace::new(10, 5);
    for n in 0..u64::from(limits::KEYS) - 1 {
        pace.ledger.bury(pace.now, &format!("d{n}"));
    }
    pace.hub.wake(pace.now);
    // Until all are looked at and some thousand are sent.
    while pace.hub.scanned_rev() < pace.ledger.head() {
        pace.step(1);
    }
    let (now, sent) = (pace.now, pace.down);
    pace.write(&["new".into()]);
    while !pace.cluster.contains_key(&text("new")) {
        pace.step(1);
    }
    let (handed, _, frames) = pace.handed[&text("new")];
    println!(
        "I11: handed over {} frames and {} ms later, applied {} ms later",
        frames - sent,
        handed - now,
        pace.now - now
    );
    assert!(frames - sent <= AHEAD, "I11: {} frames", frames - sent);
    assert!(pace.now - now <= 1_000, "I11: {} ms", pace.now - now);
    assert!(
        pace.agent.pending().0 > 1_000,
        "the backlog is still there: {:?}",
        pace.agent.pending()
    );
}

/// I12.
#[test]
fn one_agent_sustains_5000_changes_a_second_on_a_store_that_takes_100_ms() {
    let mut pace = Pace::new(100, 5);
    let mut next = 0;
    for _ in 0..4_000 {
        let names = (next..next + 5).map(|n| format!("k{}", n % 10_000));
        pace.write(&names.collect::<Vec<_>>());
        next += 5;
        pace.step(1);
    }
    pace.pass(1_000, 1);
    let ledger = &pace.ledger;
    println!(
        "I12: {} results of {next} changes in 4 s, the slowest after {} ms",
        ledger.results, ledger.slowest
    );
    assert_eq!(pace.agent.pending(), (0, 0), "I12");
    assert!(ledger.results >= next, "I12: {} results", ledger.results);
    assert!(ledger.slowest <= 1_000, "I12: {} ms", ledger.slowest);
}

/// I20.
#[test]
fn a_store_that_is_away_for_ten_minutes_costs_no_session_and_no_last_value() {
    let mut pace = Pace::new(10, 5);
    let names = (0..50).map(|n| format!("k{n}")).collect::<Vec<_>>();
    pace.write(&names);
    pace.pass(2_000, 10);
    pace.store_back = pace.now + 600_500;
    let mut sent = 0;
    for second in 0..600 {
        for name in &names {
            let body = format!("{{\"second\":{second}}}");
            let seen = Observation {
                intent_uid: name.clone().into_bytes(),
                intent_generation: 1,
                body: body.into(),
                ..Observation::default()
            };
            pace.agent.observed(pace.now, key(name), seen);
            sent += 1;
        }
        pace.pass(1_000, 100);
    }
    assert!(pace.ledger.statuses.is_empty(), "nothing can be kept yet");
    let held = pace.hub.held_bytes();
    pace.pass(10_000, 100);
    println!("I20: {sent} changes of status, {held} bytes held for them");
    // One register for each key, whatever the number of changes.
    assert!(held <= 50 * 1_024, "I20: {held} bytes");
    for name in &names {
        assert_eq!(
            pace.ledger.statuses[&text(name)],
            "{\"second\":599}",
            "I20: the last value of {name}"
        );
    }
}

/// I25.
#[test]
fn a_key_that_changes_10000_times_a_second_neither_starves_nor_is_starved() {
    let mut pace = Pace::new(20, 5);
    let hot = text("hot");
    let mut handed_rev = 0;
    let mut waiting = std::collections::VecDeque::new();
    for ms in 0..3_000u64 {
        for _ in 0..10 {
            pace.write(&["hot".into()]);
            waiting.push_back((pace.now, pace.ledger.head()));
        }
        if ms < 1_000 {
            pace.write(&[format!("k{ms}")]);
        }
        pace.step(1);
        if let Some((_, rev, _)) = pace.handed.get(&hot) {
            handed_rev = *rev;
        }
        while waiting.front().is_some_and(|(_, rev)| *rev <= handed_rev) {
            waiting.pop_front();
        }
        let oldest = waiting.front().map_or(pace.now, |(at, _)| *at);
        assert!(pace.now - oldest <= 1_000, "I25: the hot key at {ms} ms");
        let uncovered = pace.ledger.made.get(pace.bookmarked as usize);
        let behind = pace.now - uncovered.copied().unwrap_or(pace.now);
        assert!(
            behind <= 2_000,
            "I25: the bookmark is {behind} ms behind at {ms} ms"
        );
    }
    let slowest = (0..1_000)
        .map(|n| text(&format!("k{n}")))
        .map(|cold| pace.handed[&cold].0 - pace.ledger.written[&cold])
        .max();
    println!("I25: the slowest of 1000 others was handed over after {slowest:?} ms");
    assert!(slowest <= Some(1_000), "I25: {slowest:?}");
}
