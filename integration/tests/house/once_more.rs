//! `once-more.sh`, on a package of its own.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// A test that passes, and one that this text is the body of.
fn package(folder: &Path, body: &str) {
    fs::create_dir_all(folder.join("src")).expect("make a folder");
    let manifest = "[package]\nname = 'toy'\nedition = '2024'\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).expect("write the manifest");
    let tests = format!("#[test]\nfn well() {{}}\n#[test]\nfn ill() {{ {body} }}\n");
    fs::write(folder.join("src/lib.rs"), tests).expect("write the tests");
}

/// Runs the script; what it has noted, and how it ended.
fn run(folder: &Path) -> (String, Output) {
    let output = Command::new(super::root().join("integration/once-more.sh"))
        .args(["--offline", "--lib"])
        .current_dir(folder)
        .env("UPM_FLAKY", folder.join("flaky"))
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .expect("run the script");
    let noted = fs::read_to_string(folder.join("flaky")).unwrap_or_default();
    (noted, output)
}

#[test]
fn a_flaky_test_is_named_and_a_real_failure_ends_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // What a test prints may look like a list of failures.
    let once = r#"if std::fs::create_dir("seen").is_ok() { panic!("failures:\n    another") }"#;
    package(folder, once);
    let (noted, output) = run(folder);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(noted, "FLAKY ill\n");

    for body in ["panic!()", "std::process::abort()"] {
        package(folder, body);
        let (noted, output) = run(folder);
        assert!(!output.status.success(), "{body}: {output:?}");
        assert_eq!(noted, "FLAKY ill\n", "{body}");
    }
}
