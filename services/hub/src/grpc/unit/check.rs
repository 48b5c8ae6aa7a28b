//! What a request about a unit must be.

use crate::{Error, ledger::write::is_name};

/// Words of a command, and bytes of all of them: they travel in the address of a request to the API server.
const WORDS: usize = 256;
const COMMAND: usize = 16 * 1024;
/// Bytes of a path, as Linux has it.
const PATH: usize = 4096;
/// Bytes of a part of a stream.
const PART: usize = 64 * 1024;

/// A pod with its namespace.
pub(super) fn pod(namespace: &str, pod: &str) -> Result<(), Error> {
    if is_name(namespace) && is_name(pod) {
        Ok(())
    } else {
        Err(Error::field(
            "pod",
            "namespace and pod are required, as names",
        ))
    }
}

/// A command; its program.
pub(super) fn command(words: &[String]) -> Result<&str, Error> {
    let bytes = words.iter().map(String::len).sum::<usize>();
    match words.first() {
        Some(program) if !program.is_empty() && words.len() <= WORDS && bytes <= COMMAND => {
            Ok(program)
        }
        _ => Err(Error::field(
            "start.command",
            "must be a program with its arguments, at most 256, and at most 16 KiB",
        )),
    }
}

/// A path of a file.
pub(super) fn path(path: &str) -> Result<(), Error> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    let fine = path.len() <= PATH
        && !path.contains('\0')
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(plain));
    if fine {
        Ok(())
    } else {
        Err(Error::field(
            "path",
            "must be absolute, name a file, and be without `.` and `..`",
        ))
    }
}

/// Bytes of a part of a stream.
pub(super) fn part(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() <= PART {
        Ok(())
    } else {
        Err(Error::field("part", "must be at most 64 KiB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_says_where_it_leads() {
        for good in ["/a", "/var/lib/redis/dump.rdb", "/a b/.hidden", "/a..b"] {
            assert!(path(good).is_ok(), "{good}");
        }
        let long = format!("/{}", "x".repeat(PATH));
        for bad in [
            "", "/", "a", "./a", "/a/", "/a//b", "/a/../b", "/..", "/a/.", "/a\0", &long,
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_command_has_a_program_and_bounds() {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        assert_eq!(command(&words(&["ls", "-l", ""])).unwrap(), "ls");
        assert!(command(&[]).is_err());
        assert!(command(&words(&["", "x"])).is_err());
        assert!(command(&vec!["x".to_owned(); WORDS + 1]).is_err());
        assert!(command(&["x".repeat(COMMAND + 1)]).is_err());
    }

    #[test]
    fn a_pod_has_a_namespace_and_is_one_part_of_a_path() {
        assert!(pod("p", "demo-0").is_ok());
        for (namespace, name) in [
            ("", "x"),
            ("p", ""),
            ("p", "a/b"),
            ("p/../q", "x"),
            ("..", "x"),
            ("p", ".."),
            ("p", "x?follow=true"),
            ("p", "x#"),
            ("p", "%2e%2e"),
        ] {
            assert!(pod(namespace, name).is_err(), "{namespace} {name}");
        }
    }
}
