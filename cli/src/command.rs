//! The command tree: what a user can type. Only declarations; `commands.rs` carries them out.

mod injection;
mod kubernetes;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use injection::{Form, InjectArgs, ManifestArgs, UninjectArgs};
pub(crate) use kubernetes::{CheckArgs, ClusterArgs, InstallArgs, UninstallArgs};

/// A service mesh on one machine or many.
///
/// `weft demo` shows one at work; `weft up FILE` runs your own services in one.
#[derive(Debug, Parser)]
#[command(name = "weft", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a small shop in a mesh, with load, and watch it
    Demo(DemoArgs),
    /// Run the services of a YAML file in a mesh, until Ctrl-C or `weft down`
    Up(UpArgs),
    /// Stop a running `weft up` or `weft demo`
    Down(DownArgs),

    /// Create or change objects from files
    Apply(ApplyArgs),
    /// List objects
    Get(GetArgs),
    /// Show objects with their conditions and what runs for them
    Describe(DescribeArgs),
    /// Delete objects
    Delete(DeleteArgs),

    /// Put sidecars into the pods of Kubernetes manifests: `weft inject FILE | kubectl apply -f -`
    Inject(Box<InjectArgs>),
    /// Take the sidecars out of manifests again
    Uninject(UninjectArgs),

    /// List the sidecars: connected, ready, and which configuration each holds
    Proxies(ProxiesArgs),
    /// List the endpoints of a service, or of all
    Endpoints(EndpointsArgs),
    /// List who may do what at a service, in the order in which it is decided
    Authz(AuthzArgs),
    /// Show a workload's certificate, or rotate the mesh's root
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Identity(IdentityArgs),
    /// Create, list and revoke join tokens for sidecars
    Token(TokenArgs),

    /// Print the manifests that put Weft into a Kubernetes cluster, for `kubectl apply -f -`
    #[command(
        after_help = "The namespace is weft-system and has no flag: sidecars, certificates and the webhook \
                            are bound to the name."
    )]
    Install(InstallArgs),
    /// Print what to delete to take Weft out of a cluster, for `kubectl delete -f -`
    Uninstall(UninstallArgs),
    /// Check whether a cluster is ready for Weft, or whether Weft works in it
    Check(CheckArgs),

    /// Run a control plane
    ControlPlane(Box<ControlPlaneArgs>),
    /// Run a sidecar, or redirect connections through one
    Proxy(Box<ProxyArgs>),

    /// Print a completion script for a shell
    Completion(CompletionArgs),
    /// Print the version of this command and of the control plane
    Version(VersionArgs),

    /// Cleans up when its parent is gone
    #[command(hide = true)]
    Janitor(JanitorArgs),
    /// One of the demo's services
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
    /// Becomes another program that dies with its parent
    #[command(hide = true)]
    Exec(ExecArgs),
}

/// Where the control plane's API is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApiArgs {
    /// The control plane's API socket; without it, the mesh that runs on this machine
    #[arg(long, env = "WEFT_API", value_name = "PATH")]
    pub(crate) api: Option<PathBuf>,
}

