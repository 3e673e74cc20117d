//! `lastgood key`.

mod rotate;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use lastgood::log::Entry;
use lastgood::{Credential, KeySlotInfo, ObjectId, Repository, SlotKind, Timestamp, WorkFactors};
use lastgood::{opening, system};
use serde_json::json;

use crate::app::{App, not_empty};
use crate::failure::{Code, Failure};
use crate::secret;
use crate::table::{Align, Table};
use crate::text;

/// Flags of `key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the keys that open the repository
    List,
    /// Add a password or a key file
    Add(NewKey),
    /// Remove a key
    Remove {
        /// Its id, or the start of it
        id: String,
        /// Remove nothing; say what would be removed
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Put a new password or key file in place of the one used now
    Passwd(NewKey),
    /// Draw a new root secret, for what is stored from now on
    Rotate(rotate::Args),
}

/// A key to be added.
#[derive(Debug, clap::Args)]
struct NewKey {
    /// File with the new password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_command", "new_key_file"])]
    new_password_file: Option<PathBuf>,
    /// Shell command that prints the new password
    #[arg(long, value_name = "COMMAND", conflicts_with = "new_key_file")]
    new_password_command: Option<std::ffi::OsString>,
    /// New key file; it is made when it is not there
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// What the key is called [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// Change nothing; say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let (repo, key) = app.open_with_key()?;
        match self.verb {
            Verb::List => list(app, &repo, &key),
            Verb::Add(new) => new.add(app, &repo).map(drop),
            Verb::Remove { id, dry_run } => remove(app, &repo, &id, dry_run),
            Verb::Passwd(new) => new.replace(app, &repo, &key),
            Verb::Rotate(args) => args.run(app, &repo, &key),
        }
    }
}

impl NewKey {
    /// Whether a flag says what the new key is.
    const fn is_named(&self) -> bool {
        self.new_password_file.is_some()
            || self.new_password_command.is_some()
            || self.new_key_file.is_some()
    }

    /// Adds the key, unless this is a dry run.
    fn add(&self, app: &App<'_>, repo: &Repository) -> Result<(), Failure> {
        if self.dry_run {
            app.out.line("would add a key");
            app.out.json("key", json!({ "action": "add", "dry_run": true }));
            return Ok(());
        }
        let key = self.read(app)?;
        let label = self.label.clone().unwrap_or_else(|| app.key_label());
        let entry = Entry::done("key-add", repo.world().clock.now());
        let id = repo.add_key(&key, WorkFactors::DEFAULT, &label).map_err(lastgood::Error::from)?;
        app.log(repo, Entry { note: format!("key {id}, {label}"), ..entry })?;
        app.out.line(format!("added key {}", text::short(&id)));
        app.out.json(
            "key",
            json!({ "action": "add", "dry_run": false, "id": id.to_string(), "label": label }),
        );
        Ok(())
    }

    /// Adds first and removes then, so that at no time nothing opens the repository.
    fn replace(&self, app: &App<'_>, repo: &Repository, key: &Credential) -> Result<(), Failure> {
        let old = match key {
            Credential::Root(_) => None,
            key => Some(repo.slot_of(key).map_err(lastgood::Error::from)?),
        };
        self.add(app, repo)?;
        match old {
            Some(old) if !self.dry_run => {
                remove_key(app, repo, old)?;
                app.out.line(format!("removed key {}", text::short(&old)));
                app.out.json(
                    "key",
                    json!({ "action": "remove", "dry_run": false, "id": old.to_string() }),
                );
            }
            Some(old) => app.out.line(format!("would remove key {}", text::short(&old))),
            None => app.out.note("the recovery code stays as it is; no key was removed"),
        }
        Ok(())
    }

    fn read(&self, app: &App<'_>) -> Result<Credential, Failure> {
        let password = match (&self.new_password_file, &self.new_password_command) {
            (Some(path), _) => secret::from_file(path)?,
            (None, Some(command)) => secret::from_command(command)?,
            (None, None) => match &self.new_key_file {
                Some(path) if path.exists() => return Ok(opening::read_key_file(path)?),
                Some(path) => return Ok(opening::write_key_file(path, &system::world())?),
                None => app.new_password("new password").map_err(|failure| {
                    failure.hint(
                        "give the new one with --new-password-file, --new-password-command or \
                         --new-key-file, or at a terminal",
                    )
                })?,
            },
        };
        Ok(Credential::Passphrase(not_empty(password)?))
    }
}

fn list(app: &App<'_>, repo: &Arc<Repository>, key: &Credential) -> Result<(), Failure> {
    let slots = slots(repo)?;
    let current = repo.slot_of(key).ok();
    let mut table = Table::new(&[
        ("  ID", Align::Left),
        ("Kind", Align::Left),
        ("Label", Align::Left),
        ("Created", Align::Left),
    ]);
    for slot in &slots {
        let is_current = current == Some(slot.id);
        let kind = match slot.kind {
            SlotKind::Passphrase(_) => "password",
            SlotKind::KeyFile => "key-file",
        };
        let created = Timestamp { seconds: slot.created, nanos: 0 };
        app.out.json(
            "key",
            json!({
                "action": "list",
                "dry_run": false,
                "id": slot.id.to_string(),
                "kind": kind,
                "label": slot.label,
                "created": text::time_json(created),
                "current": is_current,
            }),
        );
        table.row(vec![
            format!("{} {}", if is_current { '*' } else { ' ' }, text::short(&slot.id)),
            kind.to_owned(),
            text::escaped(slot.label.as_bytes()),
            text::time(created),
        ]);
    }
    app.out.lines(table.lines());
    Ok(())
}

fn remove(app: &App<'_>, repo: &Arc<Repository>, name: &str, dry_run: bool) -> Result<(), Failure> {
    let damaged = repo.damaged_key_slots().map_err(lastgood::Error::from)?;
    let mut ids: Vec<ObjectId> = slots(repo)?.iter().map(|slot| slot.id).collect();
    ids.extend(damaged.iter().map(|(id, _)| *id));
    ids.retain(|id| id.to_string().starts_with(name));
    let id = match ids.as_slice() {
        [id] if !name.is_empty() => *id,
        [] => {
            return Err(Failure::new(Code::Failed, format!("there is no key {name}")));
        }
        _ => {
            return Err(Failure::usage(format!("{name:?} is the start of more than one key")));
        }
    };
    if dry_run {
        app.out.line(format!("would remove key {}", text::short(&id)));
    } else {
        remove_key(app, repo, id)?;
        app.out.line(format!("removed key {}", text::short(&id)));
    }
    let id = id.to_string();
    app.out.json("key", json!({ "action": "remove", "id": id, "dry_run": dry_run }));
    Ok(())
}

fn remove_key(app: &App<'_>, repo: &Repository, id: ObjectId) -> Result<(), Failure> {
    let entry = Entry::done("key-remove", repo.world().clock.now());
    repo.remove_key(id).map_err(lastgood::Error::from)?;
    app.log(repo, Entry { note: format!("key {id}"), ..entry })
}

fn slots(repo: &Repository) -> Result<Vec<KeySlotInfo>, Failure> {
    Ok(repo.key_slots().map_err(lastgood::Error::from)?)
}
