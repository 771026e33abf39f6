//! What is left out of interception: ports and addresses, as people write them and as the kernel's sets hold them.
//!
//! Comes in: the items of a flag (`22`, `8000-8100`, `10.0.0.0/8`, `fd00::/8`). Goes out: sorted intervals, merged
//! where they overlap or touch. It must never guess: a range that is the wrong way round, or a network with bits
//! beyond its prefix, is refused with what would be right.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use weft_proto::Port;

/// A port, or a range of ports that includes both ends: `22`, `8000-8100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "use ports from 1 to 65535 and ranges of them, such as 22 or 8000-8100";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0).ok_or(FORM);
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(format!("a range begins with its lower port: use {last}-{first}"));
        }
        Ok(Self { first, last })
    }
}

/// A network of either family, or one address: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "use a network such as 10.0.0.0/8 or fd00::/8, or one address";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        let bits = Key::of(address).bits();
        let prefix = match prefix {
            Some(prefix) => prefix.parse::<u8>().ok().filter(|prefix| u32::from(*prefix) <= bits),
            None => u8::try_from(bits).ok(),
        };
        let cidr = Self { address, prefix: prefix.ok_or(FORM)? };
        let network = Key::of(address).address(cidr.first());
        if network != address {
            let prefix = cidr.prefix;
            return Err(format!(
                "the address has bits beyond the prefix: use {network}/{prefix} for the network, {address} for the \
                 address alone"
            ));
        }
        Ok(cidr)
    }
}

impl Cidr {
    /// The link-local networks: the cloud's metadata, and neighbours. Never the mesh's.
    pub(crate) const LINK_LOCAL: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), prefix: 16 },
        Self { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), prefix: 10 },
    ];

    const fn key(self) -> Key {
        Key::of(self.address)
    }

    fn host_bits(self) -> u128 {
        let bits = self.key().bits() - u32::from(self.prefix);
        1_u128.checked_shl(bits).map_or(u128::MAX, |beyond| beyond - 1)
    }

    fn first(self) -> u128 {
        number(self.address) & !self.host_bits()
    }

    fn last(self) -> u128 {
        number(self.address) | self.host_bits()
    }
}

/// What the values of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Port,
    Ipv4,
    Ipv6,
}

impl Key {
    /// An address's.
    pub(crate) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// How long a value is.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Port => 16,
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }

    /// A value in network byte order.
    pub(crate) fn bytes(self, value: u128) -> Vec<u8> {
        let length = self.bits() as usize / 8;
        value.to_be_bytes()[16 - length..].to_vec()
    }

    /// The greatest value.
    pub(crate) const fn greatest(self) -> u128 {
        u128::MAX >> (128 - self.bits())
    }

    /// A value as an address; a port's number makes one of IPv6, which nobody asks for.
    pub(crate) fn address(self, value: u128) -> IpAddr {
        match (self, u32::try_from(value)) {
            (Self::Ipv4, Ok(value)) => Ipv4Addr::from(value).into(),
            (Self::Ipv4 | Self::Ipv6 | Self::Port, _) => Ipv6Addr::from(value).into(),
        }
    }
}

/// An address as a number.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The values of a set: sorted intervals between which there are gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intervals {
    pub(crate) key: Key,
    /// First and last value of each.
    pub(crate) ranges: Vec<(u128, u128)>,
}

impl Intervals {
    /// Of ports.
    pub(crate) fn of_ports(ports: &[PortRange]) -> Self {
        let ranges = ports.iter().map(|range| (range.first.into(), range.last.into()));
        Self { key: Key::Port, ranges: merged(ranges.collect()) }
    }

    /// Of those networks that are of this family.
    pub(crate) fn of_networks(key: Key, networks: &[Cidr]) -> Self {
        let ours = networks.iter().filter(|network| network.key() == key);
        let ranges = ours.map(|network| (network.first(), network.last()));
        Self { key, ranges: merged(ranges.collect()) }
    }

    /// Whether a value is in one.
    pub(crate) fn contains(&self, value: u128) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&value))
    }
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port.number(), last: port.number() }
    }
}

