//! Prometheus' text format, as far as sidecars write it: text comes in, samples go out. Pure. Lines that are
//! no samples are skipped: a scrape is better read in part than not at all.

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    /// The value of a label; empty when there is none.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Every sample of a scrape.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(sample).collect()
}

/// `NAME{LABEL="VALUE",…} VALUE`, perhaps with a time and an exemplar behind.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

type Labels = Vec<(String, String)>;

/// The labels up to the closing brace, and what stands behind it.
fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        labels.push((name.trim().to_owned(), value));
        rest = behind;
    }
}

/// A value up to its closing quote, with `\\`, `\"` and `\n` resolved, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_name_labels_and_value() {
        let text = r#"
# HELP weft_requests Requests that ended.
# TYPE weft_requests counter
weft_requests_total{direction="inbound",service="shop/cart:80",tls="mutual",status="200"} 42
weft_up 1
weft_bucket{le="+Inf"} 3 1700000000 # {trace="x"} 1
weft_sum 1.5e-3
weft_odd{text="a \"b\", {c} \\ \n",} 7
# EOF
"#;
        let samples = parse(text);
        let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
        assert_eq!(
            names,
            ["weft_requests_total", "weft_up", "weft_bucket", "weft_sum", "weft_odd"]
        );
        assert_eq!(samples[0].label("service"), "shop/cart:80");
        assert_eq!(samples[0].label("nothing"), "");
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [42.0, 1.0, 3.0, 0.0015, 7.0]);
        assert_eq!(samples[4].label("text"), "a \"b\", {c} \\ \n");
    }

    #[test]
    fn what_is_no_sample_is_skipped() {
        for line in
            ["", "name", "name{", "name{a=\"b", "name{a=\"b\"}", "name x", "{} 1 2 3}", "name{a} 1"]
        {
            let names: Vec<String> = parse(line).into_iter().map(|sample| sample.name).collect();
            assert!(names.iter().all(String::is_empty), "{line}: {names:?}");
        }
    }
}
