//! Compiles the .proto files with protox, so that no protoc is needed.
use std::{env, error::Error, path::PathBuf};

const FILES: [&str; 3] = [
    "weft/discovery/v1/discovery.proto",
    "weft/identity/v1/identity.proto",
    "weft/api/v1/api.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&out, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .btree_map(".weft.discovery.v1.Endpoint.labels")
        .compile_fds(descriptors)?;
    Ok(())
}
