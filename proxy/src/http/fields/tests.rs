//! A list of fields against `http::HeaderMap`, which says what must come of each operation, and the order, which it does not.

use http::{HeaderMap, header};
use proptest::prelude::*;

use super::*;

/// Few names, so that they meet: standard ones, others, one the beginning of another.
const NAMES: [HeaderName; 6] = [
    header::HOST,
    header::COOKIE,
    header::ACCEPT,
    HeaderName::from_static("x-a"),
    HeaderName::from_static("x-a-b"),
    HeaderName::from_static("weft-case"),
];

#[derive(Debug, Clone)]
enum Step {
    Insert(usize, u16),
    InsertSpelt(usize, u16),
    Append(usize, u16),
    AppendSpelt(usize, u16),
    Remove(usize),
    Retain(u8),
    Respell(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        (name(), any::<u16>()).prop_map(|(name, value)| Step::Insert(name, value)),
        (name(), any::<u16>()).prop_map(|(name, value)| Step::InsertSpelt(name, value)),
        (name(), any::<u16>()).prop_map(|(name, value)| Step::Append(name, value)),
        (name(), any::<u16>()).prop_map(|(name, value)| Step::AppendSpelt(name, value)),
        name().prop_map(Step::Remove),
        any::<u8>().prop_map(Step::Retain),
        (0..8_usize, name()).prop_map(|(from, name)| Step::Respell(from, name)),
    ]
}

fn spelt(written: &str) -> SpeltName {
    SpeltName::read(written.as_bytes()).expect("a name")
}

/// Does the same to both.
fn take(step: &Step, fields: &mut Fields, map: &mut HeaderMap) {
    let upper = |name: &HeaderName| spelt(&name.as_str().to_ascii_uppercase());
    match *step {
        Step::Insert(name, value) => {
            let (name, value) = (&NAMES[name], HeaderValue::from(value));
            assert_eq!(fields.insert(name, value.clone()), map.insert(name, value));
        }
        Step::InsertSpelt(name, value) => {
            let (name, value) = (&NAMES[name], HeaderValue::from(value));
            fields.insert_spelt(&upper(name), value.clone());
            map.insert(name, value);
        }
        Step::Append(name, value) => {
            let (name, value) = (&NAMES[name], HeaderValue::from(value));
            fields.append(name, value.clone());
            map.append(name, value);
        }
        Step::AppendSpelt(name, value) => {
            let (name, value) = (&NAMES[name], HeaderValue::from(value));
            fields.append_spelt(upper(name), value.clone());
            map.append(name, value);
        }
        Step::Remove(name) => {
            assert_eq!(fields.remove(&NAMES[name]), map.remove(&NAMES[name]));
        }
        Step::Retain(wanted) => {
            let is_wanted = |name: &HeaderName| {
                NAMES.iter().position(|known| known == name).is_some_and(|at| wanted >> at & 1 == 1)
            };
            fields.retain(is_wanted);
            for name in NAMES.iter().filter(|name| !is_wanted(name)) {
                map.remove(name);
            }
        }
        Step::Respell(from, name) => {
            let place = fields.keys().skip(from).position(|known| *known == NAMES[name]);
            let expected = place.map(|place| from + place);
            assert_eq!(fields.respell(from, &upper(&NAMES[name])), expected);
        }
    }
}

fn check_alike(fields: &Fields, map: &HeaderMap) {
    assert_eq!(fields.len(), map.len());
    assert_eq!(fields.is_empty(), map.is_empty());
    for name in &NAMES {
        assert_eq!(fields.get(name), map.get(name), "{name}");
        assert_eq!(fields.contains_key(name.as_str()), map.contains_key(name), "{name}");
        assert!(fields.get_all(name).eq(map.get_all(name)), "{name}");
    }
    // A spelling never makes another name of one.
    for field in fields {
        assert_eq!(spelt(&format!("{:?}", field.spelt())).name(), field.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_list_does_what_a_map_does(steps in prop::collection::vec(step(), 0..40)) {
        let (mut fields, mut map) = (Fields::new(), HeaderMap::new());
        for step in &steps {
            take(step, &mut fields, &mut map);
            check_alike(&fields, &map);
        }
    }

    #[test]
    fn what_stays_keeps_its_order(steps in prop::collection::vec(step(), 0..40)) {
        let (mut fields, mut map) = (Fields::new(), HeaderMap::new());
        for step in &steps {
            let before: Vec<HeaderName> = fields.keys().cloned().collect();
            take(step, &mut fields, &mut map);
            let mut rest = before.iter();
            let added = fields.keys().filter(|name| !rest.any(|other| other == *name)).count();
            prop_assert!(added <= 1, "{:?} made {:?} of {:?}", step, fields, before);
        }
    }
}

fn lines(fields: &Fields) -> Vec<String> {
    fields.into_iter().map(|field| format!("{field:?}").replace('"', "")).collect()
}

fn three() -> Fields {
    let mut fields = Fields::new();
    fields.append_spelt(spelt("ETag"), HeaderValue::from_static("1"));
    fields.append_spelt(spelt("VIA"), HeaderValue::from_static("2"));
    fields.append_spelt(spelt("Etag"), HeaderValue::from_static("3"));
    fields
}

#[test]
fn a_value_that_is_replaced_stays_where_it_stood_and_as_it_was_written() {
    let mut fields = three();
    assert_eq!(fields.insert("etag", HeaderValue::from_static("4")), Some("1".parse().expect("1")));
    assert_eq!(lines(&fields), ["ETag: 4", "VIA: 2"]);
    fields.insert_spelt(&spelt("ETAG"), HeaderValue::from_static("5"));
    assert_eq!(lines(&fields), ["ETAG: 5", "VIA: 2"]);
    fields.insert_spelt(&spelt("aGE"), HeaderValue::from_static("6"));
    assert_eq!(lines(&fields), ["ETAG: 5", "VIA: 2", "aGE: 6"]);
}

#[test]
fn each_field_of_a_name_keeps_its_own_spelling() {
    let mut fields = three();
    assert_eq!(lines(&fields), ["ETag: 1", "VIA: 2", "Etag: 3"]);
    assert_eq!(fields.respell(1, &spelt("etAG")), Some(2));
    assert_eq!(fields.respell(3, &spelt("etAG")), None);
    assert_eq!(fields.respell(4, &spelt("etAG")), None);
    assert_eq!(lines(&fields), ["ETag: 1", "VIA: 2", "etAG: 3"]);
}
