//! `upm log …`.

use anyhow::Context as _;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use clap::Subcommand;
use comfy_table::Table;
use upm_proto::operatorlog::v1::{
    Entry, GetEntryRequest, ListEntriesRequest, ListEntriesResponse, TailEntriesRequest,
    VerifyEntriesRequest, VerifyEntriesResponse,
    operator_log_service_client::OperatorLogServiceClient,
};

use super::{
    Globals,
    output::{self, Format},
};

/// The operation log: who did what.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the newest entries.
    List {
        /// Filter, for example `principal=users/ada AND event_time>="2026-01-31T12:00:00Z"`.
        #[arg(long, default_value = "")]
        filter: String,
        /// How many.
        #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
        limit: i32,
    },
    /// Show one entry with its request and what changed.
    Get {
        /// Its id.
        entry: String,
    },
    /// Show entries as they come.
    Tail {
        /// Filter, as in `list`.
        #[arg(long, default_value = "")]
        filter: String,
        /// Begin after this sequence number; from now on when left out.
        #[arg(long, default_value_t = 0)]
        after: i64,
    },
    /// Check the hash chain. Note the head elsewhere, as SEQUENCE:HASH: with it you can prove later that nothing was changed or cut off.
    Verify {
        /// A head that was noted before, SEQUENCE:HASH; the log up to there must still end with it.
        #[arg(long, conflicts_with_all = ["first", "last"])]
        noted: Option<Noted>,
        /// The log's public key (64 hexadecimal digits), which was noted before: the end of the log must be signed with it.
        #[arg(long, value_name = "HEX", conflicts_with_all = ["last", "noted"])]
        key: Option<String>,
        /// First sequence number.
        #[arg(long, default_value_t = 0)]
        first: i64,
        /// Last sequence number; the newest when left out.
        #[arg(long, default_value_t = 0)]
        last: i64,
    },
}

/// A head of the log: the sequence number of its last entry, and that entry's hash (64 hexadecimal digits).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    sequence: i64,
    hash: String,
}

impl std::str::FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(sequence, hash)| {
            let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0)?;
            let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            is_hash.then(|| Self {
                sequence,
                hash: hash.to_ascii_lowercase(),
            })
        });
        parsed.ok_or_else(|| "must be SEQUENCE:HASH".to_owned())
    }
}

/// Why a log that was verified is not the one that was noted; nothing when it is.
fn differs(noted: &Noted, verdict: &VerifyEntriesResponse) -> Option<String> {
    if !verdict.intact {
        return None;
    }
    if verdict.checked < noted.sequence {
        let left = verdict.checked;
        return Some(format!(
            "it had {} entries and has {left}: its end was cut off",
            noted.sequence
        ));
    }
    (verdict.head_hash != noted.hash)
        .then(|| format!("entry {} is another one than was noted", noted.sequence))
}

/// Why the end of a log that was verified is not signed with a key; nothing when it is.
fn unsigned(key: &str, verdict: &VerifyEntriesResponse) -> Option<String> {
    if verdict.signed_head.is_empty() {
        return Some("its end is not signed".to_owned());
    }
    let (Ok(key), Ok(signature)) = (hex::decode(key), hex::decode(&verdict.head_signature)) else {
        return Some("the key or the signature is not hexadecimal".to_owned());
    };
    let text = format!("upm operation log {}", verdict.signed_head);
    UnparsedPublicKey::new(&ED25519, key)
        .verify(text.as_bytes(), &signature)
        .is_err()
        .then(|| {
            format!(
                "its end, {}, is signed with another key",
                verdict.signed_head
            )
        })
}

const ENTRY: &str = "upm.operatorlog.v1.Entry";

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let mut client = OperatorLogServiceClient::new(globals.open_fresh().await?);
    match command {
        Command::List { filter, limit } => {
            let request = ListEntriesRequest {
                filter,
                page_size: limit,
                page_token: String::new(),
            };
            let page = client.list_entries(request).await?.into_inner();
            let newest = ListEntriesResponse {
                entries: page.entries,
                next_page_token: String::new(),
            };
            let full_name = "upm.operatorlog.v1.ListEntriesResponse";
            output::print(globals.output, full_name, &newest, |newest| {
                rows(&newest.entries)
            })
        }
        Command::Get { entry } => {
            let request = GetEntryRequest {
                name: format!("operatorLog/entries/{}", output::id(&entry)),
            };
            let found = client.get_entry(request).await?.into_inner();
            output::print(globals.output, ENTRY, &found, details)
        }
        Command::Tail { filter, after } => {
            let request = TailEntriesRequest {
                after_sequence: after,
                filter,
            };
            let mut entries = client.tail_entries(request).await?.into_inner();
            while let Some(entry) = entries.message().await.context("the log ended")? {
                match globals.output {
                    Format::Table => output::line(&line(&entry))?,
                    Format::Json | Format::Yaml => {
                        output::print(globals.output, ENTRY, &entry, details)?;
                    }
                }
            }
            Ok(())
        }
        Command::Verify {
            noted,
            key,
            first,
            last,
        } => {
            let request = VerifyEntriesRequest {
                first_sequence: first,
                last_sequence: noted.as_ref().map_or(last, |noted| noted.sequence),
            };
            let verdict = client.verify_entries(request).await?.into_inner();
            let full_name = "upm.operatorlog.v1.VerifyEntriesResponse";
            output::print(globals.output, full_name, &verdict, |verdict| {
                let mut table =
                    output::table(["INTACT", "CHECKED", "HEAD HASH", "SIGNED BY", "PROBLEM"]);
                let problem = match verdict.broken_sequence {
                    0 => "-".to_owned(),
                    at => format!("entry {at}: {}", verdict.problem),
                };
                table.add_row([
                    if verdict.intact { "yes" } else { "no" }.to_owned(),
                    verdict.checked.to_string(),
                    verdict.head_hash.clone(),
                    match verdict.public_key.as_str() {
                        "" => "-".to_owned(),
                        key => key.to_owned(),
                    },
                    problem,
                ]);
                table
            })?;
            anyhow::ensure!(verdict.intact, "the log was changed: {}", verdict.problem);
            if let Some(problem) = key.and_then(|key| unsigned(&key, &verdict)) {
                anyhow::bail!("the log may have been changed: {problem}");
            }
            match noted.and_then(|noted| differs(&noted, &verdict)) {
                Some(problem) => anyhow::bail!("the log was changed: {problem}"),
                None => Ok(()),
            }
        }
    }
}

