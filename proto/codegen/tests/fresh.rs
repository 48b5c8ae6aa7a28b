//! The committed code equals what the `.proto` files say.

use std::{collections::BTreeMap, fs, path::Path};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .expect("list generated files")
        .map(|entry| {
            let path = entry.expect("read an entry").path();
            let name = path.file_name().expect("a file has a name");
            (
                name.to_string_lossy().into_owned(),
                fs::read(&path).expect("read a file"),
            )
        })
        .collect()
}

#[test]
fn committed_code_is_what_the_protos_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent");
    let out = tempfile::tempdir().expect("a folder");
    upm_codegen::generate(root, out.path()).expect("generate");
    let (committed, fresh) = (files(&root.join("src/gen")), files(out.path()));
    assert_eq!(
        committed.keys().collect::<Vec<_>>(),
        fresh.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in fresh {
        assert!(
            committed[&name] == bytes,
            "proto/src/gen/{name} is stale: run `cargo run -p upm-codegen`"
        );
    }
}
