//! The rules as data: one table with two chains, one for each direction, and the sets of what they leave out.
//!
//! Comes in: the settings. Goes out: a [`Table`], which [`super::messages`] writes for the kernel, and whose text is
//! what `nft` would load. The rules are always the same; only numbers and the sets' elements differ. They must
//! never match anything but the first packet of a TCP connection.
//!
//! | chain | a connection | goes |
//! |---|---|---|
//! | outbound | of the proxy's user | where it says |
//! | | by loopback: to itself | where it says |
//! | | to a skipped port, a skipped or link-local address | where it says |
//! | | any other | to the outbound port |
//! | inbound | by loopback | where it says |
//! | | that is only forwarded here | where it says |
//! | | to a port of the proxy, to a skipped port, from a skipped address | where it says |
//! | | any other | to the inbound port |

use std::fmt;

use super::{
    Settings,
    skip::{Cidr, Intervals, Key, PortRange},
};

/// The table's name. Everything in it is ours; nothing outside it is touched.
pub(crate) const TABLE: &str = "weft";

/// All rules.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: [Chain; 2],
}

/// A named set of intervals.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) elements: Intervals,
}

/// A chain of type nat.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// Where the kernel asks a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Packets that this network namespace sends.
    Output,
    /// Packets that arrive, before it is decided where they go.
    Prerouting,
}

impl Hook {
    /// That of destination NAT, at both hooks: after connection tracking, before filters.
    pub(crate) const PRIORITY: i32 = -100;
}

