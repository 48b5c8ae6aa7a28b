//! Load of two kinds, every answer checked: a closed loop, with the CPU time that the gateway needs for it, and an open one at a rate that does not
//! wait for answers; and connections that do nothing.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpStream, task::JoinSet};

use super::{
    case::{self, Case},
    process,
};

/// Connections of HTTP/1.1, each with one request at a time.
const ONE: usize = 32;
/// Connections of HTTP/2, and the requests on each at a time.
const TWO: (usize, usize) = (4, 16);
/// The most requests that an open loop has under way; further ones are late, and that is counted.
const OPEN: usize = 64;

type Failure = Box<dyn Error + Send + Sync>;

/// Loads for so many seconds after a second of warming up; prints `requests seconds cpu_us_per_request rss_kib p50_us p99_us`.
pub(super) async fn run(
    address: SocketAddr,
    name: &str,
    seconds: u64,
    pid: u32,
    token: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let case = Arc::new(case::case(name, token).ok_or("no such case")?);
    round(address, &case, Duration::from_secs(1)).await?;
    let (cpu, begun) = (process::cpu(pid)?, Instant::now());
    let mut times = round(address, &case, Duration::from_secs(seconds)).await?;
    let (used, took) = (process::cpu(pid)?.saturating_sub(cpu), begun.elapsed());
    times.sort_unstable();
    let at = |part| percentile(&times, part);
    println!(
        "{} {:.2} {:.2} {} {} {}",
        times.len(),
        took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / times.len() as f64,
        process::resident(pid)?,
        at(50),
        at(99),
    );
    Ok(())
}

async fn round(
    address: SocketAddr,
    case: &Arc<Case>,
    time: Duration,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    let (clients, width) = if case.http2 { TWO } else { (ONE, 1) };
    for _ in 0..clients {
        if case.http2 {
            let sender = http2(address).await?;
            for _ in 0..width {
                let (mut sender, case) = (sender.clone(), case.clone());
                tasks.spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let begun = Instant::now();
                        let response = sender.send_request(case.request(address)?).await?;
                        case.check(response).await?;
                        times.push(begun.elapsed());
                    }
                    Ok::<_, Failure>(times)
                });
            }
        } else {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let case = case.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let begun = Instant::now();
                    let response = client.request(case.request(address)?).await?;
                    case.check(response).await?;
                    times.push(begun.elapsed());
                }
                Ok(times)
            });
        }
    }
    finished(tasks).await
}

/// Sends at a steady rate for so many seconds, after a second of warming up; prints `requests p50_us p99_us`, counted from when a request was due.
pub(super) async fn open(
    address: SocketAddr,
    name: &str,
    seconds: u32,
    rate: u32,
    token: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let case = Arc::new(case::case(name, token).ok_or("no such case")?);
    let rate = rate.max(1);
    steady(address, &case, rate, rate).await?;
    let mut times = steady(address, &case, rate, rate * seconds).await?;
    times.sort_unstable();
    println!(
        "{} {} {}",
        times.len(),
        percentile(&times, 50),
        percentile(&times, 99)
    );
    Ok(())
}

async fn steady(
    address: SocketAddr,
    case: &Arc<Case>,
    rate: u32,
    count: u32,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let (next, begun) = (Arc::new(AtomicU32::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    if case.http2 {
        for _ in 0..TWO.0 {
            connections.push(http2(address).await?);
        }
    }
    for index in 0..OPEN {
        let (case, next) = (case.clone(), next.clone());
        let mut sender = match connections.len() {
            0 => None,
            all => Some(connections[index % all].clone()),
        };
        tasks.spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            let mut times = Vec::new();
            loop {
                let ticket = next.fetch_add(1, Ordering::Relaxed);
                if ticket >= count {
                    return Ok::<_, Failure>(times);
                }
                let due = begun + Duration::from_secs(1) * ticket / rate;
                tokio::time::sleep_until(due.into()).await;
                let request = case.request(address)?;
                let response = match &mut sender {
                    Some(sender) => sender.send_request(request).await?,
                    None => client.request(request).await?,
                };
                case.check(response).await?;
                times.push(due.elapsed());
            }
        });
    }
    finished(tasks).await
}

/// Opens connections, makes one request on each, and leaves them open; prints the resident memory of the gateway in KiB before and then.
pub(super) async fn idle(
    address: SocketAddr,
    count: usize,
    pid: u32,
) -> Result<(), Box<dyn Error>> {
    let case = case::case("get", None).ok_or("no such case")?;
    let before = process::resident(pid)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = case.request(address)?;
        request
            .headers_mut()
            .insert(http::header::HOST, address.to_string().parse()?);
        let response = sender.send_request(request).await?;
        case.check(response)
            .await
            .map_err(|error| error.to_string())?;
        connections.push(sender);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("{before} {}", process::resident(pid)?);
    drop(connections);
    Ok(())
}

async fn http2(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Box<dyn Error>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn finished(
    mut tasks: JoinSet<Result<Vec<Duration>, Failure>>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut all = Vec::new();
    while let Some(times) = tasks.join_next().await {
        all.extend(times?.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// Of sorted times, in microseconds.
fn percentile(times: &[Duration], part: usize) -> u128 {
    times
        .get(times.len() * part / 100)
        .map_or(0, Duration::as_micros)
}
