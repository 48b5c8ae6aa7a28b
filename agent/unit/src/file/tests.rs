use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::mpsc::channel,
};

use sha2::{Digest as _, Sha256};
use upm_proto::unit::v1::{FileDigest, FileFacts};

use super::*;

fn facts(size: Option<u64>, mode: u32) -> Frame {
    Frame::Facts(FileFacts { size, mode })
}

fn digest(bytes: &[u8]) -> Frame {
    Frame::Digest(FileDigest {
        sha256: Sha256::digest(bytes).to_vec().into(),
        size: bytes.len() as u64,
    })
}

fn data(bytes: &[u8]) -> Frame {
    Frame::Data(bytes.to_vec().into())
}

fn decoded(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.frame().unwrap()).collect()
}

/// Writes frames to a path; what it answered, and how it ended.
fn written(path: &Path, frames: Vec<Frame>) -> (Vec<Frame>, Result<(), Refusal>) {
    let bytes = frames.into_iter().flat_map(encode).collect::<Vec<_>>();
    let input = super::frames(io::Cursor::new(bytes));
    let mut out = Vec::new();
    let next = || next(&input, Duration::from_secs(10));
    let done = write::write(path.to_str().unwrap(), next, &mut out);
    (decoded(&out), done)
}

fn reason(done: Result<(), Refusal>) -> &'static str {
    done.unwrap_err().reason
}

struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        names.sort();
        names
    }
}

#[test]
fn a_file_is_read_as_it_is_with_its_size_mode_and_digest() {
    let folder = Folder::new();
    let path = folder.at("dump.rdb");
    let bytes = (0..200_000).map(|n| n as u8).collect::<Vec<_>>();
    fs::write(&path, &bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut out = Vec::new();
    read::read(path.to_str().unwrap(), &mut out).unwrap();
    let frames = decoded(&out);
    assert_eq!(frames[0], facts(Some(200_000), 0o640));
    assert_eq!(frames.last().unwrap(), &digest(&bytes));
    let all = frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Data(part) => Some(part.to_vec()),
            _ => None,
        })
        .flatten()
        .collect::<Vec<_>>();
    assert!(all == bytes);
}

