//! What a rule does to the requests that it takes, and to the responses of its backends.
//!
//! Comes in: the fields of a head. Goes out: the same, modified. It never touches what concerns one connection or the
//! framing of one message, nor what sidecars say to each other: [`weft_proto::untouchable`] names these fields, and
//! no compiled filter has one of them.

use http::{HeaderName, HeaderValue};

use super::{mirror::Mirror, redirect::Redirect, rewrite::Rewrite};
use crate::http::{Fields, fields::SpeltName};

/// A filter.
#[derive(Debug)]
pub enum Filter {
    /// Modifies the request's fields.
    RequestHeaders(HeaderModifier),
    /// Modifies the fields of the backend's final response; what the proxy answers itself is left as it is.
    ResponseHeaders(HeaderModifier),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Changes the request's host or path.
    Rewrite(Rewrite),
    /// Sends a copy somewhere else, too.
    Mirror(Mirror),
}

/// First sets, then adds, then removes fields.
#[derive(Debug, Default)]
pub struct HeaderModifier {
    /// Instead of all fields of the name.
    pub set: Box<[Field]>,
    /// Beside them.
    pub add: Box<[Field]>,
    /// All fields of these names.
    pub remove: Box<[HeaderName]>,
}

/// A field to be written.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name, as the operator wrote it.
    pub name: SpeltName,
    /// Its value.
    pub value: HeaderValue,
}

impl HeaderModifier {
    /// Modifies these fields. Names keep the case in which the operator wrote them, where the codec can say it.
    pub fn apply(&self, fields: &mut Fields) {
        for field in &self.set {
            fields.insert_spelt(&field.name, field.value.clone());
        }
        for field in &self.add {
            fields.append_spelt(field.name.clone(), field.value.clone());
        }
        for name in &self.remove {
            fields.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &'static str, value: &'static str) -> Field {
        let name = SpeltName::read(name.as_bytes()).expect("a name");
        Field { name, value: HeaderValue::from_static(value) }
    }

    fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
        fields.get_all(name).map(|value| value.to_str().expect("text")).collect()
    }

    #[test]
    fn fields_are_set_then_added_then_removed() {
        let modifier = HeaderModifier {
            set: [field("x-set", "new"), field("x-gone", "1")].into(),
            add: [field("x-add", "two"), field("x-fresh", "one")].into(),
            remove: [HeaderName::from_static("x-gone"), HeaderName::from_static("x-absent")].into(),
        };
        let mut fields = Fields::new();
        for (name, value) in [("x-set", "a"), ("x-set", "b"), ("x-add", "one"), ("x-gone", "0")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        modifier.apply(&mut fields);
        assert_eq!(values(&fields, "x-set"), ["new"]);
        assert_eq!(values(&fields, "x-add"), ["one", "two"]);
        assert_eq!(values(&fields, "x-fresh"), ["one"]);
        assert!(values(&fields, "x-gone").is_empty());
    }

    #[test]
    fn names_keep_the_case_in_which_they_were_written() {
        let mut fields = Fields::new();
        fields.append_spelt(field("X-ONE", "").name, HeaderValue::from_static("1"));
        let modifier = HeaderModifier {
            set: [field("X-One", "2")].into(),
            add: [field("X-Two", "2"), field("X-TWO", "3")].into(),
            remove: [].into(),
        };
        modifier.apply(&mut fields);
        let names: Vec<_> =
            fields.into_iter().map(|field| format!("{:?}", field.spelt())).collect();
        assert_eq!(names, ["X-One", "X-Two", "X-TWO"]);
    }
}
