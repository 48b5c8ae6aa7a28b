//! The API of the tests.

use std::{path::Path, sync::OnceLock};

use prost_reflect::DescriptorPool;

/// The descriptors of `demo/echo.proto`, with the options.
pub(crate) fn descriptor_set() -> &'static [u8] {
    static SET: OnceLock<Vec<u8>> = OnceLock::new();
    SET.get_or_init(|| {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = [crates.join("testdata"), crates.join("transcode/testdata")];
        let mut compiler = protox::Compiler::new(folders).unwrap();
        compiler.include_imports(true).include_source_info(true);
        compiler.open_files(["demo/echo.proto"]).unwrap();
        compiler.encode_file_descriptor_set()
    })
}

pub(crate) fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(descriptor_set()).unwrap())
}
