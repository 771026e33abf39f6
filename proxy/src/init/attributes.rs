//! Netlink attributes: written, read, and compared.
//!
//! An attribute is two lengths of two bytes (its own length with this head, its type), a value, and zeros up to a
//! multiple of four bytes; a nested one's value is attributes again. What is read comes from the kernel, and is
//! read without trust in its lengths all the same.

use super::nf_tables::{NLA_F_NESTED, NLA_F_NET_BYTEORDER};

const HEAD: usize = 4;
/// An attribute's type, without its flags.
const TYPE: u16 = !(NLA_F_NESTED | NLA_F_NET_BYTEORDER);

/// Attributes, as they are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(HEAD + value.len())
            .expect("lists are bounded by MOST_ITEMS, and nothing else here is long");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number in network byte order, as nf_tables has all of its own.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A text, which ends with a zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn followed_by(mut self, others: &Self) -> Self {
        self.0.extend(&others.0);
        self
    }

    pub(crate) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }
}

/// The attributes in some bytes: type without flags, and value. Ends where the bytes make no sense.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    read_with_flags(bytes).map(|(kind, value)| (kind & TYPE, value))
}

fn read_with_flags(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text attribute's value.
pub(crate) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = find(bytes, kind)?;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// A number attribute's value.
pub(crate) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.first_chunk().map(|value| u32::from_be_bytes(*value))
}

/// Whether `found` says all that `wanted` says: each attribute, with this value, as often and in this order. The
/// kernel may say more, such as handles and counts.
pub(crate) fn holds(wanted: &Attributes, found: &[u8]) -> bool {
    holds_bytes(&wanted.0, found)
}

fn holds_bytes(wanted: &[u8], found: &[u8]) -> bool {
    let mut wanted: Vec<_> = read_with_flags(wanted).collect();
    let is_wanted = |kind| wanted.iter().any(|(other, _)| other & TYPE == kind);
    let mut found: Vec<_> = read(found).filter(|(kind, _)| is_wanted(*kind)).collect();
    // The types come in whatever order; what is of one type is a list, whose order counts.
    wanted.sort_by_key(|(kind, _)| kind & TYPE);
    found.sort_by_key(|(kind, _)| *kind);
    wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(&(kind, wanted), &(other, found))| {
            let is_nested = kind & NLA_F_NESTED != 0;
            kind & TYPE == other
                && if is_nested { holds_bytes(wanted, found) } else { wanted == found }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: [u32; 2]) -> Attributes {
        let list = Attributes::new().number(1, values[0]).number(1, values[1]);
        Attributes::new().text(2, "weft").nested(4, &list)
    }

    #[test]
    fn attributes_are_padded_to_four_bytes_and_read_back() {
        let attributes = Attributes::new().bytes(3, &[7]).text(5, "weft").number(6, 258);
        let expected = [
            &[5_u8, 0, 3, 0, 7, 0, 0, 0][..],
            &[9, 0, 5, 0, b'w', b'e', b'f', b't', 0, 0, 0, 0],
            &[8, 0, 6, 0, 0, 0, 1, 2],
        ];
        // Lengths and types are in the machine's byte order.
        if cfg!(target_endian = "little") {
            assert_eq!(attributes.as_bytes(), expected.concat());
        }
        assert_eq!(find(attributes.as_bytes(), 3), Some(&[7][..]));
        assert_eq!(text(attributes.as_bytes(), 5), Some("weft"));
        assert_eq!(number(attributes.as_bytes(), 6), Some(258));
        assert_eq!(find(attributes.as_bytes(), 7), None);
    }

    #[test]
    fn what_is_cut_short_is_read_as_far_as_it_goes() {
        let whole = Attributes::new().text(1, "a").text(2, "b");
        for length in 0..whole.as_bytes().len() {
            let read: Vec<_> = read(&whole.as_bytes()[..length]).collect();
            assert!(read.len() <= 1 || length >= 14, "{length}: {read:?}");
        }
        assert_eq!(read(&[3, 0, 0, 0]).count(), 0, "shorter than its head");
        assert_eq!(read(&[200, 0, 0, 0, 1]).count(), 0, "longer than the bytes");
    }

    #[test]
    fn more_may_be_said_but_nothing_else() {
        let wanted = list([1, 2]);
        let more = Attributes::new().number(9, 77).text(2, "weft");
        let more = more.nested(4, &Attributes::new().number(1, 1).number(3, 5).number(1, 2));
        assert!(holds(&wanted, wanted.as_bytes()));
        assert!(holds(&wanted, more.as_bytes()));
        assert!(!holds(&wanted, list([2, 1]).as_bytes()), "another order");
        assert!(!holds(&wanted, list([1, 3]).as_bytes()), "another value");
        let longer = Attributes::new().number(1, 1).number(1, 2).number(1, 3);
        let longer = Attributes::new().text(2, "weft").nested(4, &longer);
        assert!(!holds(&wanted, longer.as_bytes()), "one more of a list");
        assert!(!holds(&wanted, Attributes::new().text(2, "weft").as_bytes()), "no list");
    }
}
