//! Compiles the protobuf definitions with protox, so that building Gavel needs no `protoc`.

use std::path::PathBuf;

use prost::Message;

const FILES: &[&str] = &[
    "gavel/v1/gavel.proto",
    "gavel/participant/v1/participant.proto",
    "gavel/participant/v1/registry.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("gavel_descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        // Ids are slices of the received message instead of a heap block each.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
