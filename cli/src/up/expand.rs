//! `$(NAME)` in commands and variables, as in Kubernetes: a known name becomes its value, an unknown one stays
//! as it is, `$$(NAME)` becomes a literal `$(NAME)`. Pure.

/// Replaces references in `text` by what `lookup` knows.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let (piece, used) = one(rest, &lookup);
        expanded.push_str(&piece);
        rest = &rest[used..];
    }
    expanded.push_str(rest);
    expanded
}

/// What the text that begins with `$` begins with, and how many of its bytes that takes.
fn one(text: &str, lookup: &impl Fn(&str) -> Option<String>) -> (String, usize) {
    if text.starts_with("$$") {
        return ("$".into(), 2);
    }
    let reference = text.strip_prefix("$(").and_then(|inner| inner.split_once(')'));
    match reference {
        Some((name, _)) => {
            let written = &text[..name.len() + "$()".len()];
            (lookup(name).unwrap_or_else(|| written.to_owned()), written.len())
        }
        None => ("$".into(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let lookup = |name: &str| match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("--port=$(PORT)", "--port=8080"),
            ("$(PORT)$(PORT)", "80808080"),
            ("[$(EMPTY)]", "[]"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(PORT)", "$(PORT)"),
            ("$$$(PORT)", "$8080"),
            ("$$$$(PORT)", "$$(PORT)"),
            ("$PORT ${PORT}", "$PORT ${PORT}"),
            ("$(PORT", "$(PORT"),
            ("end$", "end$"),
            ("ä$(PORT)ö", "ä8080ö"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
