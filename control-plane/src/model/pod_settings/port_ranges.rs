//! A list of ports and ranges of ports, "22,8000-8100": text comes in, sorted ranges that do not touch each
//! other go out. The empty text is the empty list.

use std::{fmt, str::FromStr};

use weft_proto::Port;

/// Ports, as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PortRanges(Vec<(u16, u16)>);

impl PortRanges {
    /// Whether the port is one of them.
    #[must_use]
    pub fn contains(&self, port: Port) -> bool {
        let number = port.number();
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }

    /// Whether no port is listed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ports they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|(first, last)| usize::from(last - first) + 1).sum()
    }

    /// Every single port, in order.
    pub fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last).filter_map(Port::new)
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last {
                write!(f, "{first}")?;
            } else {
                write!(f, "{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// What a list looks like, for errors.
const FORM: &str = "use ports and ranges from 1 to 65535, such as \"22,8000-8100\"";

impl FromStr for PortRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut ranges =
            text.split(',').map(|item| range(item.trim())).collect::<Result<Vec<_>, _>>()?;
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Ok(Self(joined))
    }
}

fn range(item: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        text.trim()
            .parse()
            .map(Port::number)
            .map_err(|_| format!("{item:?} is no port or range: {FORM}"))
    };
    let (first, last) = match item.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(item)?, port(item)?),
    };
    if first > last {
        return Err(format!("{item:?} ends before it begins: use \"{last}-{first}\""));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_joined_and_written_back() {
        for (text, written, count) in [
            ("", "", 0),
            (" ", "", 0),
            ("22", "22", 1),
            ("8000-8100, 22", "22,8000-8100", 102),
            ("5-7,1-5", "1-7", 7),
            ("1,2,3", "1-3", 3),
            ("9-9", "9", 1),
            ("1-65535,80", "1-65535", 65535),
        ] {
            let ranges: PortRanges = text.parse().unwrap();
            assert_eq!(ranges.to_string(), written, "{text:?}");
            assert_eq!(ranges.count(), count, "{text:?}");
            assert_eq!(ranges.ports().count(), count, "{text:?}");
            assert_eq!(ranges.is_empty(), count == 0, "{text:?}");
        }
    }

    #[test]
    fn a_port_is_found_in_its_range_and_not_beside_it() {
        let ranges: PortRanges = "22,8000-8100,65535".parse().unwrap();
        for (port, is_in) in [
            (1, false),
            (21, false),
            (22, true),
            (23, false),
            (7999, false),
            (8000, true),
            (8050, true),
            (8100, true),
            (8101, false),
            (65534, false),
            (65535, true),
        ] {
            assert_eq!(ranges.contains(Port::new(port).unwrap()), is_in, "{port}");
        }
        assert!(!PortRanges::default().contains(Port::new(80).unwrap()));
    }

    #[test]
    fn what_is_no_list_of_ports_is_refused_with_what_is() {
        for text in ["0", "x", "80-", "-80", "80,", "65536", "1-2-3", "080", "+80", "http"] {
            let error = text.parse::<PortRanges>().unwrap_err();
            assert!(error.contains("22,8000-8100"), "{text}: {error}");
        }
        let error = "90-80".parse::<PortRanges>().unwrap_err();
        assert!(error.contains("80-90"), "{error}");
    }
}
