//! Generates `gen/` with prost-build and pbjson-build: what the codec is measured beside.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = here.join("bench/gen");
    let mut compiler = protox::Compiler::new([here.join("../testdata")])?;
    compiler
        .include_imports(true)
        .open_files(["demo/books.proto"])?;
    let set = compiler.file_descriptor_set();
    let mut code = pbjson_build::Builder::new();
    code.out_dir(&out);
    for file in &set.file {
        code.register_file_descriptor(file.clone());
    }
    code.build(&[".demo.library"])?;
    prost_build::Config::new()
        .out_dir(&out)
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(set)?;
    Ok(())
}
