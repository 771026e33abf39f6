//! YAML as `kubectl` reads it, which is YAML 1.1, by a library that knows 1.2: what means one thing to the one and another
//! to the other is read as `kubectl` would, and written so that both read the same.

use serde::Deserialize as _;
use serde_norway::{Mapping, Number, Value};

/// Stand around a text that is to be quoted, while the library writes it plain.
const OPEN: &str = "WEFT-QUOTE-OPENS-";
const CLOSE: &str = "-WEFT-QUOTE-CLOSES";

/// Reads one document.
pub(super) fn read(text: &str) -> Result<Value, serde_norway::Error> {
    let mut value = Value::deserialize(serde_norway::Deserializer::from_str(text))?;
    value.apply_merge()?;
    octal_modes(&mut value);
    Ok(value)
}

/// `defaultMode: 0644` is a number to `kubectl`, which reads YAML 1.1, and text in YAML 1.2. Quoted, as it would be
/// written again, the API server refuses it: so it becomes the number.
fn octal_modes(value: &mut Value) {
    match value {
        Value::Mapping(fields) => fields.iter_mut().for_each(|(field, value)| {
            let is_mode =
                field.as_str().is_some_and(|field| matches!(field, "defaultMode" | "mode"));
            match value.as_str().and_then(octal).filter(|_| is_mode) {
                Some(number) => *value = Value::Number(Number::from(number)),
                None => octal_modes(value),
            }
        }),
        Value::Sequence(items) => items.iter_mut().for_each(octal_modes),
        _ => {}
    }
}

fn octal(text: &str) -> Option<u64> {
    text.strip_prefix('0').and_then(|digits| u64::from_str_radix(digits, 8).ok())
}

/// Writes one document.
pub(super) fn write(value: &Value) -> Result<String, serde_norway::Error> {
    let text = serde_norway::to_string(&marked(value))?;
    Ok(text.replace(OPEN, "'").replace(CLOSE, "'"))
}

/// The value with a mark around every text that YAML 1.1 would take for a boolean or a number.
fn marked(value: &Value) -> Value {
    match value {
        Value::String(text) if is_ambiguous(text) => Value::String(format!("{OPEN}{text}{CLOSE}")),
        Value::Sequence(items) => Value::Sequence(items.iter().map(marked).collect()),
        Value::Mapping(fields) => {
            let fields = fields.iter().map(|(key, value)| (marked(key), marked(value)));
            Value::Mapping(fields.collect::<Mapping>())
        }
        other => other.clone(),
    }
}

/// Whether YAML 1.1 may take it for something else: `on`, `1_000`, `12:30`, `0b1`. No such text needs an escape between
/// quotes; and one that is quoted without need means the same.
fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 6] = ["y", "yes", "n", "no", "on", "off"];
    let is_numeric = |byte: u8| byte.is_ascii_hexdigit() || b"_:.+-xXoO".contains(&byte);
    let begins_as_number =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
        || (begins_as_number && text.bytes().all(is_numeric))
}