/// As the elements of a set in nft's language: `22, 8000-8100` or `10.0.0.0/8, 10.9.0.1`.
impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(first, last)) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let text = |value: u128| match self.key {
                Key::Port => value.to_string(),
                Key::Ipv4 | Key::Ipv6 => self.key.address(value).to_string(),
            };
            match (first == last, self.prefix(first, last)) {
                (true, _) => write!(f, "{comma}{}", text(first))?,
                (false, Some(prefix)) => write!(f, "{comma}{}/{prefix}", text(first))?,
                (false, None) => write!(f, "{comma}{}-{}", text(first), text(last))?,
            }
        }
        Ok(())
    }
}

impl Intervals {
    /// The length of the prefix that an interval is all of, where it is one.
    fn prefix(&self, first: u128, last: u128) -> Option<u32> {
        let host_bits = first ^ last;
        let is_network = host_bits & host_bits.wrapping_add(1) == 0 && first & host_bits == 0;
        (is_network && self.key != Key::Port)
            .then(|| self.key.bits() - (128 - host_bits.leading_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> String {
        let ranges = text.split(',').map(|item| item.parse().expect("a range"));
        Intervals::of_ports(&ranges.collect::<Vec<PortRange>>()).to_string()
    }

    #[test]
    fn ranges_of_ports_are_merged_where_they_overlap_or_touch() {
        for (given, merged) in [
            ("22", "22"),
            ("8000-8100", "8000-8100"),
            ("8000-8100,22", "22, 8000-8100"),
            ("8000-8100,8050-8200,8201", "8000-8201"),
            ("22,22,22", "22"),
            ("1-65535,80", "1-65535"),
        ] {
            assert_eq!(ports(given), merged, "{given}");
        }
    }

    #[test]
    fn what_is_no_range_of_ports_is_refused_with_what_would_be_right() {
        for (given, right) in [
            ("0", "from 1 to 65535"),
            ("65536", "from 1 to 65535"),
            ("ssh", "such as 22 or 8000-8100"),
            ("", "such as 22 or 8000-8100"),
            ("80-", "such as 22 or 8000-8100"),
            ("8100-8000", "use 8000-8100"),
        ] {
            let error = given.parse::<PortRange>().expect_err("it is wrong");
            assert!(error.contains(right), "{given}: {error}");
        }
    }

    #[test]
    fn networks_of_both_families_are_told_apart_and_merged() {
        let given = ["10.0.0.0/9", "10.128.0.0/9", "fd00::/8", "192.0.2.7", "10.1.0.0/16", "::1"];
        let networks: Vec<Cidr> = given.iter().map(|text| text.parse().expect("a CIDR")).collect();
        let of = |key| Intervals::of_networks(key, &networks).to_string();
        assert_eq!(of(Key::Ipv4), "10.0.0.0/8, 192.0.2.7");
        assert_eq!(of(Key::Ipv6), "::1, fd00::/8");
        let adjacent = ["10.0.1.0/24", "10.0.2.0/24"].map(|text| text.parse().expect("a CIDR"));
        let range = Intervals::of_networks(Key::Ipv4, &adjacent).to_string();
        assert_eq!(range, "10.0.1.0-10.0.2.255");
        for all in ["0.0.0.0/0", "::/0"] {
            let cidr: Cidr = all.parse().expect("a CIDR");
            let intervals = Intervals::of_networks(cidr.key(), &[cidr]);
            assert_eq!(intervals.to_string(), all);
            assert!(intervals.contains(intervals.key.greatest()));
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_would_be_right() {
        for (given, right) in [
            ("10.0.0.0/33", "such as 10.0.0.0/8"),
            ("fd00::/129", "such as 10.0.0.0/8"),
            ("10.0.0/8", "such as 10.0.0.0/8"),
            ("example.com", "such as 10.0.0.0/8"),
            ("10.0.0.1/8", "use 10.0.0.0/8 for the network, 10.0.0.1 for"),
            ("fd00::1/64", "use fd00::/64 for the network, fd00::1 for"),
        ] {
            let error = given.parse::<Cidr>().expect_err("it is wrong");
            assert!(error.contains(right), "{given}: {error}");
        }
    }
}
