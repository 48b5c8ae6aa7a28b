//! Files that a newcomer can read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::root;

/// Longest hand-written source file, in lines.
const LONGEST: usize = 800;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "gen" | ".git" | "node_modules") {
                sources(&path, found);
            }
        } else if path
            .extension()
            .is_some_and(|e| ["rs", "sh", "go", "ts", "tsx"].iter().any(|s| e == *s))
        {
            found.push(path);
        }
    }
}

#[test]
fn no_source_file_is_too_long_and_none_is_called_mod_rs() {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    assert!(found.len() > 100, "the source tree was found");
    for path in found {
        let lines = fs::read_to_string(&path)
            .expect("read a file")
            .lines()
            .count();
        assert!(lines <= LONGEST, "{} has {lines} lines", path.display());
        assert!(!path.ends_with("mod.rs"), "{}", path.display());
    }
}

#[test]
fn the_changelog_has_a_place_for_the_next_release() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("read the changelog");
    assert!(text.contains("\n## Unreleased\n"));
}
