//! What is shown of a server's last lines. Pure.

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
    fn other_ends_are_told_by_the_last_line_cut_to_fit() {
        let said =
            lines(&["7:M 01 Dec 2026 01:02:03.004 # Bad file format reading the append only file"]);
        assert_eq!(shown(&said), "Bad file format reading the append only file");
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&["é".repeat(1000)]).chars().count(), LONGEST + 1);
    }
}
