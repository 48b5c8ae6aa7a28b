//! A client that does more than set new keys: it overwrites, counts, appends and writes in transactions, and reads what was confirmed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    service::HEALING,
    writer::{Target, say},
};

/// What a client may rely on.
#[derive(Debug, Default)]
struct Confirmed {
    /// The last number that was written over the one before.
    register: u64,
    /// Increments of the counter.
    increments: u64,
    /// Numbers that were appended, in order.
    appended: Vec<u64>,
    /// The last number that a transaction wrote to both its keys.
    pair: u64,
    /// Increments that were tried.
    tried: u64,
    /// Reads that showed less than what was confirmed before they began.
    stale_reads: u64,
}

/// Works until it is told to stop.
pub(crate) struct MixedWriter {
    target: Target,
    prefix: String,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Confirmed>,
}

/// What was confirmed to a client that has ended.
pub(crate) struct Ledger {
    target: Target,
    prefix: String,
    confirmed: Confirmed,
}

impl MixedWriter {
    pub(crate) fn start(target: Target, prefix: &str) -> Self {
        let prefix = format!("mixed:{prefix}");
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = {
            let (target, prefix, stop, rounds) =
                (target.clone(), prefix.clone(), stop.clone(), rounds.clone());
            thread::spawn(move || work(&target, &prefix, &stop, &rounds))
        };
        Self {
            target,
            prefix,
            stop,
            rounds,
            thread,
        }
    }

    /// Stops when writes are confirmed again, and checks what was.
    pub(crate) fn finish(self) -> Ledger {
        let (begin, enough) = (Instant::now(), self.rounds.load(Ordering::SeqCst) + 20);
        while self.rounds.load(Ordering::SeqCst) < enough {
            assert!(
                begin.elapsed() < HEALING,
                "{}: nothing is confirmed",
                self.prefix
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.stop.store(true, Ordering::SeqCst);
        let ledger = Ledger {
            target: self.target,
            prefix: self.prefix,
            confirmed: self.thread.join().expect("the writer does not panic"),
        };
        ledger.check("at the end");
        ledger
    }
}

impl Ledger {
    /// Asserts that everything that was confirmed is there.
    pub(crate) fn check(&self, when: &str) {
        let Self {
            prefix, confirmed, ..
        } = self;
        let mut connection = self.target.connect_within(HEALING);
        let read = |key: &str, connection: &mut redis::Connection| -> u64 {
            let value: Option<u64> = redis::cmd("GET")
                .arg(format!("{prefix}:{key}"))
                .query(connection)
                .expect("read back");
            value.unwrap_or_default()
        };
        let register = read("register", &mut connection);
        let counter = read("counter", &mut connection);
        let first = read("pair:1", &mut connection);
        let second = read("pair:2", &mut connection);
        let list: Vec<u64> = redis::cmd("LRANGE")
            .arg(format!("{prefix}:list"))
            .arg(0)
            .arg(-1)
            .query(&mut connection)
            .expect("read back");
        say(&format!(
            "{prefix} {when}: register {} of {}, counter {counter} of {} to {}, list {} of {}, pair {} of {}, {} stale reads",
            register,
            confirmed.register,
            confirmed.increments,
            confirmed.tried,
            list.len(),
            confirmed.appended.len(),
            first,
            confirmed.pair,
            confirmed.stale_reads,
        ));
        assert!(confirmed.register <= register, "{prefix}: overwritten");
        assert!(
            (confirmed.increments..=confirmed.tried).contains(&counter),
            "{prefix}: the counter"
        );
        assert!(confirmed.pair <= first, "{prefix}: the transaction");
        assert_eq!(first, second, "{prefix}: half a transaction");
        assert!(
            list.is_sorted_by(|a, b| a < b),
            "{prefix}: twice, or out of order"
        );
        let missing: Vec<&u64> = confirmed
            .appended
            .iter()
            .filter(|number| list.binary_search(number).is_err())
            .collect();
        assert!(
            missing.is_empty(),
            "{prefix}: missing of the list: {missing:?}"
        );
    }
}

fn work(target: &Target, prefix: &str, stop: &AtomicBool, rounds: &AtomicU64) -> Confirmed {
    let mut confirmed = Confirmed::default();
    let mut connection = None;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        confirmed.tried += 1;
        match round(target, connection.take(), prefix, number, &mut confirmed) {
            Ok(open) => {
                connection = Some(open);
                rounds.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
        thread::sleep(Duration::from_millis(3));
    }
    confirmed
}

/// One of each, and a wait for a replica; nothing of a round that failed somewhere counts as confirmed.
fn round(
    target: &Target,
    open: Option<redis::Connection>,
    prefix: &str,
    number: u64,
    confirmed: &mut Confirmed,
) -> redis::RedisResult<redis::Connection> {
    let mut open = open.map_or_else(|| target.connect(), Ok)?;
    let (): () = redis::pipe()
        .atomic()
        .set(format!("{prefix}:pair:1"), number)
        .ignore()
        .set(format!("{prefix}:pair:2"), number)
        .ignore()
        .query(&mut open)?;
    let (read, _, _, _, replicas): (Option<u64>, String, u64, u64, i64) = redis::pipe()
        .cmd("GET")
        .arg(format!("{prefix}:register"))
        .cmd("SET")
        .arg(format!("{prefix}:register"))
        .arg(number)
        .cmd("INCR")
        .arg(format!("{prefix}:counter"))
        .cmd("RPUSH")
        .arg(format!("{prefix}:list"))
        .arg(number)
        .cmd("WAIT")
        .arg(1)
        .arg(1000)
        .query(&mut open)?;
    if read.unwrap_or_default() < confirmed.register {
        confirmed.stale_reads += 1;
    }
    if replicas < 1 {
        return Err((redis::ErrorKind::Client, "no replica confirmed it").into());
    }
    confirmed.register = number;
    confirmed.increments += 1;
    confirmed.appended.push(number);
    confirmed.pair = number;
    Ok(open)
}
