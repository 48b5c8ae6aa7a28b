//! The real plan, the real calls, real unit agents and real Redis servers on the loopback interface; only the API server is replaced by
//! a value with a version. A writer uses `WAIT 1` all the time; afterwards no confirmed write may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use redis::AsyncCommands;
use tokio_util::sync::CancellationToken;
use upm_unit_agent::rig::{PATIENCE, Rig, host};

use super::agents::{Agents, Credentials, Target, distrust};
use super::model::{Group, Live, Node, Request, Seen, State, World};
use super::plan::{Action, Decision, Inputs, Memory, plan};

struct Loop {
    agents: Agents,
    group: Group,
    state: State,
    memory: Memory,
    targets: BTreeMap<String, Target>,
    ports: BTreeMap<String, i32>,
    answered: BTreeMap<String, Instant>,
    looked: Instant,
    /// Whether this look follows a step at once.
    again: bool,
    /// Why the last switchover ended as it did.
    outcome: String,
    /// Which member the write route leads to; -1 for none.
    route: Arc<AtomicI32>,
}

fn name(index: usize) -> String {
    format!("redis-{index}")
}

impl Loop {
    fn new(rig: &Rig, size: usize) -> Self {
        let (certificate, key) = rig
            .authority
            .issue("spiffe://upm/controller/kauntlet", "controller");
        let authority = rig.authority.certificate.clone();
        let mut group = Group {
            source: name(0),
            generation: 1,
            ..Group::default()
        };
        let (mut targets, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..size {
            let node = Node {
                host: host(&name(index)),
                port: rig.port(index),
                ..Node::default()
            };
            group.members.insert(name(index), node);
            let address = rig.units[index].config.listen.to_string();
            targets.insert(
                name(index),
                Target {
                    host: host(&name(index)),
                    address,
                },
            );
            ports.insert(name(index), rig.port(index));
        }
        Self {
            agents: Agents::new(Credentials {
                certificate,
                key,
                authority,
            }),
            group,
            state: State::default(),
            memory: Memory::default(),
            targets,
            ports,
            answered: BTreeMap::new(),
            looked: Instant::now(),
            again: false,
            outcome: String::new(),
            route: Arc::new(AtomicI32::new(-1)),
        }
    }

    async fn look(&mut self) -> World {
        let now = Instant::now();
        let quick: Vec<String> = self
            .answered
            .iter()
            .filter(|(_, at)| self.again && at.elapsed() > Duration::from_secs(1))
            .map(|(name, _)| name.clone())
            .collect();
        let views = self.agents.observe(&self.targets, &quick).await;
        let mut world = World::default();
        for (name, view) in views {
            let answered = self.answered.entry(name.clone()).or_insert(now);
            let view = view.ok();
            if view.as_ref().is_some_and(|view| view.reachable) {
                *answered = Instant::now();
            }
            let seen = Seen {
                view,
                silent: answered.elapsed(),
                host: "127.0.0.1".to_owned(),
                port: self.ports[&name],
                ..Seen::default()
            };
            world.members.insert(name, seen);
        }
        world
    }

    /// One look and one step; returns the decision and what was seen.
    async fn turn(&mut self) -> (Decision, World) {
        let world = self.look().await;
        let elapsed = self.looked.elapsed();
        self.looked = Instant::now();
        self.memory.note(&self.group, &self.state, &world, elapsed);
        let inputs = Inputs {
            group: &self.group,
            state: &self.state,
            world: &world,
            memory: &self.memory,
        };
        let decision = plan(inputs);
        self.memory.decided(&decision, elapsed);
        let leader = self
            .state
            .primary
            .as_deref()
            .and_then(|name| world.agent(name));
        let leads = leader.is_some_and(|view| {
            view.leads(self.state.epoch)
                && view.reachable
                && (view.online > 0 || view.min_replicas == 0)
        });
        if decision.withdraw {
            self.route.store(-1, Ordering::SeqCst);
        } else if leads {
            let index = self
                .state
                .primary
                .as_deref()
                .unwrap()
                .strip_prefix("redis-")
                .unwrap()
                .parse()
                .unwrap();
            self.route.store(index, Ordering::SeqCst);
        }
        for action in &decision.actions {
            if let Action::Record(change) = action {
                println!("{}", change.why);
                change.enter(&mut self.state);
                if let Some(outcome) = &change.outcome {
                    self.outcome.clone_from(&outcome.reason);
                }
            }
        }
        futures::future::join_all(
            decision
                .actions
                .iter()
                .map(|action| self.agents.act(&self.targets, action)),
        )
        .await;
        // as the controller does it: who is slow is waited for at the next turn
        self.again = !self.again && !decision.actions.is_empty();
        (decision, world)
    }

    async fn until_healthy(&mut self, what: &str) -> Duration {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            let (decision, world) = self.turn().await;
            let primary = self.state.primary.clone().unwrap_or_default();
            let healthy = decision.actions.is_empty()
                && world.members.iter().all(|(name, seen)| {
                    seen.view.as_ref().is_some_and(|view| {
                        if *name == primary {
                            view.reachable && view.leads(self.state.epoch) && !view.paused
                        } else {
                            view.live == Live::Replica && view.link_up
                        }
                    })
                });
            if healthy {
                return begun.elapsed();
            }
            if decision.actions.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            last = Some((decision, world));
        }
        panic!("{what}: not healthy again: {last:#?}");
    }
}

