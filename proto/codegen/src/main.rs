//! `cargo run -p upm-codegen`: regenerates `proto/src/gen`.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the manifest lies in proto/codegen");
    upm_codegen::generate(root, &root.join("src/gen"))
}
