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

use std::path::Path;

use clap::Subcommand;
use lastgood::mirror::{self, Version};
use lastgood::system;
use serde_json::{Value, json};

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
    let versions = mirror::versions(mirror)?;
    let none = || Failure::new(Code::Failed, format!("the mirror has no version at {at:?}"));
    if at == "latest" {
        return versions.last().cloned().ok_or_else(none);
    }
    if let Some(version) = versions.iter().find(|version| version.name == at) {
        return Ok(version.clone());
    }
    let now = system::world().clock.now();
    let moment = text::parse_moment(at.strip_prefix('@').unwrap_or(at), now).ok_or_else(|| {
        Failure::usage(format!("{at:?} is neither a version nor a time"))
            .hint("write latest, a name that `lastgood mirror versions` lists, 2026-11-01 or 3d")
    })?;
    let found = versions.iter().rfind(|version| version.time <= moment);
    found
        .cloned()
        .ok_or_else(|| none().hint("the mirror begins later: see `lastgood mirror versions`"))
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
