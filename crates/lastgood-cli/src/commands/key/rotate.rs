//! `lastgood key rotate`.

use std::path::{Path, PathBuf};

use lastgood::keys::{self, RotationPlan};
use lastgood::log::Entry;
use lastgood::{Credential, ErrorKind, Repository, opening, system};
use serde_json::{Map, Value, json};

use super::NewKey;
use crate::app::{App, beside};
use crate::failure::{Code, Failure};
use crate::settings::KeySource;
use crate::text;

/// Flags of `key rotate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    new: NewKey,
    /// Rotate it; without this flag, only say what would be done
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
}

impl Args {
    pub(super) fn run(
        &self,
        app: &App<'_>,
        repo: &Repository,
        key: &Credential,
    ) -> Result<(), Failure> {
        let plan = keys::plan_rotation(repo)?;
        show(app, &plan);
        if !self.yes {
            app.out.json("key", json!({ "action": "rotate", "dry_run": true }));
            if !self.new.dry_run {
                app.out.note("to do this, run the command again with --yes");
            }
            return Ok(());
        }
        let file = self.file_to_replace(app, key)?;
        let credential = match (&file, plan.is_resumed) {
            (_, true) => None,
            (Some(file), false) => Some(read_or_make(&beside(file))?),
            (None, false) => Some(self.new.read(app)?),
        };
        let label = self.new.label.clone().unwrap_or_else(|| app.key_label());
        let entry = Entry::done("key-rotate", repo.world().clock.now());
        let rotation = keys::rotate(repo, credential.as_ref().unwrap_or(key), &label);
        let rotation = rotation.map_err(|error| interrupted(error, file.as_deref()))?;
        let counts = vec![
            ("keys_removed", rotation.removed.len() as u64),
            ("runs_ended", rotation.fenced.len() as u64),
        ];
        app.log(&rotation.repo, Entry { counts, ..entry })?;
        app.out.line("rotated the root secret; the old passwords, key files and recovery code open the repository no more");
        app.show_recovery_code(&rotation.recovery_code);
        match &file {
            Some(file) if plan.is_resumed => put_in_place(app, file),
            Some(file) => {
                replace(file)?;
                app.out.line(format!("the new key is in {}", file.display()));
            }
            None => {}
        }
        let mut fields = Map::new();
        fields.insert("action".to_owned(), "rotate".into());
        fields.insert("dry_run".to_owned(), false.into());
        if let Some(slot) = rotation.slot {
            fields.insert("id".to_owned(), slot.to_string().into());
        }
        let removed = rotation.removed.iter().map(|id| id.to_string().into()).collect();
        fields.insert("removed".to_owned(), Value::Array(removed));
        let ended = rotation.fenced.iter().map(|id| id.to_string().into()).collect();
        fields.insert("ended_sessions".to_owned(), Value::Array(ended));
        fields.insert("recovery_code".to_owned(), rotation.recovery_code.as_str().into());
        app.out.json("key", fields.into());
        Ok(())
    }

    /// The key file that opened the repository, when nothing else is to take its place.
    fn file_to_replace(&self, app: &App<'_>, key: &Credential) -> Result<Option<PathBuf>, Failure> {
        if self.new.is_named() || !matches!(key, Credential::KeyFile(_)) {
            return Ok(None);
        }
        Ok(Some(match app.named_key()? {
            Some(KeySource::KeyFile(path)) => path,
            _ => app.home()?.default_key_file(),
        }))
    }
}

fn show(app: &App<'_>, plan: &RotationPlan) {
    match plan.is_resumed {
        true => app.out.line("an interrupted rotation is finished; no other root is drawn"),
        false => app.out.line("a new root secret seals and signs everything from now on"),
    }
    for slot in &plan.slots {
        let label = text::escaped(slot.label.as_bytes());
        app.out.line(format!("key {} ({label}) is removed", text::short(&slot.id)));
    }
    for session in &plan.sessions {
        app.out.line(format!("run {session}, if it is still at work, has to start over"));
    }
    for object in &plan.passed_over {
        app.out.line(format!("{object}, which is no revision, is passed over for good"));
    }
    if let Some(feature) = plan.feature {
        let name = feature.name;
        app.out.line(format!(
            "the repository requires the feature {name:?} from now on: programs that do not know \
             it cannot open it any more"
        ));
    }
}

/// Says how to go on: by now the new key may be the one that opens the repository.
fn interrupted(error: lastgood::Error, file: Option<&Path>) -> Failure {
    if error.kind() == ErrorKind::Conflict {
        return error.into();
    }
    let new = match file {
        Some(file) => format!("with --key-file {}", text::quoted(&beside(file).to_string_lossy())),
        None => "with the new key".to_owned(),
    };
    let failure = Failure::from(error);
    let first = if failure.code == Code::NoSpace { "free some space and " } else { "" };
    failure.hint(format!(
        "{first}run the command again; where the old key opens the repository no more, {new}"
    ))
}

/// Of a rotation that was finished, the key lies where the interrupted one put it.
fn put_in_place(app: &App<'_>, file: &Path) {
    let path = file.to_string_lossy();
    if let Some(old) = path.strip_suffix(".new") {
        let (new, old) = (text::quoted(&path), text::quoted(old));
        app.out.line(format!("the new key is in {path}; put it in its place with: mv {new} {old}"));
    }
}

/// The key file of a rotation that was interrupted before it was used, or a new one.
fn read_or_make(file: &Path) -> Result<Credential, Failure> {
    match opening::read_key_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(opening::write_key_file(file, &system::world())?)
        }
        read => Ok(read?),
    }
}

fn replace(file: &Path) -> Result<(), Failure> {
    let new = beside(file);
    std::fs::rename(&new, file).map_err(|error| {
        let message = format!("the new key is in {}: {error}", new.display());
        Failure::new(Code::Failed, message).hint("name it with --key-file")
    })
}
