//! `weft-proxy`: the sidecar as a process, and the init container that goes before it.

use std::process::ExitCode;

use clap::Parser;
use weft_proxy::command::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Weft's sidecar proxy
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version)]
struct Arguments {
    #[command(flatten)]
    command: Command,
}

fn main() -> ExitCode {
    Arguments::parse().command.run()
}
