//! `weft-proxy init`: redirects a network namespace's TCP connections through the sidecar, and sees that it holds.
//!
//! Comes in: flags. Goes out: table `inet weft` of nf_tables in the network namespace that this runs in, by one
//! netlink transaction and without the `nft` program; one line that says what was done. It needs CAP_NET_ADMIN, and
//! must never touch another table, nor leave half of its own: what was there before stays until all of the new is
//! accepted. docs/interception.md says which connection goes where, and what failures mean.

mod skip;

mod rules;

mod attributes;
mod expressions;
mod messages;
mod nf_tables;

mod socket;

mod destination;
mod probe;
mod read_back;

mod error;

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::Args;
use rustix::process::geteuid;
use weft_proto::Port;

pub use self::{
    error::InitError,
    skip::{Cidr, PortRange},
};
use self::{probe::Probe, rules::Table, skip::Key, socket::Netlink};
use crate::{
    clock,
    config::{LogFormat, TelemetrySettings, parse_duration},
    telemetry::logging,
};

/// A flag's list has at most this many items: what the kernel takes in one message, twice.
const MOST_ITEMS: usize = 500;

/// The rules could not be written; nothing was changed.
const CANNOT_WRITE: u8 = 1;
/// They were written, but interception does not hold.
const DOES_NOT_HOLD: u8 = 4;

/// What is redirected, and what is not.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The user that the proxy runs as; its own connections go where they say
    #[arg(long, value_name = "UID", default_value_t = 4140)]
    pub proxy_user: u32,
    /// The proxy's port for what this network namespace's applications call
    #[arg(long, value_name = "PORT", default_value = "4140")]
    pub outbound_port: Port,
    /// The proxy's port for what others call here
    #[arg(long, value_name = "PORT", default_value = "4143")]
    pub inbound_port: Port,
    /// The proxy's admin port; it stays as it is
    #[arg(long, value_name = "PORT", default_value = "4191")]
    pub admin_port: Port,

    /// Ports here that stay as they are: 22,8000-8100
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub skip_inbound_ports: Vec<PortRange>,
    /// Ports of others that stay as they are: 22,8000-8100
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub skip_outbound_ports: Vec<PortRange>,
    /// Networks from which connections stay as they are: 10.0.0.0/8,fd00::/8
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub skip_inbound_cidrs: Vec<Cidr>,
    /// Networks to which connections stay as they are: 10.0.0.0/8,fd00::/8
    #[arg(long, value_name = "CIDRS", value_delimiter = ',')]
    pub skip_outbound_cidrs: Vec<Cidr>,

    /// Remove the rules; nothing is redirected any more
    #[arg(long)]
    pub remove: bool,
    /// Print the rules as nft reads them, and change nothing
    #[arg(long, conflicts_with = "remove")]
    pub print: bool,
    /// Do not try whether interception holds
    #[arg(long)]
    pub no_verify: bool,
    /// How long trying may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Log filter, such as `info` or `debug`
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Writes, prints or removes the rules, and says so.
#[must_use]
pub fn run(settings: &Settings) -> ExitCode {
    let logs = match logging::init(&settings.telemetry()) {
        Ok(logs) => logs,
        Err(error) => return fail(&error, CANNOT_WRITE),
    };
    let done = carry_out(settings);
    logs.flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_of_verification() => fail(&error, DOES_NOT_HOLD),
        Err(error) => fail(&error, CANNOT_WRITE),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("weft-proxy init: {error}");
    ExitCode::from(code)
}

fn carry_out(settings: &Settings) -> Result<(), InitError> {
    settings.check()?;
    let table = Table::new(settings);
    if settings.print {
        // A reader that has had enough is no failure.
        let _ = write!(std::io::stdout(), "{table}");
        return Ok(());
    }
    let netlink = Netlink::open()?;
    if settings.remove {
        netlink.commit(&messages::remove())?;
        tracing::info!("connections go where they say: table inet weft is removed");
        return Ok(());
    }
    netlink.commit(&messages::replace(&table))?;
    if settings.no_verify {
        settings.say_done("not probed: --no-verify", "not probed: --no-verify");
        return Ok(());
    }
    read_back::check(&netlink, &table)?;
    let deadline = clock::now() + settings.timeout;
    let probe = Probe { settings, table: &table, netlink: &netlink, deadline };
    let (ipv4, ipv6) = (probe.run(Key::Ipv4)?, probe.run(Key::Ipv6)?);
    settings.say_done(&ipv4.to_string(), &ipv6.to_string());
    Ok(())
}

impl Settings {
    /// What each setting alone cannot know.
    fn check(&self) -> Result<(), InitError> {
        let ports = [
            ("--outbound-port", self.outbound_port),
            ("--inbound-port", self.inbound_port),
            ("--admin-port", self.admin_port),
        ];
        for (index, (flag, port)) in ports.iter().enumerate() {
            if let Some((before, _)) = ports[..index].iter().find(|(_, other)| other == port) {
                let port = port.number();
                return Err(InitError::Settings(format!(
                    "{flag} {port}: this is {before} already; the proxy's ports are three different ones"
                )));
            }
        }
        let lists = [
            ("--skip-inbound-ports", self.skip_inbound_ports.len()),
            ("--skip-outbound-ports", self.skip_outbound_ports.len()),
            ("--skip-inbound-cidrs", self.skip_inbound_cidrs.len()),
            ("--skip-outbound-cidrs", self.skip_outbound_cidrs.len()),
        ];
        if let Some((flag, count)) = lists.iter().find(|(_, count)| *count > MOST_ITEMS) {
            return Err(InitError::Settings(format!(
                "{flag}: {count} items; use at most {MOST_ITEMS}, and ranges or greater networks for more"
            )));
        }
        let is_probed = !(self.print || self.remove || self.no_verify);
        if is_probed && geteuid().as_raw() == self.proxy_user {
            let user = self.proxy_user;
            return Err(InitError::Settings(format!(
                "--proxy-user {user}: this process runs as that user too, whose connections are not redirected, so \
                 it cannot see whether others' are; run it as root, or with --no-verify"
            )));
        }
        Ok(())
    }

    fn telemetry(&self) -> TelemetrySettings {
        TelemetrySettings {
            log: self.log.clone(),
            log_format: self.log_format,
            access_log: false,
            otlp_endpoint: None,
            trace_ratio: 0.0,
        }
    }

    /// The line that says what was done.
    fn say_done(&self, ipv4: &str, ipv6: &str) {
        tracing::info!(
            outbound_port = self.outbound_port.number(),
            inbound_port = self.inbound_port.number(),
            proxy_user = self.proxy_user,
            ipv4,
            ipv6,
            "connections are redirected to the proxy"
        );
    }
}

#[cfg(test)]
mod tests;
