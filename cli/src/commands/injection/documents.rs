//! Manifests as text: a file comes in and is taken apart into documents, each with its own text; changed or not, they are
//! put together again. The text of a document that nobody changed comes out byte for byte.

use anyhow::Context as _;
use serde_norway::Value;
use weft_control_plane::model::locate::locate;

use super::{order::in_order, yaml};
use crate::{command::Form, failure::Failure};

/// A file's text, taken apart.
pub(super) struct File<'a> {
    form: Form,
    text: &'a str,
    pub(super) documents: Vec<Document<'a>>,
}

/// One document.
pub(super) struct Document<'a> {
    /// Its text, with the `---` before it. JSON keeps none: a JSON file is written as a whole.
    text: &'a str,
    /// How many lines of the file stand before it.
    lines_before: usize,
    value: Value,
    is_changed: bool,
}

impl<'a> File<'a> {
    /// Reads a file's text.
    pub(super) fn read(name: &str, text: &'a str) -> anyhow::Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with('{')
            && let Some(documents) = json_documents(text)
        {
            return Ok(Self { form: Form::Json, text, documents });
        }
        let mut documents = Vec::new();
        let mut lines_before = 0;
        for segment in segments(text) {
            let value = yaml::read(segment).map_err(|error| {
                let line = lines_before + error.location().map_or(1, |at| at.line());
                let what = format!("{name}:{line}: is no YAML: {error}");
                let next = if segment.contains("{{") {
                    "a Helm chart's templates are rendered first: helm template CHART | weft inject -"
                } else {
                    "`---` stands between two documents; indent with blanks"
                };
                Failure::new(what, next)
            })?;
            documents.push(Document { text: segment, lines_before, value, is_changed: false });
            lines_before += segment.matches('\n').count();
        }
        Ok(Self { form: Form::Yaml, text, documents })
    }
}

impl Document<'_> {
    /// The object as JSON; null for an empty document.
    pub(super) fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::to_value(&self.value).context("an object cannot be read as JSON")
    }

    /// The line of the file on which a field stands.
    pub(super) fn line(&self, field: &str) -> usize {
        self.lines_before + locate(self.text, 0, field).max(1)
    }

    /// Puts another object in its place; what is as before keeps its place and its form.
    pub(super) fn change(&mut self, object: &serde_json::Value) -> anyhow::Result<()> {
        self.value = in_order(object, &self.value)?;
        self.is_changed = true;
        Ok(())
    }

    /// What stands before the object: the separator, directives and comments.
    fn head(&self) -> &str {
        let mut end = 0;
        for line in self.text.split_inclusive('\n') {
            let is_head = is_separator(line) && line.trim_end() == "---";
            if !is_head && !is_aside(line) {
                break;
            }
            end += line.len();
        }
        &self.text[..end]
    }
}

/// All objects, as they are to be written.
#[derive(Default)]
pub(super) struct Written {
    pub(super) text: String,
}

impl Written {
    /// Adds a file, in the form asked for or in its own.
    pub(super) fn add(&mut self, file: &File<'_>, form: Option<Form>) -> anyhow::Result<()> {
        let is_changed = file.documents.iter().any(|document| document.is_changed);
        match (file.form, form.unwrap_or(file.form)) {
            (Form::Json, Form::Json) if !is_changed => self.json(file.text),
            (_, Form::Json) => {
                for document in file.documents.iter().filter(|document| !document.value.is_null()) {
                    self.json(&(serde_json::to_string_pretty(&document.value)? + "\n"));
                }
            }
            (Form::Json, Form::Yaml) => {
                for document in &file.documents {
                    self.yaml(&yaml::write(&document.value)?);
                }
            }
            (Form::Yaml, Form::Yaml) => {
                let mut text = String::new();
                for document in &file.documents {
                    text.push_str(&document.written()?);
                }
                self.yaml(&text);
            }
        }
        Ok(())
    }

    fn json(&mut self, text: &str) {
        self.end_line();
        self.text.push_str(text);
    }

    /// Documents of two files are told apart as two documents of one are.
    fn yaml(&mut self, text: &str) {
        let first = text.split_inclusive('\n').find(|line| !is_aside(line));
        if !self.text.is_empty() && !first.is_none_or(is_separator) {
            self.end_line();
            self.text.push_str("---\n");
        }
        self.end_line();
        self.text.push_str(text);
    }

    fn end_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

impl Document<'_> {
    fn written(&self) -> anyhow::Result<String> {
        if !self.is_changed {
            return Ok(self.text.to_owned());
        }
        let mut text = self.head().to_owned();
        if text.is_empty() && self.text.starts_with("---") {
            // The object stood on the separator's own line.
            text.push_str("---\n");
        }
        text.push_str(&yaml::write(&self.value)?);
        Ok(text)
    }
}

/// JSON objects, one after the other; none when it is not JSON after all (YAML has braces, too).
fn json_documents(text: &str) -> Option<Vec<Document<'_>>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let documents = values.map(|value| {
        value.map(|value| Document { text, lines_before: 0, value, is_changed: false })
    });
    documents.collect::<Result<_, _>>().ok()
}

/// The documents of YAML, each from its separator on. YAML lets no line begin so that is none.
fn segments(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    let mut has_content = false;
    for line in text.split_inclusive('\n') {
        // Comments and directives before the first separator belong to the document behind it.
        if is_separator(line) {
            if has_content {
                starts.push(at);
            }
            has_content = true;
        }
        has_content |= !is_aside(line);
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A line that says nothing: a comment, a directive, a blank one.
fn is_aside(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}