/// Writes with `WAIT 1` to wherever the route leads.
struct Writer {
    confirmed: Arc<Mutex<Vec<u64>>>,
    longest: Arc<AtomicUsize>,
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(ports: BTreeMap<String, i32>, route: Arc<AtomicI32>) -> Self {
        let confirmed = Arc::new(Mutex::new(Vec::new()));
        let longest = Arc::new(AtomicUsize::new(0));
        let end = CancellationToken::new();
        let (list, gap, stop) = (confirmed.clone(), longest.clone(), end.clone());
        let task = tokio::spawn(async move {
            let mut next = 0_u64;
            let mut last = Instant::now();
            let mut connection: Option<(i32, redis::aio::MultiplexedConnection)> = None;
            while !stop.is_cancelled() {
                let to = route.load(Ordering::SeqCst);
                if connection.as_ref().is_none_or(|(at, _)| *at != to) {
                    connection = None;
                    if to >= 0
                        && let Ok(open) = connect(ports[&name(to as usize)]).await
                    {
                        connection = Some((to, open));
                    }
                }
                let Some((_, open)) = &mut connection else {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                };
                next += 1;
                let attempt = async {
                    let _: () = open.set(format!("w{next}"), next).await?;
                    redis::cmd("WAIT")
                        .arg(1)
                        .arg(300)
                        .query_async::<i64>(open)
                        .await
                };
                match tokio::time::timeout(Duration::from_millis(600), attempt).await {
                    Ok(Ok(replicas)) if replicas >= 1 => {
                        list.lock().unwrap().push(next);
                        gap.fetch_max(last.elapsed().as_millis() as usize, Ordering::SeqCst);
                        last = Instant::now();
                    }
                    Ok(Ok(_)) => {}
                    _ => {
                        connection = None;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            }
        });
        Self {
            confirmed,
            longest,
            end,
            task,
        }
    }

    fn gap(&self) -> usize {
        self.longest.swap(0, Ordering::SeqCst)
    }
}

async fn connect(port: i32) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    use redis::IntoConnectionInfo;
    let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), port as u16);
    let settings =
        redis::RedisConnectionInfo::default().set_password(upm_unit_agent::rig::PASSWORD);
    redis::Client::open(address.into_connection_info()?.set_redis_settings(settings))?
        .get_multiplexed_async_connection()
        .await
}

async fn nothing_missing(rig: &Rig, looper: &Loop, writer: Writer) {
    let begun = Instant::now();
    while writer.confirmed.lock().unwrap().len() <= 100 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writer.end.cancel();
    writer.task.await.unwrap();
    let mut open = rig.user(primary(looper)).await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut open)
        .await
        .unwrap();
    let held: BTreeSet<u64> = keys
        .iter()
        .filter_map(|key| key.strip_prefix('w')?.parse().ok())
        .collect();
    let confirmed = writer.confirmed.lock().unwrap().clone();
    let lost: Vec<_> = confirmed
        .iter()
        .filter(|write| !held.contains(write))
        .collect();
    println!(
        "{} confirmed writes, {} keys, {} lost",
        confirmed.len(),
        held.len(),
        lost.len()
    );
    assert!(confirmed.len() > 100);
    assert!(lost.is_empty(), "confirmed writes are missing: {lost:?}");
}

fn primary(looper: &Loop) -> usize {
    looper
        .state
        .primary
        .as_deref()
        .unwrap()
        .strip_prefix("redis-")
        .unwrap()
        .parse()
        .unwrap()
}

/// A switchover. One that is refused because a member was slow just then, or was overtaken by an election, is asked for again.
async fn switch_over(looper: &mut Loop, round: usize) -> Duration {
    const SLOW: [&str; 5] = [
        "TargetNotReachable",
        "TargetNotSynchronized",
        "TargetTooSlow",
        "OtherMemberElected",
        "StaleEpoch",
    ];
    for attempt in 0..10 {
        let id = format!("switchover-{round}-{attempt}");
        let target = if round == 0 {
            String::new()
        } else {
            name((primary(looper) + 1) % 3)
        };
        looper.group.request = Some(Request {
            id: id.clone(),
            target,
            expected_epoch: Some(looper.state.epoch),
        });
        let took = looper.until_healthy("switchover").await;
        let last = looper.state.last.clone().unwrap_or_default();
        assert_eq!(last.id, id);
        if last.succeeded {
            return took;
        }
        println!("switchover: {}", looper.outcome);
        assert!(
            SLOW.contains(&looper.outcome.as_str()),
            "{}",
            looper.outcome
        );
    }
    panic!("no switchover was done: {}", looper.outcome);
}

