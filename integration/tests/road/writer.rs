//! A client that writes through the `-readwrite` service and remembers every write that `WAIT 1` confirmed.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    kubectl::{Kubectl, eventually},
    members_writer::MembersWriter,
    pulse::Pulse,
    service::{HEALING, Service},
    world::World,
};

/// How long one command of the writer may take.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a command may take whose answer is what counts.
const PATIENT: Duration = Duration::from_secs(60);

/// Where a service is and how to log in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kubectl: Kubectl,
    pub(crate) project: String,
    pub(crate) service: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) password: String,
}

impl Target {
    /// The `-readwrite` service of a Redis service; this machine reaches ClusterIPs.
    pub(crate) fn readwrite(world: &World, project: &str, service: &str) -> Self {
        let name = format!("{service}-readwrite");
        let object = world.kubectl.get(&["service", &name, "-n", project]);
        let host = object["spec"]["clusterIP"]
            .as_str()
            .expect("a ClusterIP")
            .to_owned();
        let port = object["spec"]["ports"][0]["port"].as_u64().expect("a port") as u16;
        let path = format!("/v1/projects/{project}/redisServices/{service}:getPassword");
        let answer = world
            .api()
            .call("POST", &path, Some(&serde_json::json!({})))
            .ok();
        let password = answer["password"].as_str().expect("a password").to_owned();
        Self {
            kubectl: world.kubectl.clone(),
            project: project.to_owned(),
            service: service.to_owned(),
            host,
            port,
            password,
        }
    }

    /// The same service at the address of one of its members.
    pub(crate) fn at(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let address = format!("redis://{}:{}", self.host, self.port);
        let info = redis::IntoConnectionInfo::into_connection_info(address)?;
        let settings = info
            .redis_settings()
            .clone()
            .set_password(self.password.as_str());
        let client = redis::Client::open(info.set_redis_settings(settings))?;
        let connection = client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    /// Connects to the primary as soon as it is possible. Where a member that was the primary is still on the route, writes are refused.
    pub(crate) fn connect_within(&self, limit: Duration) -> redis::Connection {
        eventually("a connection to the primary", limit, || {
            let connect = || -> redis::RedisResult<redis::Connection> {
                let mut connection = self.connect()?;
                connection.set_read_timeout(Some(PATIENT))?;
                connection.set_write_timeout(Some(PATIENT))?;
                let () = redis::cmd("SET")
                    .arg("connected")
                    .arg(1)
                    .query(&mut connection)?;
                Ok(connection)
            };
            connect().map_err(|error| error.to_string())
        })
    }
}

/// What a writer has seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Numbers of confirmed writes.
    pub(crate) confirmed: Vec<u64>,
    /// The longest time between two confirmed writes through the Service, without the time in which this machine stood still.
    pub(crate) longest_gap: Duration,
    /// The longest time in which no member confirmed a write, whoever it is.
    pub(crate) longest_gap_at_members: Duration,
    /// Writes that failed or were not confirmed.
    pub(crate) failed: u64,
}

/// Writes until it is told to stop.
pub(crate) struct Writer {
    target: Target,
    prefix: String,
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    thread: JoinHandle<Report>,
    members: MembersWriter,
}

