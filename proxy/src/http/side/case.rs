//! The case of HTTP/1's names beside fields that travel by HTTP/2: the field `weft-case`.
//!
//! In come fields whose names have a spelling, out goes one more field, and at the other end the spelling again. It has the names
//! that are not all lower case, separated by commas, in the order of the fields: so all of them are found in one go. It can only
//! re-case names that are there, each once; malformed, it counts for nothing.
//!
//! An application spells its names alike in each message. So a thread keeps the last maps, as text and as names, and mostly
//! neither is made anew. What is kept says how names are spelt and nothing of a message.

use std::{cell::RefCell, collections::VecDeque};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::MAX_BYTES;
use crate::http::{
    Fields,
    fields::{Field, SpeltName},
};

/// How the names of the fields were written.
pub const CASE: HeaderName = HeaderName::from_static("weft-case");

/// Names that are not there, at most: each is looked for among all fields.
const MAX_ABSENT: usize = 8;
/// Maps that are kept, each of so many bytes at most: some KiB in all, and 100 KiB where a peer makes them of single letters.
const KEPT: usize = 8;
const MAX_KEPT_BYTES: usize = 512;

thread_local! {
    /// The newest last.
    static MAPS: RefCell<VecDeque<CaseMap>> = const { RefCell::new(VecDeque::new()) };
}

/// A case map, as it travels and as it is meant.
#[derive(Debug)]
struct CaseMap {
    text: HeaderValue,
    names: Vec<SpeltName>,
}

/// Writes the case of the fields' names beside them, for the other sidecar.
pub fn put_case(fields: &mut Fields) {
    if !fields.into_iter().any(is_said) {
        return;
    }
    let text = MAPS.with_borrow_mut(|maps| {
        let is_of_these = |map: &&CaseMap| {
            let said = fields.into_iter().filter(|field| is_said(field));
            map.names.iter().eq(said.map(Field::spelt))
        };
        match maps.iter().find(is_of_these) {
            Some(map) => Some(map.text.clone()),
            None => written(fields, maps),
        }
    });
    if let Some(text) = text {
        fields.insert(CASE, text);
    }
}

/// Takes the case of the fields' names as the other sidecar sent it.
pub fn take_case(fields: &mut Fields) {
    let Some(text) = fields.remove(CASE).filter(|text| text.len() <= MAX_BYTES) else { return };
    MAPS.with_borrow_mut(|maps| {
        if let Some(map) = maps.iter().find(|map| map.text == text) {
            return apply(&map.names, fields);
        }
        let Some(names) = read(&text) else { return };
        apply(&names, fields);
        // Only such as this side would write itself.
        if !names.iter().any(SpeltName::is_lower) {
            keep(maps, CaseMap { text, names });
        }
    });
}

/// Names in lower case need no word, and HTTP/2 has the host as `:authority`.
fn is_said(field: &Field) -> bool {
    !field.spelt().is_lower() && *field.name() != header::HOST
}

/// A new map of these fields; what does not fit is left out.
fn written(fields: &Fields, maps: &mut VecDeque<CaseMap>) -> Option<HeaderValue> {
    let (mut text, mut names, mut is_whole) = (Vec::new(), Vec::new(), true);
    for field in fields.into_iter().filter(|field| is_said(field)) {
        if text.len() + field.name().as_str().len() <= MAX_BYTES {
            field.spelt().write(&mut text);
            text.push(b',');
            names.push(field.spelt().clone());
        } else {
            is_whole = false;
        }
    }
    if names.is_empty() {
        return None;
    }
    // Behind the last comma is nothing.
    text.pop();
    let text = HeaderValue::from_maybe_shared(Bytes::from(text)).ok()?;
    // Else it would never be found again.
    if is_whole {
        keep(maps, CaseMap { text: text.clone(), names });
    }
    Some(text)
}

/// The names of a map; `None` where it is malformed.
fn read(text: &HeaderValue) -> Option<Vec<SpeltName>> {
    text.as_bytes().split(|&byte| byte == b',').map(SpeltName::read).collect()
}

fn apply(names: &[SpeltName], fields: &mut Fields) {
    let (mut next, mut absent) = (0, 0);
    // A name in lower case says nothing.
    for name in names.iter().filter(|name| !name.is_lower()) {
        match fields.respell(next, name) {
            Some(place) => next = place + 1,
            None if absent == MAX_ABSENT => return,
            None => absent += 1,
        }
    }
}

