//! `weft` alone: where one is, and what to do next.

use crate::{output, runs};

/// Says what Weft is, what runs, and which command comes next.
pub(crate) fn print() -> anyhow::Result<()> {
    let mut text = String::from("Weft: a service mesh for one machine or many.\n\n");
    let live = runs::live();
    if live.is_empty() {
        text.push_str(
            "Nothing runs yet. Begin with one of these:\n  \
             weft demo                 a small shop in a mesh, with load, to look at\n  \
             weft up FILE              your own services in a mesh\n",
        );
    } else {
        for run in live {
            text.push_str(&format!("Running: {} (process {})\n", run.run.what, run.run.pid));
        }
        text.push_str(
            "\nLook at it:\n  \
             weft endpoints            the services, and where each is reached\n  \
             weft proxies              the sidecars, and whether they are ready\n  \
             weft down                 stop it\n",
        );
    }
    text.push_str("\nAll commands: weft --help\n");
    output::print(&text)
}
