//! What a session does when there is too much to do.

use super::*;
use crate::overload::Level;

fn batch(seq: u64) -> agent_frame::Message {
    batches(seq, seq)
}

/// Updates of one key, from one sequence number to another.
fn batches(from: u64, to: u64) -> agent_frame::Message {
    let update = |seq| pb::StatusUpdate {
        seq,
        key: Some(pb::Key {
            name: "a".into(),
            ..pb::Key::default()
        }),
        ..pb::StatusUpdate::default()
    };
    agent_frame::Message::Status(pb::StatusBatch {
        updates: (from..=to).map(update).collect(),
    })
}

fn committed(upto: u64) -> Reply {
    Reply::Committed(Committed::Statuses {
        upto,
        resend: Vec::new(),
        credit: (1, 10),
    })
}

fn updates(given: &[Command]) -> Vec<u64> {
    given
        .iter()
        .flat_map(|command| match command {
            Command::Statuses { updates, .. } => updates.clone(),
            _ => Vec::new(),
        })
        .map(|update| update.seq)
        .collect()
}

#[test]
fn at_yellow_status_is_committed_once_a_second_and_what_came_meanwhile_is_merged() {
    let mut session = live(0);
    session.set_level(Level::Yellow);
    session.frame(10, up(batch(1)));
    assert_eq!(updates(&commands(&mut session)), [1]);
    session.reply(20, committed(1));
    for seq in 2..10 {
        session.frame(20 + seq, up(batch(seq)));
    }
    assert!(updates(&commands(&mut session)).is_empty());
    assert!(session.deadline() <= 1_010);
    session.tick(1_010);
    assert_eq!(updates(&commands(&mut session)), [9]);
    session.reply(1_020, committed(9));
    session.tick(1_070);
    let acks = frames(&mut session);
    assert!(
        acks.iter()
            .any(|f| matches!(f, hub_frame::Message::StatusAck(ack) if ack.upto_seq == 9)),
        "{acks:?}"
    );
}

#[test]
fn when_it_is_green_again_status_goes_at_once_and_inventory_goes_on() {
    let mut session = live(0);
    session.set_level(Level::Red);
    session.frame(10, up(batch(1)));
    commands(&mut session);
    session.reply(20, committed(1));
    let seen = agent_frame::Message::Watch(pb::WatchBatch {
        watch_id: 6,
        ..pb::WatchBatch::default()
    });
    session.frame(30, up(seen));
    assert_eq!(commands(&mut session), []);
    session.set_level(Level::Green);
    session.frame(
        40,
        up(agent_frame::Message::Heartbeat(pb::Heartbeat::default())),
    );
    let given = commands(&mut session);
    assert!(
        matches!(&given[..], [Command::Inventory { .. }]),
        "{given:?}"
    );
    session.frame(50, up(batch(2)));
    assert_eq!(updates(&commands(&mut session)), [2]);
    session.reply(60, committed(2));
    session.frame(70, up(batch(3)));
    assert_eq!(updates(&commands(&mut session)), [3]);
}

#[test]
fn an_agent_that_says_too_much_waits_for_its_credit_and_its_last_word_counts() {
    let mut session = live(0);
    // A first burst goes at once: 10 updates per millisecond are its share.
    session.frame(10, up(batches(1, 250)));
    assert_eq!(updates(&commands(&mut session)), [250]);
    session.reply(11, committed(250));
    session.frame(12, up(batches(251, 300)));
    assert!(updates(&commands(&mut session)).is_empty());
    assert_eq!(session.deadline(), 35);
    session.frame(34, up(batches(301, 310)));
    assert!(updates(&commands(&mut session)).is_empty());
    session.tick(35);
    assert_eq!(updates(&commands(&mut session)), [310]);
    session.reply(36, committed(310));
    // 60 updates more are 6 ms.
    session.frame(42, up(batch(311)));
    assert_eq!(updates(&commands(&mut session)), [311]);
}
