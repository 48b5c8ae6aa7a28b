//! The rules of the house, as tests over the source tree.

mod arrows;
mod charts;
mod files;
mod once_more;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the manifest lies in integration/")
        .to_owned()
}

/// Every member of the workspace: its folder and its parsed manifest.
fn members() -> Vec<(String, toml::Table)> {
    let parse = |path: PathBuf| -> toml::Table {
        std::fs::read_to_string(&path)
            .expect("read a manifest")
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let workspace = parse(root().join("Cargo.toml"));
    workspace["workspace"]["members"]
        .as_array()
        .expect("members are a list")
        .iter()
        .map(|member| {
            let folder = member.as_str().expect("a member is a path").to_owned();
            let manifest = parse(root().join(&folder).join("Cargo.toml"));
            (folder, manifest)
        })
        .collect()
}
