//! The answer of `INFO`, as far as the unit agent needs it. Pure.

use std::collections::HashMap;

/// The replication id of a server that has none.
pub const NO_REPLID: &str = "0000000000000000000000000000000000000000";

/// What the server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Changes with each start of the server.
    pub run_id: String,
    /// Its pid.
    pub process_id: i32,
    /// Its version.
    pub version: String,
    /// Whether it loads its data.
    pub loading: bool,
    /// Whether it is a master.
    pub master: bool,
    /// `master_replid`.
    pub replid: String,
    /// `master_replid2`.
    pub replid2: String,
    /// `second_repl_offset`.
    pub second_offset: i64,
    /// Bytes: of a master what it has written, of a replica what it has received and applied.
    pub offset: i64,
    /// Whether it keeps a backlog.
    pub backlog: bool,
    /// Whom a replica follows.
    pub primary_host: String,
    /// On which port.
    pub primary_port: i32,
    /// Whether the link is up.
    pub link_up: bool,
    /// Whether a full copy is under way.
    pub sync_in_progress: bool,
    /// Seconds since the last byte from the primary; -1 without a link.
    pub seconds_since_io: i64,
    /// The replicas of a master.
    pub replicas: Vec<Replica>,
    /// Keys in all databases.
    pub keys: i64,
    /// Whether the append-only file holds all data: on, not being made anew, last write and rewrite without an error.
    pub aof_current: bool,
    /// Whether the append-only file is written.
    pub append_only: bool,
    /// Whether the last write of the append-only file went well.
    pub append_ok: bool,
    /// Whether the append-only file is being made anew, or will be.
    pub rewriting: bool,
    /// How often making it anew was begun.
    pub rewrites: i64,
    /// Whether the last time went well.
    pub rewrite_ok: bool,
    /// Whether the last writes of both persistence files went well.
    pub persistence_healthy: bool,
    /// Bytes.
    pub used_memory: i64,
    /// Bytes; 0 for no limit.
    pub max_memory: i64,
}

/// A replica as its primary sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// The address it announced.
    pub host: String,
    /// The port it announced.
    pub port: i32,
    /// `online`, `wait_bgsave`, `send_bulk`.
    pub state: String,
    /// Bytes acknowledged.
    pub offset: i64,
    /// Seconds since the last acknowledgement.
    pub lag: i64,
}

/// Where a parked server follows to: nowhere.
pub const PARKED: (&str, i32) = ("127.0.0.1", 1);

impl Info {
    /// Reads the text of `INFO`.
    pub fn parse(text: &str) -> Self {
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim_end_matches('\r').split_once(':'))
            .collect();
        let word = |key: &str| fields.get(key).copied().unwrap_or_default();
        let number = |key: &str, absent: i64| {
            fields
                .get(key)
                .and_then(|value| value.parse().ok())
                .unwrap_or(absent)
        };
        let on = |key: &str| word(key) == "1";
        let master = word("role") == "master";
        // a replica without a cached link shows 1 as its own offset, although its data are those of the stream's offset
        let offset = number("master_repl_offset", 0);
        let offset = if master {
            offset
        } else {
            offset.max(number("slave_repl_offset", 0))
        };
        let loading = on("loading");
        let sync_in_progress = on("master_sync_in_progress");
        let append_ok = word("aof_last_write_status") != "err";
        let rewriting = on("aof_rewrite_in_progress") || on("aof_rewrite_scheduled");
        let rewrite_ok = word("aof_last_bgrewrite_status") == "ok";
        Self {
            run_id: word("run_id").to_owned(),
            process_id: number("process_id", 0) as i32,
            version: word("redis_version").to_owned(),
            loading,
            master,
            replid: word("master_replid").to_owned(),
            replid2: word("master_replid2").to_owned(),
            second_offset: number("second_repl_offset", -1),
            offset,
            backlog: on("repl_backlog_active"),
            primary_host: word("master_host").to_owned(),
            primary_port: number("master_port", 0) as i32,
            link_up: word("master_link_status") == "up",
            sync_in_progress,
            seconds_since_io: number("master_last_io_seconds_ago", -1),
            replicas: (0..)
                .map_while(|index| fields.get(format!("slave{index}").as_str()))
                .map(|line| Replica::parse(line))
                .collect(),
            keys: (0..1024)
                .filter_map(|index| fields.get(format!("db{index}").as_str()))
                .map(|line| keys(line))
                .sum(),
            aof_current: on("aof_enabled")
                && !rewriting
                && rewrite_ok
                && append_ok
                && !loading
                && !sync_in_progress,
            append_only: on("aof_enabled"),
            append_ok,
            rewriting,
            rewrites: number("aof_rewrites", 0),
            rewrite_ok,
            persistence_healthy: append_ok && word("rdb_last_bgsave_status") != "err",
            used_memory: number("used_memory", 0),
            max_memory: number("maxmemory", 0),
        }
    }

    /// Whether it follows nobody and takes no writes.
    pub fn parked(&self) -> bool {
        !self.master && (self.primary_host.as_str(), self.primary_port) == PARKED
    }

    /// Whether it follows this address.
    pub fn follows(&self, host: &str, port: i32) -> bool {
        !self.master && self.primary_host == host && self.primary_port == port
    }
}

impl Replica {
    fn parse(line: &str) -> Self {
        let fields: HashMap<&str, &str> = line
            .split(',')
            .filter_map(|field| field.split_once('='))
            .collect();
        let number = |key: &str| {
            fields
                .get(key)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0)
        };
        Self {
            host: fields.get("ip").copied().unwrap_or_default().to_owned(),
            port: number("port") as i32,
            state: fields.get("state").copied().unwrap_or_default().to_owned(),
            offset: number("offset"),
            lag: number("lag"),
        }
    }
}

fn keys(line: &str) -> i64 {
    line.split(',')
        .find_map(|field| field.strip_prefix("keys=")?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_master_with_replicas() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nprocess_id:7\r\nloading:0\r\nrole:master\r\nmaster_repl_offset:42\r\n\
             slave0:ip=redis-1.x.svc,port=6379,state=online,offset=40,lag=1\r\nmaster_replid:r1\r\nsecond_repl_offset:-1\r\n\
             aof_enabled:1\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_bgrewrite_status:ok\r\n\
             aof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\ndb0:keys=5,expires=0,avg_ttl=0\r\ndb3:keys=2,expires=1,avg_ttl=0\r\n",
        );
        assert!(info.master && info.aof_current && info.persistence_healthy && !info.parked());
        assert_eq!(
            (info.keys, info.offset, info.replid.as_str()),
            (7, 42, "r1")
        );
        let replica = &info.replicas[0];
        assert_eq!(
            (
                replica.host.as_str(),
                replica.state.as_str(),
                replica.offset
            ),
            ("redis-1.x.svc", "online", 40)
        );
    }

    #[test]
    fn takes_the_stream_offset_of_a_replica_that_lost_its_link() {
        let info = Info::parse(
            "role:slave\r\nslave_repl_offset:1\r\nmaster_repl_offset:99\r\nmaster_host:127.0.0.1\r\nmaster_port:1\r\n",
        );
        assert_eq!(info.offset, 99);
        assert!(info.parked());
    }

    #[test]
    fn does_not_call_a_file_current_that_is_being_made_anew() {
        let text = "role:slave\naof_enabled:1\naof_rewrite_in_progress:1\naof_rewrite_scheduled:0\naof_last_bgrewrite_status:ok\n";
        assert!(!Info::parse(text).aof_current);
    }
}