/// `upm.redis.v1.RedisServices/CreateRedisService` without what is the same in all.
fn method(entry: &Entry) -> &str {
    output::id(&entry.method)
}

fn result(entry: &Entry) -> String {
    if entry.code == 0 {
        return "OK".to_owned();
    }
    let code = tonic::Code::from(entry.code);
    if entry.reason.is_empty() {
        format!("{code:?}")
    } else {
        entry.reason.clone()
    }
}

fn principal(entry: &Entry) -> &str {
    match entry.principal.as_str() {
        "" => "-",
        known => known,
    }
}

fn line(entry: &Entry) -> String {
    format!(
        "{} {} {} {} {}",
        entry.sequence,
        principal(entry),
        method(entry),
        entry.resource,
        result(entry)
    )
}

fn rows(entries: &[Entry]) -> Table {
    let header = [
        "SEQUENCE",
        "AGE",
        "PRINCIPAL",
        "METHOD",
        "RESOURCE",
        "RESULT",
        "ENTRY",
    ];
    let mut table = output::table(header);
    for entry in entries {
        table.add_row([
            entry.sequence.to_string(),
            output::age(entry.event_time.as_ref()),
            principal(entry).to_owned(),
            method(entry).to_owned(),
            entry.resource.clone(),
            result(entry),
            output::id(&entry.name).to_owned(),
        ]);
    }
    table
}

fn details(entry: &Entry) -> Table {
    let mut table = output::table(["FIELD", "VALUE"]);
    for (field, value) in [
        ("sequence", entry.sequence.to_string()),
        ("principal", principal(entry).to_owned()),
        ("address", entry.source_address.clone()),
        ("method", entry.method.clone()),
        ("resource", entry.resource.clone()),
        ("result", result(entry)),
        ("request", entry.request.clone()),
        ("diff", entry.diff.clone()),
        ("trace", entry.trace_id.clone()),
        ("hash", entry.hash.clone()),
    ] {
        table.add_row([field.to_owned(), value]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noted_head_shows_a_cut_and_a_changed_log() {
        let hash = "0a".repeat(32);
        let noted: Noted = format!("7:{}", hash.to_uppercase()).parse().unwrap();
        let verdict = |checked, head_hash: &str| VerifyEntriesResponse {
            intact: true,
            checked,
            head_hash: head_hash.to_owned(),
            ..VerifyEntriesResponse::default()
        };
        assert_eq!(differs(&noted, &verdict(7, &hash)), None);
        let cut = differs(&noted, &verdict(5, &hash)).unwrap();
        assert!(cut.contains("cut off"), "{cut}");
        let other = differs(&noted, &verdict(7, &"0b".repeat(32))).unwrap();
        assert!(other.contains("another one"), "{other}");
        for bad in ["", "7", "7:", "0:aa", "x:y", &format!("-1:{hash}")] {
            assert!(bad.parse::<Noted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_that_another_key_signed_is_told() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = |seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = |seed| hex::encode(pair(seed).public_key().as_ref());
        let signed_head = format!("7:{}", "0a".repeat(32));
        let text = format!("upm operation log {signed_head}");
        let verdict = VerifyEntriesResponse {
            intact: true,
            head_signature: hex::encode(pair(1).sign(text.as_bytes()).as_ref()),
            signed_head,
            ..VerifyEntriesResponse::default()
        };
        assert_eq!(unsigned(&public(1), &verdict), None);
        assert!(unsigned(&public(2), &verdict).unwrap().contains("another"));
        assert!(unsigned("xyz", &verdict).is_some());
        let nobody = VerifyEntriesResponse::default();
        assert!(
            unsigned(&public(1), &nobody)
                .unwrap()
                .contains("not signed")
        );
    }

    #[test]
    fn an_entry_is_one_line_with_who_what_and_how_it_ended() {
        let entry = Entry {
            sequence: 7,
            principal: "users/ada".into(),
            method: "/upm.redis.v1.RedisServices/CreateRedisService".into(),
            resource: "projects/p/redisServices/s".into(),
            ..Entry::default()
        };
        assert_eq!(
            line(&entry),
            "7 users/ada CreateRedisService projects/p/redisServices/s OK"
        );
        let refused = Entry {
            principal: String::new(),
            code: 7,
            reason: "PERMISSION_DENIED".into(),
            ..entry
        };
        assert!(line(&refused).starts_with("7 - "), "{}", line(&refused));
        assert!(line(&refused).ends_with("PERMISSION_DENIED"));
    }
}