/// What is done with the connections that match.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) matches: Match,
    pub(crate) verdict: Verdict,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Match {
    /// A TCP packet that opens no connection. One that was open before the rules came would be torn otherwise: the
    /// kernel begins to track it in the middle, and takes its next packet for a first one.
    OpensNothing,
    /// The socket's owner.
    Owner(u32),
    /// Sent by loopback.
    ToLoopback,
    /// Received by loopback.
    FromLoopback,
    /// For an address that is not of this network namespace.
    NotForUs,
    /// The destination's port is in the set.
    Port(&'static str),
    /// The destination's address is in the set of this family.
    Destination(Key, &'static str),
    /// The source's address is in the set of this family.
    Source(Key, &'static str),
    /// TCP.
    Tcp,
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Where it says.
    Return,
    /// To this port here; connections are counted.
    Redirect(u16),
}

impl Table {
    /// The rules under these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let own = [settings.outbound_port, settings.inbound_port, settings.admin_port];
        let inbound = [&own.map(PortRange::from)[..], &settings.skip_inbound_ports].concat();
        let outbound = [&Cidr::LINK_LOCAL[..], &settings.skip_outbound_cidrs].concat();
        let (ports, networks) = (Intervals::of_ports, Intervals::of_networks);
        let sets = [
            (OUTBOUND_PORTS, ports(&settings.skip_outbound_ports)),
            (OUTBOUND_IPV4, networks(Key::Ipv4, &outbound)),
            (OUTBOUND_IPV6, networks(Key::Ipv6, &outbound)),
            (INBOUND_PORTS, ports(&inbound)),
            (INBOUND_IPV4, networks(Key::Ipv4, &settings.skip_inbound_cidrs)),
            (INBOUND_IPV6, networks(Key::Ipv6, &settings.skip_inbound_cidrs)),
        ];
        Self {
            sets: sets.into_iter().map(|(name, elements)| Set { name, elements }).collect(),
            chains: [outbound_chain(settings), inbound_chain(settings)],
        }
    }

    /// The elements of what is left out on the way out, ports and addresses of a family.
    pub(crate) fn skipped_outbound(&self, key: Key) -> Option<&Intervals> {
        let name = match key {
            Key::Port => OUTBOUND_PORTS,
            Key::Ipv4 => OUTBOUND_IPV4,
            Key::Ipv6 => OUTBOUND_IPV6,
        };
        self.sets.iter().find(|set| set.name == name).map(|set| &set.elements)
    }
}

const OUTBOUND_PORTS: &str = "skipped_outbound_ports";
const OUTBOUND_IPV4: &str = "skipped_outbound_ipv4";
const OUTBOUND_IPV6: &str = "skipped_outbound_ipv6";
const INBOUND_PORTS: &str = "skipped_inbound_ports";
const INBOUND_IPV4: &str = "skipped_inbound_ipv4";
const INBOUND_IPV6: &str = "skipped_inbound_ipv6";

fn outbound_chain(settings: &Settings) -> Chain {
    let stay = [
        Match::OpensNothing,
        Match::Owner(settings.proxy_user),
        Match::ToLoopback,
        Match::Port(OUTBOUND_PORTS),
        Match::Destination(Key::Ipv4, OUTBOUND_IPV4),
        Match::Destination(Key::Ipv6, OUTBOUND_IPV6),
    ];
    let rules = chain_rules(&stay, settings.outbound_port.number());
    Chain { name: "outbound", hook: Hook::Output, rules }
}

fn inbound_chain(settings: &Settings) -> Chain {
    let stay = [
        Match::OpensNothing,
        Match::FromLoopback,
        Match::NotForUs,
        Match::Port(INBOUND_PORTS),
        Match::Source(Key::Ipv4, INBOUND_IPV4),
        Match::Source(Key::Ipv6, INBOUND_IPV6),
    ];
    let rules = chain_rules(&stay, settings.inbound_port.number());
    Chain { name: "inbound", hook: Hook::Prerouting, rules }
}

/// What matches stays as it is, all other TCP goes to the port.
fn chain_rules(stay: &[Match], port: u16) -> Vec<Rule> {
    let stay = stay.iter().map(|&matches| Rule { matches, verdict: Verdict::Return });
    let redirect = Rule { matches: Match::Tcp, verdict: Verdict::Redirect(port) };
    stay.chain([redirect]).collect()
}

/// In nft's language, as `nft -f` loads it: again, it replaces itself.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{")?;
        for set in &self.sets {
            write!(f, "{set}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.elements.key {
            Key::Port => "inet_service",
            Key::Ipv4 => "ipv4_addr",
            Key::Ipv6 => "ipv6_addr",
        };
        writeln!(f, "    set {} {{\n        type {kind}\n        flags interval", self.name)?;
        if !self.elements.ranges.is_empty() {
            writeln!(f, "        elements = {{ {} }}", self.elements)?;
        }
        writeln!(f, "    }}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Output => "output",
            Hook::Prerouting => "prerouting",
        };
        let priority = Hook::PRIORITY;
        writeln!(f, "    chain {} {{", self.name)?;
        writeln!(f, "        type nat hook {hook} priority {priority}; policy accept;")?;
        for rule in &self.rules {
            writeln!(f, "        {rule}")?;
        }
        writeln!(f, "    }}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Return => write!(f, "{} return", self.matches),
            Verdict::Redirect(port) => write!(f, "{} counter redirect to :{port}", self.matches),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpensNothing => f.write_str("tcp flags & (syn | ack) != syn"),
            Self::Owner(user) => write!(f, "meta skuid {user}"),
            Self::ToLoopback => f.write_str("oifname \"lo\""),
            Self::FromLoopback => f.write_str("iifname \"lo\""),
            Self::NotForUs => f.write_str("fib daddr type != local"),
            Self::Port(set) => write!(f, "tcp dport @{set}"),
            Self::Destination(key, set) => write!(f, "{} daddr @{set}", protocol(*key)),
            Self::Source(key, set) => write!(f, "{} saddr @{set}", protocol(*key)),
            Self::Tcp => f.write_str("meta l4proto tcp"),
        }
    }
}

const fn protocol(key: Key) -> &'static str {
    match key {
        Key::Ipv6 => "ip6",
        Key::Ipv4 | Key::Port => "ip",
    }
}

#[cfg(test)]
mod tests;