/// How results look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Table,
    /// A table with more columns
    Wide,
    /// For programs
    Json,
    /// The form that files have
    Yaml,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FormatArgs {
    /// How the result looks
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NamespaceArgs {
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End by itself after this long: 15s, 2m
    #[arg(long, value_parser = weft_proxy::config::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// What is printed: a live table, or (with --duration) one JSON object at the end
    #[arg(short, long, value_enum, default_value_t = DemoFormat::Table)]
    pub(crate) output: DemoFormat,
    /// Requests a second that the load sends
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Show the services' own logs, and no live table
    #[arg(long)]
    pub(crate) logs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoFormat {
    /// A live table for people
    Table,
    /// One JSON object when it ends
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The file, or a folder of them: Service and Workload objects
    pub(crate) file: PathBuf,
    /// How long a service may take to stop before it is killed: give a database more
    #[arg(long, default_value = "700ms", value_parser = weft_proxy::config::parse_duration)]
    pub(crate) grace: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Files or folders of objects, or - for stdin
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// The namespace of objects that name none
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Check the objects, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The kind (services, svc, workload, …), or KIND/NAME
    pub(crate) kind: String,
    /// The names; without, all of the kind
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// The kind, or KIND/NAME
    pub(crate) kind: String,
    /// The names; without, all of the kind
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The kind, or KIND/NAME
    #[arg(required_unless_present = "filename")]
    pub(crate) kind: Option<String>,
    /// The names
    pub(crate) names: Vec<String>,
    /// Delete the objects that stand in these files
    #[arg(short, long, value_name = "FILE", conflicts_with = "kind")]
    pub(crate) filename: Vec<PathBuf>,
    /// The namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProxiesArgs {
    /// One workload's, NAMESPACE/NAME
    pub(crate) workload: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointsArgs {
    /// NAME or NAMESPACE/NAME, optionally with :PORT; without, every service
    pub(crate) service: Option<String>,
    /// The namespace of a NAME, or the only one to list
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuthzArgs {
    /// NAME or NAMESPACE/NAME
    pub(crate) service: String,
    /// The only port to list
    #[arg(long)]
    pub(crate) port: Option<weft_proto::Port>,
    /// The namespace of a NAME
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    pub(crate) command: Option<IdentityCommand>,
    /// NAME or NAMESPACE/NAME
    #[arg(required = true)]
    pub(crate) workload: Option<String>,
    /// The namespace of a NAME
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Sign with a new root from now on; the old one stays trusted until --retire-old
    RotateRoot(RotateRootArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RotateRootArgs {
    /// Drop the roots that no longer sign, once no certificate in use needs them
    #[arg(long)]
    pub(crate) retire_old: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token with which sidecars of one service account join; it is shown once
    Create(TokenCreateArgs),
    /// List the tokens, without their secrets
    List(TokenListArgs),
    /// Revoke a token: it issues nothing from now on
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// The service account that its sidecars act as
    pub(crate) service_account: String,
    /// The service account's namespace
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// How long it is good for: 30m, 24h; without, the control plane's default
    #[arg(long, value_parser = crate::commands::token::life)]
    pub(crate) ttl: Option<Duration>,
    /// How many certificates it is good for; 0 for no bound
    #[arg(long, default_value_t = 0)]
    pub(crate) uses: u32,
    /// Write it to this file, readable by you alone, instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) to_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevokeArgs {
    /// The token's id, as `weft token list` shows it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ControlPlaneArgs {
    #[command(flatten)]
    pub(crate) config: weft_control_plane::config::Config,
}

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) command: weft_proxy::command::Command,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Debug, Args)]
pub(crate) struct JanitorArgs {
    /// The folder to remove
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// The mark that the run's processes carry in their environment
    #[arg(long)]
    pub(crate) mark: String,
}

#[derive(Debug, Args)]
pub(crate) struct DemoAppArgs {
    /// Which
    #[arg(value_enum)]
    pub(crate) name: DemoApp,
}

/// The demo's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DemoApp {
    Web,
    Catalog,
    Cart,
    Payments,
    Inventory,
    Cache,
    Load,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The parent that must still be there
    #[arg(long)]
    pub(crate) parent: i32,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_users_type_is_understood() {
        for line in [
            "weft",
            "weft demo --duration 15s -o json",
            "weft up examples/shop.yaml --grace 5s",
            "weft down",
            "weft apply -f a.yaml -f - --dry-run",
            "weft get svc -A -o wide",
            "weft get services/cart -n shop -o yaml",
            "weft describe workload cart -n shop",
            "weft delete service cart payments -n shop",
            "weft delete -f shop.yaml",
            "weft inject shop.yaml - --skip-outbound-ports 3306 --sidecar classic -o json",
            "weft inject k8s --control-plane mesh.example:4480 -n shop",
            "weft uninject -",
            "weft proxies shop/cart -o json",
            "weft endpoints",
            "weft endpoints shop/cart:80",
            "weft endpoints cart:80 -n shop",
            "weft identity shop/cart",
            "weft identity cart -n shop",
            "weft identity rotate-root --retire-old",
            "weft token create cart -n shop --ttl 1h --uses 3",
            "weft token list",
            "weft token revoke 1234",
            "weft proxy --workload shop/cart --token-fd 0",
            "weft proxy init --skip-outbound-ports 4480 --print",
            "weft completion bash",
            "weft install --image example.org/weft:1 --trust-domain mesh.example.org --no-crds",
            "weft uninstall --keep-crds",
            "weft check --pre -n shop --context staging",
            "weft check -o json",
            "weft version -o json",
            "weft exec --parent 1 -- sh -c 'x'",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.err().map_or_else(String::new, |e| e.to_string())
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "weft demo --duration 15",
            "weft up",
            "weft apply",
            "weft get",
            "weft get svc -A -n shop",
            "weft delete",
            "weft inject",
            "weft inject -o table a.yaml",
            "weft uninject a.yaml --sidecar classic",
            "weft identity",
            "weft token create",
            "weft token create cart --ttl 0s",
            "weft completion cobol",
            "weft demo --rate 0",
            "weft install --inbound-mode open",
            "weft install --namespace mesh",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
