//! `weft inject` and `weft uninject`: manifests come in, the same manifests with or without sidecars go to stdout, and
//! what became of each object to stderr. All else passes through byte for byte. When one object is refused, nothing is
//! written.

mod documents;
mod order;
mod yaml;

use std::collections::BTreeMap;

use serde_json::Value;
use weft_control_plane::{
    inject::{self, Context, Namespace, Outcome, Settings},
    model::{FieldError, PodSettings, pod_settings::PREFIX},
};

use self::documents::{Document, File};
use super::objects::files;
use crate::{
    command::{InjectArgs, ManifestArgs, UninjectArgs},
    failure::{AlreadyReported, Failure},
    output,
};

/// What becomes of one object.
enum Change {
    Changed { object: Value, warnings: Vec<String> },
    Left(String),
    Refused(Vec<FieldError>),
}

pub(crate) fn inject(args: &InjectArgs) -> anyhow::Result<()> {
    check_flags(args)?;
    let injection = Injection::new(args);
    run(&args.manifests, "injected", &|object| injection.inject(object))
}

pub(crate) fn uninject(args: &UninjectArgs) -> anyhow::Result<()> {
    run(&args.manifests, "uninjected", &undo)
}

/// What is the same for every object.
struct Injection {
    settings: Settings,
    /// Of objects that name none.
    namespace: String,
    overrides: BTreeMap<String, String>,
}

impl Injection {
    fn new(args: &InjectArgs) -> Self {
        let mut settings = Settings::default();
        if let Some(control_plane) = &args.control_plane {
            settings.control_plane.clone_from(control_plane);
        }
        Self { settings, namespace: args.namespace.clone(), overrides: args.settings.0.clone() }
    }

    fn inject(&self, object: &Value) -> Change {
        let name = namespace(object).unwrap_or(&self.namespace).to_owned();
        let context = Context {
            settings: &self.settings,
            namespace: &Namespace { name, ..Namespace::default() },
            asked: true,
            workload: "",
            overrides: &self.overrides,
        };
        match inject::inject_object(object, &context) {
            Outcome::Injected { object, warnings } => Change::Changed { object, warnings },
            Outcome::Left(reason) => Change::Left(reason.to_string()),
            Outcome::Refused(errors) => Change::Refused(errors),
        }
    }
}

fn undo(object: &Value) -> Change {
    match inject::undo_object(object) {
        Ok(Some(object)) => Change::Changed { object, warnings: Vec::new() },
        Ok(None) => Change::Left("it is not injected".to_owned()),
        Err(error) => Change::Refused(vec![error]),
    }
}

/// A flag's mistake is the flag's, not that of every object it would be written on.
fn check_flags(args: &InjectArgs) -> anyhow::Result<()> {
    let Err(errors) = PodSettings::parse(&args.settings.0, &BTreeMap::new()) else {
        return Ok(());
    };
    let named = errors.iter().map(|error| {
        let field = error.field.split(PREFIX).last().unwrap_or_default().trim_end_matches(']');
        format!("--{field}: {}", error.message)
    });
    let what = named.collect::<Vec<_>>().join("; ");
    Err(Failure::new(what, "`weft inject --help` lists the settings").into())
}

fn run(args: &ManifestArgs, done: &str, change: &dyn Fn(&Value) -> Change) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for path in &args.files {
        texts.extend(files::texts(path)?);
    }
    let mut report = Report { done, lines: Vec::new(), refusals: Vec::new() };
    let mut written = documents::Written::default();
    for (name, text) in &texts {
        let mut file = File::read(name, text)?;
        for document in &mut file.documents {
            treat_document(name, document, change, &mut report)?;
        }
        written.add(&file, args.output)?;
    }
    if !report.refusals.is_empty() {
        eprint!("{}", report.refusals.concat());
        return Err(AlreadyReported.into());
    }
    eprint!("{}", report.lines.concat());
    output::print(&written.text)
}

/// What is said of the objects, a line each.
struct Report<'a> {
    done: &'a str,
    lines: Vec<String>,
    refusals: Vec<String>,
}

/// Changes the objects of a document: its one, or a List's items.
fn treat_document(
    file: &str,
    document: &mut Document<'_>,
    change: &dyn Fn(&Value) -> Change,
    report: &mut Report<'_>,
) -> anyhow::Result<()> {
    let mut object = document.json()?;
    let is_list = object["kind"] == "List" && object["items"].is_array();
    let items: Vec<&mut Value> = if is_list {
        object["items"].as_array_mut().into_iter().flatten().collect()
    } else if object.is_null() {
        Vec::new()
    } else {
        vec![&mut object]
    };
    let mut is_changed = false;
    for (index, item) in items.into_iter().enumerate() {
        let called = called(item);
        match change(item) {
            Change::Changed { object, warnings } => {
                *item = object;
                is_changed = true;
                report.lines.push(format!("{called}: {}\n", report.done));
                let warnings = warnings.iter().map(|text| format!("warning: {called}: {text}\n"));
                report.lines.extend(warnings);
            }
            Change::Left(reason) => report.lines.push(format!("{called}: left alone: {reason}\n")),
            Change::Refused(errors) => {
                for error in errors {
                    let prefix = if is_list { format!("items[{index}].") } else { String::new() };
                    let line = document.line(&format!("{prefix}{}", error.field));
                    report.refusals.push(format!("{file}:{line}: {called}: {error}\n"));
                }
            }
        }
    }
    if is_changed {
        document.change(&object)?;
    }
    Ok(())
}

fn namespace(object: &Value) -> Option<&str> {
    object.pointer("/metadata/namespace").and_then(Value::as_str)
}

/// "Deployment shop/cart".
fn called(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or("object");
    let name = match inject::object::name(object) {
        name if name.is_empty() => "(unnamed)".to_owned(),
        name => name,
    };
    match namespace(object) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests;
