//! What `weft-proxy` is asked to do: to be a sidecar, or to prepare the network for one.
//!
//! Comes in: the command line's flags. Goes out: one of both. Without a subcommand all flags are the sidecar's, so
//! `weft-proxy` and `weft proxy` are the same.

use std::process::ExitCode;

use clap::{ArgMatches, Args, Error, FromArgMatches, error::ErrorKind};

use crate::{config::Config, init, process};

const INIT: &str = "init";

/// What to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Be a sidecar until told to stop.
    Serve(Box<Config>),
    /// Redirect this network namespace's connections through the sidecar, once.
    Init(Box<init::Settings>),
}

impl Command {
    /// Does it; the code with which the process ends.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self {
            Self::Serve(config) => process::run(*config),
            Self::Init(settings) => init::run(&settings),
        }
    }
}

impl Args for Command {
    fn augment_args(command: clap::Command) -> clap::Command {
        let init = init::Settings::augment_args(clap::Command::new(INIT))
            .about("Redirect this network namespace's TCP connections through the sidecar")
            .disable_version_flag(true);
        Config::augment_args(command)
            .subcommand(init)
            // A sidecar must name its workload, and flags before `init` would be lost.
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        match matches.subcommand() {
            None => Config::from_arg_matches(matches).map(|config| Self::Serve(Box::new(config))),
            Some((INIT, matches)) => init::Settings::from_arg_matches(matches)
                .map(|settings| Self::Init(Box::new(settings))),
            Some((other, _)) => {
                Err(Error::raw(ErrorKind::InvalidSubcommand, format!("no subcommand {other}")))
            }
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Error> {
        let command = Command::augment_args(clap::Command::new("weft-proxy"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        Command::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_is_consistent_and_says_what_it_does() {
        let mut command = Command::augment_args(clap::Command::new("weft-proxy"));
        let init = command.find_subcommand_mut(INIT).expect("it is there");
        assert!(init.render_help().to_string().starts_with("Redirect this network namespace's"));
        command.debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_is_a_sidecar_and_must_name_its_workload() {
        let serve = parse("weft-proxy --workload shop/cart").expect("all that is required");
        assert!(
            matches!(serve, Command::Serve(config) if config.workload.to_string() == "shop/cart")
        );
        let error = parse("weft-proxy --workers 2").expect_err("no workload");
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn init_has_flags_of_its_own() {
        let init = parse("weft-proxy init --proxy-user 7 --skip-inbound-ports 22,80-90");
        let Ok(Command::Init(settings)) = init else { panic!("{init:?}") };
        assert_eq!((settings.proxy_user, settings.skip_inbound_ports.len()), (7, 2));
        for line in [
            "weft-proxy --workload shop/cart init",
            "weft-proxy init --workload shop/cart",
            "weft-proxy init --print --remove",
            "weft-proxy other",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