fn keep(maps: &mut VecDeque<CaseMap>, mut map: CaseMap) {
    map.text.set_sensitive(false);
    if map.text.len() > MAX_KEPT_BYTES {
        return;
    }
    if maps.len() == KEPT {
        maps.pop_front();
    }
    maps.push_back(map);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields whose names are written so.
    fn spelt(names: &[&str]) -> Fields {
        let mut fields = Fields::new();
        for name in names {
            let name = SpeltName::read(name.as_bytes()).expect("a name");
            fields.append_spelt(name, HeaderValue::from_static("x"));
        }
        fields
    }

    /// The names as HTTP/1 would write them.
    fn names(fields: &Fields) -> String {
        let names: Vec<_> =
            fields.into_iter().map(|field| format!("{:?}", field.spelt())).collect();
        names.join(" ")
    }

    /// The names as they come back behind a hop that knows lower case only.
    fn there_and_back(written: &[&str]) -> String {
        let mut sent = spelt(written);
        put_case(&mut sent);
        let mut received: Fields =
            sent.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        take_case(&mut received);
        assert!(!received.contains_key(CASE));
        names(&received)
    }

    #[test]
    fn the_case_of_names_comes_back() {
        for written in [
            &["Accept", "X-API-Key", "lower", "ETag"][..],
            &["Accept", "X-API-Key", "lower", "etag"],
            &["accept", "X-Api-Key"],
            &["Set-Cookie", "SET-cookie"],
            &["lower"],
        ] {
            // The second time the maps are known.
            for _ in 0..2 {
                assert_eq!(there_and_back(written), written.join(" "));
            }
        }
        // A field in lower case is not told apart from one of its name that is not.
        assert_eq!(there_and_back(&["Via", "via", "VIA"]), "Via VIA via");
    }

    #[test]
    fn maps_that_are_no_longer_known_are_made_anew() {
        for number in (0..3 * KEPT).chain(0..3 * KEPT) {
            let name = format!("X-{number}");
            assert_eq!(there_and_back(&["Accept", &name]), format!("Accept {name}"));
        }
        MAPS.with_borrow(|maps| assert_eq!(maps.len(), KEPT));
    }

    #[test]
    fn the_host_is_left_out_as_it_is_no_field_of_http_2() {
        let mut fields = spelt(&["Host", "Accept"]);
        put_case(&mut fields);
        assert_eq!(fields[CASE], "Accept");
        let mut fields = spelt(&["Host"]);
        put_case(&mut fields);
        assert!(!fields.contains_key(CASE));
    }

    #[test]
    fn a_case_map_says_as_much_as_fits() {
        let name = "X-".to_owned() + &"a".repeat(1000);
        for _ in 0..2 {
            let mut fields = spelt(&[&name, &name, &name, &name, &name, "Accept"]);
            put_case(&mut fields);
            assert_eq!(fields[CASE], [name.as_str(), &name, &name, &name, "Accept"].join(","));
        }
        // It would be found for other fields only.
        MAPS.with_borrow(|maps| assert_eq!(maps.len(), 0));
        let mut fields = spelt(&[&("X-".to_owned() + &"a".repeat(MAX_BYTES))]);
        put_case(&mut fields);
        assert!(!fields.contains_key(CASE));
    }

    #[test]
    fn a_hostile_case_map_counts_for_nothing() {
        let long = vec!["Host"; MAX_BYTES].join(",");
        let absent = "Absent,".repeat(MAX_ABSENT) + "Host";
        let too_many_absent = "Absent,".repeat(MAX_ABSENT + 1) + "Host";
        for (value, expected) in [
            ("Host", "Host"),
            ("Host,HOST,hOST", "Host"),
            ("host,Host", "Host"),
            ("host", "host"),
            ("Absent", "host"),
            ("Absent,Host", "Host"),
            ("Host,", "host"),
            ("Host: x,Host", "host"),
            ("Host,Host: x", "host"),
            ("Host Accept", "host"),
            ("", "host"),
            (&long, "host"),
            (&absent, "Host"),
            (&too_many_absent, "host"),
        ] {
            for _ in 0..2 {
                let mut fields = spelt(&["host"]);
                fields.insert(CASE, HeaderValue::from_str(value).expect("a value"));
                take_case(&mut fields);
                assert_eq!(names(&fields), expected, "{value:?}");
            }
        }
    }

    #[test]
    fn without_capitals_there_is_no_case_map() {
        let mut fields = spelt(&["host"]);
        put_case(&mut fields);
        assert!(!fields.contains_key(CASE));
    }
}