impl Writer {
    /// Starts writing under a prefix of its own, and waits until writes are confirmed.
    pub(crate) fn start(target: Target, prefix: &str) -> Self {
        let (stop, confirmed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = {
            let (target, prefix, stop, confirmed) = (
                target.clone(),
                prefix.to_owned(),
                stop.clone(),
                confirmed.clone(),
            );
            thread::spawn(move || write(&target, &prefix, &stop, &confirmed))
        };
        let members = MembersWriter::start(&target, prefix);
        let writer = Self {
            target,
            members,
            prefix: prefix.to_owned(),
            stop,
            confirmed,
            thread,
        };
        writer.goes_on(100, HEALING);
        writer
    }

    /// Waits until so many more writes are confirmed.
    pub(crate) fn goes_on(&self, more: u64, limit: Duration) {
        let (begin, enough) = (Instant::now(), self.confirmed.load(Ordering::SeqCst) + more);
        while self.confirmed.load(Ordering::SeqCst) < enough {
            assert!(
                begin.elapsed() < limit,
                "{}: fewer than {more} writes were confirmed in {} s",
                self.prefix,
                limit.as_secs()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Goes on until writes are confirmed again, then stops, reads every confirmed write back from the primary, and says what is
    /// missing: nothing.
    pub(crate) fn finish(self, what: &str) -> Report {
        self.goes_on(200, HEALING);
        self.stop.store(true, Ordering::SeqCst);
        let mut report = self.thread.join().expect("the writer does not panic");
        let at_members = self.members.finish();
        report.longest_gap_at_members = at_members.longest_gap;
        let mut written: Vec<(String, u64)> = report
            .confirmed
            .iter()
            .map(|number| (format!("{}:{number}", self.prefix), *number))
            .collect();
        written.extend(at_members.confirmed);
        let missing = missing(&self.target, &written);
        say(&format!(
            "{what}: {} confirmed writes through the Service and {} at the members, {} not confirmed, longest gap {} ms and {} ms, {} missing",
            report.confirmed.len(),
            written.len() - report.confirmed.len(),
            report.failed,
            report.longest_gap.as_millis(),
            report.longest_gap_at_members.as_millis(),
            missing.len()
        ));
        assert!(
            missing.is_empty(),
            "{what}: confirmed writes are missing: {missing:?}"
        );
        report
    }
}

/// Reads keys back from the primary; those that do not have their value.
fn missing<'a>(target: &Target, written: &'a [(String, u64)]) -> Vec<&'a str> {
    let mut connection = target.connect_within(HEALING);
    let mut missing = Vec::new();
    for chunk in written.chunks(500) {
        let keys: Vec<&str> = chunk.iter().map(|(key, _)| key.as_str()).collect();
        let values: Vec<Option<u64>> = redis::cmd("MGET")
            .arg(&keys)
            .query(&mut connection)
            .expect("read the writes back");
        let wrong = chunk
            .iter()
            .zip(values)
            .filter(|((_, number), value)| *value != Some(*number));
        missing.extend(wrong.map(|((key, _), _)| key.as_str()));
    }
    missing
}

/// Disturbs a service under a writer; afterwards it is well again and no confirmed write is missing.
pub(crate) fn through(
    service: &Service<'_>,
    what: &str,
    disturb: impl FnOnce(&Service<'_>),
) -> Report {
    let writer = Writer::start(service.target(), what);
    disturb(service);
    writer.goes_on(200, HEALING);
    service.heals(HEALING);
    writer.finish(what)
}

/// Prints a line also when the test passes: measured times are part of what a test run shows.
pub(crate) fn say(line: &str) {
    // A closed standard error is no failure of the test.
    writeln!(std::io::stderr().lock(), "    {line}").ok();
}

fn write(target: &Target, prefix: &str, stop: &AtomicBool, count: &AtomicU64) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    let pulse = Pulse::start();
    let (mut last, mut stood) = (Instant::now(), pulse.stood_still());
    let mut number = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let key = format!("{prefix}:{number}");
        if let Ok((open, replicas)) = set_and_wait(target, connection.take(), &key, number) {
            connection = Some(open);
            if 1 <= replicas {
                report.confirmed.push(number);
                count.fetch_add(1, Ordering::SeqCst);
                let still = pulse.stood_still();
                let gap = last.elapsed().saturating_sub(still.saturating_sub(stood));
                report.longest_gap = report.longest_gap.max(gap);
                (last, stood) = (Instant::now(), still);
            } else {
                report.failed += 1;
            }
        } else {
            // The connection is given up: what was in flight on it is not confirmed.
            report.failed += 1;
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(2));
    }
    report
}

/// One write on an open connection or a new one; how many replicas have it.
fn set_and_wait(
    target: &Target,
    open: Option<redis::Connection>,
    key: &str,
    number: u64,
) -> redis::RedisResult<(redis::Connection, i64)> {
    let mut open = match open {
        Some(open) => open,
        None => target.connect()?,
    };
    let (written, replicas): (String, i64) = redis::pipe()
        .cmd("SET")
        .arg(key)
        .arg(number)
        .cmd("WAIT")
        .arg(1)
        .arg(1000)
        .query(&mut open)?;
    // A write that was refused is not made good by an old one that `WAIT` counts.
    let replicas = if written == "OK" { replicas } else { 0 };
    Ok((open, replicas))
}
