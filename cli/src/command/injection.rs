//! What a user can type about injection: only declarations, as in `command.rs`. Every setting of a pod's annotations is
//! a flag, from the same table.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use weft_control_plane::model::pod_settings::{PREFIX, TABLE};

#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
    /// The namespace of objects that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Where sidecars find the control plane, HOST:PORT
    /// [default: weft-control-plane.weft-system.svc:4480]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) control_plane: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

#[derive(Debug, Args)]
pub(crate) struct UninjectArgs {
    #[command(flatten)]
    pub(crate) manifests: ManifestArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    /// Files or folders of Kubernetes objects, or - for stdin
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How the objects are written [default: as they were read]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<Form>,
}

/// How objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Documents with `---` between them
    Yaml,
    /// One object after the other
    Json,
}

/// The settings that were given, by the names of their annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SettingFlags(pub(crate) BTreeMap<String, String>);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("Settings of the sidecar, as annotations").args(TABLE.iter().map(
            |setting| {
                let argument = Arg::new(setting.name).long(setting.name);
                argument.help(setting.meaning).value_name("VALUE").allow_hyphen_values(true)
            },
        ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = TABLE.iter().filter_map(|setting| {
            let value = matches.get_one::<String>(setting.name)?;
            Some((format!("{PREFIX}{}", setting.name), value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}
