//! The objects that a run begins with: a user's file or folder, or text of our own.
//!
//! Comes in: YAML, again whenever it changed. Goes out: the same files in the run's objects folder, where the
//! control plane takes them from, written only when every object in them is right. The user's files are never
//! written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use weft_control_plane::model::{Parsed, parse_documents};
use weft_proxy::clock;

use super::{
    check::{self, Placed},
    keep::Stop,
    logs::Logs,
};
use crate::{commands::objects::files, failure::Failure};

const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where the objects come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The user's file or folder.
    Path(PathBuf),
    /// Text under a file name.
    Text { name: String, text: String },
}

/// Files by name, with the name under which their errors are shown.
type Texts = BTreeMap<String, (String, String)>;

impl Source {
    /// The user's file or folder; or with `-` what stdin says, which is read once.
    pub(crate) fn given(path: PathBuf) -> anyhow::Result<Self> {
        if !files::is_stdin(&path) {
            return Ok(Self::Path(path));
        }
        let text = files::texts(&path)?.into_iter().map(|(_, text)| text).collect();
        Ok(Self::Text { name: "stdin".into(), text })
    }

    /// The folder in which relative paths begin.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = match self {
            Self::Path(path) if path.is_dir() => path.clone(),
            Self::Path(path) => path.parent().unwrap_or(Path::new("")).to_owned(),
            Self::Text { .. } => PathBuf::new(),
        };
        std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })
            .unwrap_or(folder)
    }

    /// The user's file or folder, for messages.
    pub(crate) fn original(&self) -> Option<PathBuf> {
        match self {
            Self::Path(path) => std::path::absolute(path).ok(),
            Self::Text { .. } => None,
        }
    }

    /// Reads and checks everything.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let texts = self.texts()?;
        let mut problems = Vec::new();
        let mut objects = Vec::new();
        for (shown, text) in texts.values() {
            for parsed in parse_documents(shown, text) {
                match parsed {
                    Ok(Parsed { object, line }) => {
                        objects.push(Placed { place: format!("{shown}:{line}"), object });
                    }
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        problems.extend(check::mistakes(&objects, &self.folder()));
        if !problems.is_empty() {
            let next = "correct the file; nothing of it is in force until then";
            return Err(Failure::new(problems.join("\n       "), next).into());
        }
        if objects.is_empty() {
            let what = "there is no object in what was given";
            let next = "write a Workload for each service: examples/shop.yaml shows how";
            return Err(Failure::new(what, next).into());
        }
        Ok(Loaded { texts, warnings: check::warnings(&objects) })
    }

    fn texts(&self) -> anyhow::Result<Texts> {
        let named = match self {
            Self::Text { name, text } => vec![(name.clone(), text.clone())],
            Self::Path(path) => files::texts(path)?,
        };
        Ok(named.into_iter().map(|(shown, text)| (file_name(&shown), (shown, text))).collect())
    }
}

/// The name in the objects folder: it must end as objects' files do.
fn file_name(shown: &str) -> String {
    let name = Path::new(shown).file_name().map(|name| name.to_string_lossy().into_owned());
    // Named by the user it is meant, though in the folder such names are passed over.
    let name = name.unwrap_or_else(|| "objects".into()).trim_start_matches(['.', '#']).to_owned();
    let known = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
    if known { name } else { format!("{name}.yaml") }
}

/// Checked texts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    texts: Texts,
    /// What will not work as it is written.
    warnings: Vec<String>,
}

impl Loaded {
    /// What will not work as it is written.
    #[cfg(test)]
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Tells of what will not work as it is written.
    pub(crate) fn warn(&self, logs: &Logs) {
        self.warnings.iter().for_each(|warning| logs.say(&format!("warning: {warning}")));
    }

    /// Makes the folder hold these texts and no others. Each file appears as a whole.
    pub(crate) fn write_to(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, (_, text)) in &self.texts {
            let unfinished = folder.join(format!(".{name}.unfinished"));
            fs::write(&unfinished, text)
                .and_then(|()| fs::rename(&unfinished, folder.join(name)))
                .with_context(|| format!("cannot write {}", folder.join(name).display()))?;
        }
        let kept: BTreeSet<&String> = self.texts.keys().collect();
        for entry in fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && !kept.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Carries every change of the source over until asked to stop. What is wrong is said once, and changes
/// nothing.
pub(crate) async fn follow(
    source: Source,
    mut present: Loaded,
    folder: PathBuf,
    logs: Logs,
    mut stop: Stop,
) {
    let mut said = String::new();
    loop {
        tokio::select! {
            () = stop.asked() => return,
            () = clock::sleep(LOOK_EVERY) => {}
        }
        let unchanged = source.texts().is_ok_and(|texts| texts == present.texts);
        if unchanged {
            said.clear();
            continue;
        }
        let taken = source.load().and_then(|loaded| {
            loaded.write_to(&folder)?;
            Ok(loaded)
        });
        match taken {
            Ok(loaded) => {
                present = loaded;
                logs.say("the file changed: its objects are in force");
                present.warn(&logs);
            }
            Err(error) if said == error.to_string() => {}
            Err(error) => {
                said = error.to_string();
                logs.say(&format!(
                    "the file changed, but {said}\n       its last good state stays in force"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::Text { name: "shop.yaml".into(), text: text.into() }
    }

    const GOOD: &str = "{apiVersion: weft.dev/v1alpha1, kind: Workload, metadata: {name: a}, spec: {command: [a]}}";

    #[test]
    fn what_is_wrong_is_named_with_file_and_object() {
        let bad = GOOD.replace("command", "comand");
        let error = source(&bad).load().expect_err("wrong").to_string();
        assert!(
            error.starts_with("shop.yaml:1: Workload a") && error.contains("comand"),
            "{error}"
        );
        assert!(source("# nothing\n").load().is_err());
    }

    #[test]
    fn a_mistake_between_objects_changes_nothing() {
        let twice = format!("{GOOD}\n---\n{GOOD}");
        let error = source(&twice).load().expect_err("twice").to_string();
        assert!(error.starts_with("shop.yaml:3: Workload default/a: "), "{error}");
        assert!(error.contains("shop.yaml:1"), "{error}");
    }

    #[test]
    fn the_folder_holds_exactly_what_was_loaded() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("old.yaml"), "old").expect("written");
        source(GOOD).load().expect("good").write_to(folder.path()).expect("written");
        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("listed")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, ["shop.yaml"]);
    }

    #[test]
    fn names_in_the_folder_end_as_objects_files_do() {
        for (shown, name) in [
            ("a/shop.yaml", "shop.yaml"),
            ("stdin", "stdin.yaml"),
            ("/x/.hidden.yml", "hidden.yml"),
            ("#a.yaml", "a.yaml"),
            ("a.yaml~", "a.yaml~.yaml"),
        ] {
            assert_eq!(file_name(shown), name);
        }
    }
}
