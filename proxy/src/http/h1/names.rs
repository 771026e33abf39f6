//! The names of fields that HTTP/1 messages have had: nearly all that come are among them.
//!
//! In comes a name as it is written, out goes the name and its spelling, read anew only where it is not known. A thread keeps a
//! few: what is not among them, or was pushed out, costs what reading a name costs. A name is known by all its bytes, so
//! that nothing of one message shows in another.

use std::cell::RefCell;

use crate::http::fields::SpeltName;

/// Names that are kept, one in each slot; a power of two.
const SLOTS: usize = 128;
/// Longer ones are not kept: with the slots this bounds the memory, 20 KiB a thread.
const MAX_BYTES: usize = 40;

/// Names that are known, each in the slot that its bytes say.
pub(super) struct Names([Option<Known>; SLOTS]);

struct Known {
    written: Box<[u8]>,
    name: SpeltName,
}

thread_local! {
    static NAMES: RefCell<Box<Names>> = RefCell::new(Box::new(Names([const { None }; SLOTS])));
}

impl Names {
    /// Gives `read` this thread's names.
    pub(super) fn with<T>(read: impl FnOnce(&mut Self) -> T) -> T {
        NAMES.with_borrow_mut(|names| read(names))
    }

    /// The name that is written so; `None` where that is none.
    pub(super) fn read(&mut self, written: &[u8]) -> Option<SpeltName> {
        let slot = &mut self.0[slot(written)];
        if let Some(known) = slot.as_ref().filter(|known| *known.written == *written) {
            return Some(known.name.clone());
        }
        let name = SpeltName::read(written)?;
        if written.len() <= MAX_BYTES {
            *slot = Some(Known { written: written.into(), name: name.clone() });
        }
        Some(name)
    }
}

/// Spreads the usual names: by their length and three of their bytes.
fn slot(written: &[u8]) -> usize {
    let len = written.len();
    let at = |place: usize| usize::from(written.get(place).copied().unwrap_or_default());
    // These factors were tried out.
    let sum = len * 60 + at(0) * 58 + at(len / 2) * 15 + at(len.wrapping_sub(3)) * 26;
    sum % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_alike_when_it_is_known() {
        for _ in 0..2 {
            for written in ["Host", "host", "HOST", "x-a", "X-A", &"a".repeat(MAX_BYTES + 1)] {
                let name = Names::with(|names| names.read(written.as_bytes()));
                assert_eq!(format!("{:?}", name.expect("a name")), written);
            }
            for written in ["", " ", "a b", "a:", "\u{e4}"] {
                assert_eq!(Names::with(|names| names.read(written.as_bytes())), None);
            }
        }
    }

    #[test]
    fn names_of_one_slot_are_told_apart() {
        let (one, other) = ("x-abcd-e", "x-abcd-f");
        assert_eq!(slot(one.as_bytes()), slot(other.as_bytes()));
        for written in [one, other, one, one] {
            let name = Names::with(|names| names.read(written.as_bytes()));
            assert_eq!(format!("{:?}", name.expect("a name")), written);
        }
    }

    #[test]
    fn the_usual_names_of_a_message_share_no_slot() {
        for usual in [
            "Host User-Agent Accept Accept-Encoding Accept-Language Content-Type Content-Length",
            "host user-agent accept accept-encoding accept-language content-type content-length",
            "Server Date Content-Type Content-Length Last-Modified Connection ETag Accept-Ranges",
            "Content-Type Content-Length Cache-Control Set-Cookie Vary Transfer-Encoding Connection",
        ] {
            let mut slots: Vec<_> = usual.split(' ').map(|name| slot(name.as_bytes())).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), usual.split(' ').count(), "{usual:?}");
        }
    }
}
