//! The control plane as a program of its own. `weft control-plane` runs the same.

use std::process::ExitCode;

use clap::Parser;
use weft_control_plane::{boot, config::Config};

/// Weft's control plane: tells every sidecar what it needs to know of the mesh
#[derive(Parser)]
#[command(name = "weft-control-plane", version)]
struct Line {
    #[command(flatten)]
    config: Config,
}

fn main() -> ExitCode {
    boot::run(Line::parse().config)
}
