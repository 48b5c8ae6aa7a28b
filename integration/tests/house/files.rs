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

/// Programs are built without tests, so one in `main.rs` would never run: it belongs into the library.
#[test]
fn no_program_has_tests_that_nobody_runs() {
    for (folder, _) in super::members() {
        let text = fs::read_to_string(root().join(&folder).join("src/main.rs"));
        let tests = text.is_ok_and(|text| text.contains("#[test]") || text.contains("::test]"));
        assert!(!tests, "{folder}/src/main.rs has a test");
    }
}

#[test]
fn the_changelog_has_a_place_for_the_next_release() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("read the changelog");
    assert!(text.contains("\n## Unreleased\n"));
}

#[test]
fn no_migration_names_a_collation() {
    let services = root().join("services");
    let mut seen = 0;
    for service in fs::read_dir(&services).expect("list services") {
        let folder = service.expect("an entry").path().join("migrations/mysql");
        let Ok(migrations) = fs::read_dir(&folder) else {
            continue;
        };
        for migration in migrations {
            let path = migration.expect("an entry").path().join("up.sql");
            let text = fs::read_to_string(&path).expect("read a migration");
            let text = text.to_ascii_lowercase();
            // The store sets one for the database that tells "a" from "a "; no such name is known to both makes of server.
            for word in ["collate", "character set", "charset"] {
                assert!(!text.contains(word), "{} says {word}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 6, "the migrations were found");
}
