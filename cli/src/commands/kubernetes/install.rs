//! `weft install`: prints the manifests, for `| kubectl apply -f -`. It reaches no cluster.

use std::io::IsTerminal as _;

use super::manifests;
use crate::{command::InstallArgs, output};

pub(crate) fn print(options: &InstallArgs) -> anyhow::Result<()> {
    output::print(&manifests::to_yaml(&manifests::objects(options)?)?)?;
    if std::io::stdout().is_terminal() {
        eprintln!("note: nothing is installed yet; do it with: weft install | kubectl apply -f -");
    }
    Ok(())
}
