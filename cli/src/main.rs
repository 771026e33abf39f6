//! `weft`: the command line. It runs a mesh on a laptop (`weft demo`, `weft up FILE`) and talks to a control
//! plane anywhere (`weft get`, `weft apply`, …).
//!
//! Comes in: arguments. Goes out: results on stdout, progress and logs on stderr, an exit code: 0 done,
//! 1 failed, 2 wrong usage. The modules stand from the general to the particular.
#![allow(clippy::print_stderr, reason = "a command line speaks on stderr")]

mod command;

mod failure;
mod output;
mod runs;

mod client;
mod commands;

mod up;

mod demo;

use std::process::ExitCode;

use clap::Parser as _;

use crate::command::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", failure::report(&error));
            ExitCode::FAILURE
        }
    }
}
