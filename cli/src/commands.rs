//! Carries out one command. Each group of commands has a file; the long-running ones have their own modules.

mod authz;
mod ejections;
mod identity;
mod injection;
mod kubernetes;
mod mesh;
pub(crate) mod objects;
mod orientation;
mod time;
pub(crate) mod token;
mod version;

use std::{future::Future, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::{
    command::{Cli, Command, CompletionArgs, IdentityCommand, TokenCommand},
    demo, output, runs, up,
};

/// Runs what the user typed.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Some(command) = cli.command else {
        return orientation::print().map(|()| ExitCode::SUCCESS);
    };
    match command {
        Command::Demo(args) => block_on(demo::run(args))?,
        Command::Up(args) => block_on(up::run(args))?,
        Command::Down(args) => up::down::run(&args)?,
        Command::Apply(args) => block_on(objects::apply(args))?,
        Command::Get(args) => block_on(objects::get(args))?,
        Command::Describe(args) => block_on(objects::describe(args))?,
        Command::Delete(args) => block_on(objects::delete(args))?,
        Command::Inject(args) => injection::inject(&args)?,
        Command::Uninject(args) => injection::uninject(&args)?,
        Command::Proxies(args) => block_on(mesh::proxies(args))?,
        Command::Endpoints(args) => block_on(mesh::endpoints(args))?,
        Command::Authz(args) => block_on(authz::authz(args))?,
        Command::Identity(args) => match args.command {
            Some(IdentityCommand::RotateRoot(args)) => block_on(identity::rotate_root(args))?,
            None => block_on(identity::show(args))?,
        },
        Command::Token(args) => match args.command {
            TokenCommand::Create(args) => block_on(token::create(args))?,
            TokenCommand::List(args) => block_on(token::list(args))?,
            TokenCommand::Revoke(args) => block_on(token::revoke(args))?,
        },
        Command::Install(args) => kubernetes::install::print(&args)?,
        Command::Uninstall(args) => kubernetes::uninstall::print(&args)?,
        Command::Check(args) => block_on(kubernetes::check::run(args))?,
        Command::ControlPlane(args) => return control_plane(args.config),

        Command::Proxy(args) => return Ok(args.command.run()),
        Command::Completion(args) => completion(&args)?,
        Command::Version(args) => block_on(version::print(args))?,
        Command::Janitor(args) => up::janitor::run(&args)?,
        Command::DemoApp(args) => block_on(demo::apps::run(args))?,
        Command::Exec(args) => return Err(up::exec::run(&args)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command on this thread alone. The thread lives as long as the process, which matters to children
/// that die with their parent: the kernel means the thread that made them.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(command);
    // A blocked read of stdin must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Runs a control plane whose API the other commands find without being told where it is.
fn control_plane(mut config: weft_control_plane::config::Config) -> anyhow::Result<ExitCode> {
    if config.api_socket.is_none() {
        config.api_socket = Some(runs::own_base()?.join(runs::API_SOCKET));
    }
    Ok(weft_control_plane::boot::run(config))
}

/// The command tree without what users never type: a hidden command is completed all the same.
fn visible_commands() -> clap::Command {
    let all = Cli::command();
    let visible = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("weft")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommands(visible.collect::<Vec<_>>())
}

/// A name that says no namespace, in the one that the user gave.
fn in_namespace(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('/') => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

fn completion(args: &CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible_commands(), "weft", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
