//! What is shown of a server's lines.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A server says again and again why its link does not come about; older words are about another attempt.
const LINK_WORDS: Duration = Duration::from_secs(10);

/// What a server said last about the link to its primary.
#[derive(Debug, Default)]
pub struct LinkWords(Mutex<Option<(Instant, String)>>);

impl LinkWords {
    /// Reads a line of the server's log.
    pub fn line(&self, line: &str) {
        if let Some(said) = link_error(line) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), said));
        }
    }

    /// The last words; empty when there were none for a while.
    pub fn last(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.as_ref()
            .filter(|(at, _)| at.elapsed() < LINK_WORDS)
            .map(|(_, text)| text.clone())
            .unwrap_or_default()
    }
}

/// Characters: enough for the reason, little enough for a status.
const LONGEST: usize = 300;
/// Directives whose values are secret.
const SECRET: [&str; 7] = [
    "requirepass",
    "masterauth",
    "masteruser",
    "user",
    "aclfile",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
];

/// The server's reason for ending, on one line: of a refused configuration the offending line and what is wrong with it, else the last
/// line. Values of secret directives are left out.
pub fn shown(lines: &[String]) -> String {
    let fatal = lines.iter().position(|line| line.contains("FATAL CONFIG"));
    let words: Vec<String> = match fatal {
        Some(at) => lines[at + 1..].iter().map(|line| mask(line)).collect(),
        None => lines
            .last()
            .map(|line| mask(message(line)))
            .into_iter()
            .collect(),
    };
    let mut words = words.join("; ");
    if let Some((end, _)) = words.char_indices().nth(LONGEST) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// What a line says about a link to the primary that does not come about; `None` for other lines.
fn link_error(line: &str) -> Option<String> {
    [
        "Unable to AUTH to MASTER",
        "Error condition on socket for SYNC",
        "Error reply to PING from master",
        "MASTER aborted replication with an error",
        "Timeout connecting to the MASTER",
        "Timeout receiving bulk data from MASTER",
        "Master is currently unable to PSYNC",
        "I/O error trying to sync with MASTER",
        "Can't handshake with MASTER",
    ]
    .iter()
    .any(|said| line.contains(said))
    .then(|| message(line).to_owned())
}

/// A log line without process id, role and time: `1:M 01 Dec 2026 01:02:03.004 # message`.
fn message(line: &str) -> &str {
    let marks = [" # ", " * ", " - ", " . "];
    marks
        .iter()
        .filter_map(|mark| line.find(mark).map(|at| &line[at + mark.len()..]))
        .max_by_key(|rest| rest.len())
        .unwrap_or(line)
}

/// The server quotes the line that it refuses: `>>> 'hz x'`.
fn mask(line: &str) -> String {
    let Some(quoted) = line.strip_prefix(">>> '") else {
        return line.to_owned();
    };
    let directive = quoted.split_whitespace().next().unwrap_or_default();
    if SECRET.contains(&directive.to_ascii_lowercase().trim_end_matches('\'')) {
        format!(">>> '{directive} …'")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn refused_configuration_is_told_with_its_line() {
        let said = lines(&[
            "7:C 01 Dec 2026 01:02:03.004 * oO0OoO0OoO0Oo Redis is starting",
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***",
            "Reading the configuration file, at line 12",
            ">>> 'hz 010x'",
            "argument couldn't be parsed into an integer",
        ]);
        assert_eq!(
            shown(&said),
            "Reading the configuration file, at line 12; >>> 'hz 010x'; argument couldn't be parsed into an integer"
        );
    }

    #[test]
    fn secret_values_are_not_quoted() {
        for secret in [
            "masterauth hunter2",
            "user default on >hunter2 ~*",
            "requirepass hunter2",
        ] {
            let quoted = format!(">>> '{secret}'");
            let said = lines(&["*** FATAL CONFIG FILE ERROR ***", quoted.as_str(), "wrong"]);
            assert!(!shown(&said).contains("hunter2"), "{}", shown(&said));
        }
    }

    #[test]
    fn words_about_the_link_are_found() {
        let line = "9:S 01 Dec 2026 01:02:03.004 # Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(
            link_error(line).as_deref(),
            Some(
                "Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair or user is disabled."
            )
        );
        assert_eq!(
            link_error("9:S 01 Dec 2026 * Ready to accept connections"),
            None
        );
    }

    #[test]
    fn other_ends_are_told_by_the_last_line_cut_to_fit() {
        let said =
            lines(&["7:M 01 Dec 2026 01:02:03.004 # Bad file format reading the append only file"]);
        assert_eq!(shown(&said), "Bad file format reading the append only file");
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&["é".repeat(1000)]).chars().count(), LONGEST + 1);
    }
}
