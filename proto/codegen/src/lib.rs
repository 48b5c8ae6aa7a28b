//! Makes `proto/src/gen` from the `.proto` files: messages, clients and servers, the descriptor set, and the table of method policies.
//!
//! Two invariants: a method without a policy does not generate, and neither does one whose REST form has a secret in its URL.

mod policy;
mod secrets;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use prost_reflect::DescriptorPool;

/// Generates everything from the `.proto` files under `root` into `out`.
///
/// # Errors
/// When a file does not compile, a method has no policy or puts a secret into its URL, or `out` cannot be written.
pub fn generate(root: &Path, out: &Path) -> anyhow::Result<()> {
    let files = proto_files(&root.join("upm"))?
        .into_iter()
        .chain([root.join("google/rpc/error_details.proto")])
        .collect::<Vec<_>>();
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_files(&files)
        .context("compile the .proto files")?;
    fs::create_dir_all(out)?;

    // The encoded set keeps `google.api.http` and the policies; the prost types would drop them.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptor.bin"), &encoded)?;
    let pool = DescriptorPool::decode(encoded.as_slice())?;
    secrets::check(&pool)?;
    fs::write(out.join("policy.rs"), policy::table(&pool)?)?;

    tonic_prost_build::configure()
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .codec_path("crate::codec::SmallCodec")
        .bytes(".upm.hub.v1")
        .bytes(".upm.unit.v1")
        .compile_fds(compiler.file_descriptor_set())
        .context("generate Rust")?;
    Ok(())
}

fn proto_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