/// A kill takes what is not in the append-only file yet, and elections refuse such a member, rightly.
async fn whole(rig: &Rig) {
    for index in 0..rig.units.len() {
        rig.until_whole(index).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loses_no_confirmed_write_through_switchovers_kills_freezes_and_a_full_outage() {
    let mut rig = Rig::new(3);
    let mut looper = Loop::new(&rig, 3);
    println!("set up in {:?}", looper.until_healthy("set up").await);
    let writer = Writer::start(looper.ports.clone(), looper.route.clone());
    let pause = || tokio::time::sleep(Duration::from_millis(700));
    pause().await;
    writer.gap();

    for round in 0..3 {
        let took = switch_over(&mut looper, round).await;
        pause().await;
        println!(
            "switchover: healthy after {took:?}, gap {} ms",
            writer.gap()
        );
    }

    whole(&rig).await;
    rig.signal(primary(&looper), Signal::SIGKILL).await;
    let took = looper.until_healthy("kill").await;
    pause().await;
    println!(
        "primary's process killed: healthy after {took:?}, gap {} ms",
        writer.gap()
    );

    whole(&rig).await;
    let frozen = rig.pid(primary(&looper)).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(frozen), Signal::SIGSTOP).unwrap();
    let took = looper.until_healthy("freeze").await;
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(frozen), Signal::SIGCONT);
    pause().await;
    println!(
        "primary's process frozen: healthy after {took:?}, gap {} ms",
        writer.gap()
    );

    let index = primary(&looper);
    rig.stop(index).await;
    for _ in 0..20 {
        looper.turn().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rig.start(index);
    let took = looper.until_healthy("pod").await;
    pause().await;
    println!(
        "primary's pod ended and came back after 2 s: healthy after {took:?}, gap {} ms",
        writer.gap()
    );

    whole(&rig).await;
    for index in 0..3 {
        rig.signal(index, Signal::SIGKILL).await;
    }
    let took = looper.until_healthy("full outage").await;
    pause().await;
    println!(
        "all three processes killed: healthy after {took:?}, gap {} ms",
        writer.gap()
    );

    // the controller dies between any two steps of a switchover: the next one begins from what it sees
    for steps in 1..6 {
        let id = format!("interrupted-{steps}");
        looper.group.request = Some(Request {
            id,
            target: String::new(),
            expected_epoch: Some(looper.state.epoch),
        });
        for _ in 0..steps {
            looper.turn().await;
        }
        looper.memory = Memory::default();
        looper.answered.clear();
    }
    looper.until_healthy("interrupted switchovers").await;
    pause().await;
    println!("interrupted switchovers: gap {} ms", writer.gap());
    nothing_missing(&rig, &looper, writer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_told() {
    let rig = Rig::new(1);
    let mut looper = Loop::new(&rig, 1);
    looper.until_healthy("one member").await;
    for target in looper.targets.values_mut() {
        target.host = "redis.example.com".to_owned();
    }
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut seen = looper.agents.observe(&looper.targets, &[]).await;
            let status = seen.remove(&name(0)).unwrap().unwrap_err();
            if let Some(told) = distrust(&status) {
                return told;
            }
        }
    });
    let told = told.await.expect("it is told");
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_and_shrinks() {
    let rig = Rig::new(3);
    let mut looper = Loop::new(&rig, 1);
    looper.until_healthy("one member").await;
    let mut open = rig.user(0).await.unwrap();
    let _: () = open.set("k", "v").await.unwrap();
    let whole = Loop::new(&rig, 3);
    (looper.group.members, looper.targets, looper.ports) =
        (whole.group.members, whole.targets, whole.ports);
    looper.until_healthy("three members").await;
    // the first one, unless it was so slow that another was elected
    let leader = primary(&looper);
    let [stays, leaves] = [1, 2].map(|step| (leader + step) % 3);
    assert_eq!(
        looper.state.ackers,
        BTreeSet::from([name(stays), name(leaves)])
    );
    rig.until(leader, "writes need a replica now", |seen| {
        seen.min_replicas_to_write == 1
    })
    .await;

    looper.group.members.get_mut(&name(leaves)).unwrap().removed = true;
    let begun = Instant::now();
    while looper.state.ackers.contains(&name(leaves)) {
        looper.turn().await;
        assert!(begun.elapsed() < PATIENCE, "{:?}", looper.state);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = rig
        .until(leaves, "it is parked", |seen| {
            seen.grant() == upm_proto::unit::v1::RedisGrant::Parked
        })
        .await;
    assert!(left.promised_epoch > looper.state.epoch);
    looper.group.members.remove(&name(leaves));
    looper.targets.remove(&name(leaves));
    looper.until_healthy("two members").await;
    let mut open = rig.user(primary(&looper)).await.unwrap();
    let _: () = open.set("k", "w").await.unwrap();
}
