//! `lastgood mirror`.

mod adopt;
mod approve;
mod diff;
mod insert;
mod repair;
mod restore;
mod run;
mod thin;
mod verify;
mod versions;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use lastgood::mirror::{self, Version};
use lastgood::system;
use serde_json::{Value, json};

pub(super) use self::diff::of_named as diff_of_named;
pub(super) use self::restore::of_named as restore_of_named;
pub(super) use self::run::Ended;
use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the mirror what the source is, and keep what it was; the first run makes the mirror
    Run(Box<run::RunArgs>),
    /// Let the next run do what the guard kept the last one from
    Approve(approve::ApproveArgs),
    /// List the versions of a mirror, or of one path in it
    Versions(versions::VersionsArgs),
    /// Show what changed from one version to another
    Diff(diff::DiffArgs),
    /// Bring a version back, or one path of it
    Restore(restore::RestoreArgs),
    /// Make a mirror of a plain copy that another tool made, without copying it
    Adopt(adopt::AdoptArgs),
    /// Make a version of an older state, between two others or before the oldest
    Insert(Box<insert::InsertArgs>),
    /// Remove versions from the history; the others stay what they are
    Drop(thin::DropArgs),
    /// Remove the versions that no rule keeps
    Rotate(Box<thin::RotateArgs>),
    /// Read all files of all versions and compare them with what was recorded
    Verify(verify::VerifyArgs),
    /// Take what is damaged or lost from whoever has it: the mirror, its source, a repository
    Repair(repair::RepairArgs),
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        match self.verb {
            Verb::Run(args) => args.run(app),
            Verb::Approve(args) => args.run(app),
            Verb::Versions(args) => args.run(app),
            Verb::Diff(args) => args.run(app),
            Verb::Restore(args) => args.run(app),
            Verb::Adopt(args) => args.run(app),
            Verb::Insert(args) => args.run(app),
            Verb::Drop(args) => args.run(app),
            Verb::Rotate(args) => args.run(app),
            Verb::Verify(args) => args.run(app),
            Verb::Repair(args) => args.run(app),
        }
    }
}

/// The version that a user means.
fn version_at(mirror: &Path, at: &str) -> Result<Version, Failure> {
    let now = system::world().clock.now();
    Ok(mirror::version_named(mirror, at, &|text| text::parse_moment(text, now))?)
}

/// `VERSION[:PATH]` of the mirror that was named in the place of a repository.
fn resolve(mirror: &Path, name: &str) -> Result<(String, Option<PathBuf>), Failure> {
    let now = system::world().clock.now();
    let parse_time = |text: &str| text::parse_moment(text, now);
    let (version, path) = mirror::resolve(mirror, name, &parse_time)?;
    Ok((version.name, path))
}

fn unless_incomplete(count: u64, what: &str) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        count => {
            let message = format!("{} {what}", text::count(count, "entry"));
            Err(Failure::new(Code::Incomplete, message))
        }
    }
}

fn unset_json(unset: &[(String, u64)]) -> Value {
    unset.iter().map(|(what, count)| json!({ "what": what, "count": count })).collect()
}
