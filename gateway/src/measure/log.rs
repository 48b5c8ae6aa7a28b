//! The access log: a JSON object on a line for each request, written by a thread of its own. When the disk is slower than the requests,
//! lines are dropped and counted instead of requests being delayed.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{BufWriter, Write},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use upm_transcode::status::Code;

use super::Arrival;
use crate::{AccessLog, Error};

/// Lines that wait to be written.
const WAITING: usize = 16 * 1024;

/// Where the lines go.
pub(crate) struct Log {
    /// Nothing only while it is dropped.
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    dropped: AtomicU64,
}

/// One request.
pub(super) struct Line<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) method: &'a str,
    pub(super) status: u16,
    pub(super) code: Code,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) complete: bool,
}

impl Log {
    pub(crate) fn open(target: &AccessLog) -> Result<Self, Error> {
        let output: Box<dyn Write + Send> = match target {
            AccessLog::Stdout => Box::new(std::io::stdout()),
            AccessLog::File(path) => Box::new(
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|source| Error::File {
                        path: path.clone(),
                        source,
                    })?,
            ),
        };
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(output, &waiting))?;
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        let Some(lines) = &self.lines else { return };
        let dropped = self.dropped.load(Ordering::Relaxed);
        match lines.try_send(line.json(dropped)) {
            Ok(()) if dropped > 0 => {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The writer ends when it has written what waits.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
    }
}

fn write(output: Box<dyn Write + Send>, lines: &Receiver<String>) {
    let mut output = BufWriter::with_capacity(64 * 1024, output);
    while let Ok(line) = lines.recv() {
        let mut failed = output.write_all(line.as_bytes()).is_err();
        // What came meanwhile goes out with it.
        while let Ok(line) = lines.try_recv() {
            failed |= output.write_all(line.as_bytes()).is_err();
        }
        if failed | output.flush().is_err() {
            tracing::warn!("Could not write the access log");
        }
    }
}

impl Line<'_> {
    fn json(&self, dropped: u64) -> String {
        let mut text = String::with_capacity(256);
        let arrival = self.arrival;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{{\"time\":{}.{:03},\"address\":\"{}\",\"http\":\"{:?}\",\"verb\":\"",
            now.as_secs(),
            now.subsec_millis(),
            arrival.address,
            arrival.version,
        );
        escape(&mut text, arrival.method.as_str());
        text.push_str("\",\"path\":\"");
        escape(&mut text, &arrival.path);
        text.push_str("\",\"method\":\"");
        escape(&mut text, self.method);
        let _ = write!(
            text,
            "\",\"status\":{},\"code\":\"{}\",\"bytes\":{},\"ms\":{:.3}",
            self.status,
            self.code.name(),
            self.bytes,
            self.took.as_secs_f64() * 1e3,
        );
        if !arrival.trace.is_empty() {
            text.push_str(",\"trace\":\"");
            escape(&mut text, &arrival.trace);
            text.push('"');
        }
        if !self.complete {
            text.push_str(",\"aborted\":true");
        }
        if dropped > 0 {
            let _ = write!(text, ",\"linesDroppedBefore\":{dropped}");
        }
        text.push_str("}\n");
        text
    }
}

fn escape(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                out.push('\\');
                out.push(char);
            }
            char if char < ' ' => {
                let _ = write!(out, "\\u{:04x}", char as u32);
            }
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_line_is_one_json_object_whatever_the_path_holds() {
        let arrival = Arrival {
            at: Instant::now(),
            address: "192.0.2.1".parse().unwrap(),
            method: http::Method::GET,
            path: "/a\"b\\c\n{}".to_owned(),
            version: http::Version::HTTP_11,
            trace: "abc".to_owned(),
        };
        let line = Line {
            arrival: &arrival,
            method: "/a.B/C",
            status: 404,
            code: Code::NotFound,
            bytes: 7,
            took: Duration::from_micros(1500),
            complete: false,
        };
        let text = line.json(3);
        assert_eq!(text.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["path"], arrival.path);
        assert_eq!(
            (&read["ms"], &read["aborted"], &read["linesDroppedBefore"]),
            (&1.5.into(), &true.into(), &3.into())
        );
        assert_eq!(read["http"], "HTTP/1.1");
    }
}