#[test]
fn only_regular_files_with_an_absolute_path_are_read_or_written() {
    let folder = Folder::new();
    fs::create_dir(folder.at("folder")).unwrap();
    let pipe = folder.at("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    symlink(folder.at("nowhere"), folder.at("dangling")).unwrap();
    let read = |path: &Path| read::read(path.to_str().unwrap(), &mut Vec::new());
    let empty = || vec![facts(None, 0), digest(b"")];
    for (path, wanted) in [
        (folder.at("folder"), "FILE_NOT_REGULAR"),
        (pipe, "FILE_NOT_REGULAR"),
        (PathBuf::from("/dev/null"), "FILE_NOT_REGULAR"),
        (folder.at("dangling"), "FILE_NOT_FOUND"),
        (folder.at("missing/x"), "FILE_NOT_FOUND"),
        (PathBuf::from("relative"), "FILE_PATH_INVALID"),
        (folder.at("folder/../x"), "FILE_PATH_INVALID"),
    ] {
        assert_eq!(reason(read(&path)), wanted, "{}", path.display());
        assert_eq!(
            reason(written(&path, empty()).1),
            wanted,
            "{}",
            path.display()
        );
    }
    assert_eq!(reason(read(&folder.at("missing"))), "FILE_NOT_FOUND");
    assert_eq!(folder.names(), ["dangling", "folder", "pipe"]);
}

#[test]
fn a_new_file_has_the_mode_that_was_asked_for_and_a_replaced_one_keeps_its_own() {
    let folder = Folder::new();
    let path = folder.at("a");
    let (answers, done) = written(
        &path,
        vec![facts(None, 0o600), data(b"one"), digest(b"one")],
    );
    done.unwrap();
    assert_eq!(answers, [facts(None, 0o600), digest(b"one")]);
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let again = vec![
        facts(Some(3), 0o644),
        data(b"t"),
        data(b"wo"),
        digest(b"two"),
    ];
    written(&path, again).1.unwrap();
    assert_eq!((fs::read(&path).unwrap(), mode()), (b"two".to_vec(), 0o600));
    assert_eq!(folder.names(), ["a"]);
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    let folder = Folder::new();
    fs::write(folder.at("real"), "old").unwrap();
    symlink("real", folder.at("link")).unwrap();
    let frames = vec![facts(None, 0), data(b"new"), digest(b"new")];
    written(&folder.at("link"), frames).1.unwrap();
    assert!(folder.at("link").is_symlink());
    assert_eq!(fs::read(folder.at("real")).unwrap(), b"new");
}

#[test]
fn whatever_is_cut_or_wrong_leaves_the_old_file_and_no_rest() {
    let folder = Folder::new();
    let path = folder.at("a");
    fs::write(&path, "old").unwrap();
    for (frames, wanted) in [
        (vec![], "FILE_INCOMPLETE"),
        (vec![facts(None, 0)], "FILE_INCOMPLETE"),
        (vec![facts(None, 0), data(b"new")], "FILE_INCOMPLETE"),
        (
            vec![facts(None, 0), data(b"new"), digest(b"other")],
            "FILE_CHECKSUM_MISMATCH",
        ),
        (
            vec![facts(Some(4), 0), data(b"new"), digest(b"new")],
            "FILE_CHECKSUM_MISMATCH",
        ),
        (vec![data(b"new"), digest(b"new")], "FILE_IO"),
    ] {
        let shown = format!("{frames:?}");
        let (answers, done) = written(&path, frames);
        assert_eq!(reason(done), wanted, "{shown}");
        assert!(!answers.iter().any(|a| matches!(a, Frame::Digest(_))));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.names(), ["a"]);
    }
}

#[test]
fn a_sender_that_says_nothing_any_more_is_given_up() {
    let (_sender, silent) = channel();
    let given_up = next(&silent, Duration::from_millis(10));
    assert_eq!(given_up.unwrap_err().reason, "FILE_INCOMPLETE");
}

#[test]
fn two_writers_of_one_file_do_not_mix() {
    let folder = Folder::new();
    let path = folder.at("a");
    let frames = || vec![facts(None, 0), data(b"second"), digest(b"second")];
    let mut first = vec![digest(b"first"), data(b"first"), facts(None, 0)];
    let mut second = None;
    let next = || {
        let frame = first.pop().unwrap();
        if matches!(frame, Frame::Digest(_)) {
            second = Some(written(&path, frames()).1);
        }
        Ok(frame)
    };
    write::write(path.to_str().unwrap(), next, &mut Vec::new()).unwrap();
    assert_eq!(reason(second.unwrap()), "FILE_BUSY");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    written(&path, frames()).1.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(folder.names(), ["a"]);
}

#[test]
fn what_a_killed_writer_left_is_taken_over_by_the_next() {
    let folder = Folder::new();
    let path = folder.at("a");
    let mut frames = vec![data(b"new"), facts(None, 0)];
    let mut left = None;
    let next = || {
        let frame = frames.pop().unwrap();
        if matches!(frame, Frame::Data(_)) {
            let names = folder.names();
            assert_eq!(names.len(), 1, "{names:?}");
            left = names.into_iter().next();
            return Err(Refusal::new("FILE_INCOMPLETE", "killed"));
        }
        Ok(frame)
    };
    write::write(path.to_str().unwrap(), next, &mut Vec::new()).unwrap_err();
    fs::write(
        folder.at(&left.unwrap()),
        "what was written so far, and more",
    )
    .unwrap();
    let whole = vec![facts(None, 0), data(b"new"), digest(b"new")];
    written(&path, whole).1.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(folder.names(), ["a"]);
}
