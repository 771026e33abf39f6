//! `weft-proxy`: the sidecar as a process.

use std::process::ExitCode;

use clap::Parser;
use weft_proxy::{config::Config, process};

/// Weft's sidecar proxy
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    process::run(Arguments::parse().config)
}
