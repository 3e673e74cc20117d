//! One module per verb: its flags, and what it shows.

mod accept_rollback;
mod backup;
mod cat;
mod changes;
mod check;
mod choose;
mod completions;
mod diff;
mod entry;
mod explain;
mod find;
mod forget;
mod from;
mod gc;
mod init;
mod key;
mod log;
mod ls;
mod man;
mod mirror;
mod pick;
mod pin;
mod refused;
mod repair;
mod restore;
mod schema;
mod select;
mod snapshots;
mod stats;
mod tag;
mod undelete;
mod upgrade;
mod version;

use clap::Subcommand;

use crate::app::App;
use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a repository
    Init(init::Args),
    /// Put files into the repository, as a new snapshot
    #[command(visible_alias = "create")]
    Backup(Box<backup::Args>),
    /// Bring files back
    #[command(visible_alias = "extract")]
    Restore(Box<restore::Args>),
    /// List the snapshots
    #[command(visible_alias = "list")]
    Snapshots(snapshots::Args),
    /// List the files of a snapshot
    Ls(ls::Args),
    /// Find files in snapshots by their names
    Find(find::Args),
    /// Write the content of a file of a snapshot to standard output
    #[command(visible_alias = "dump")]
    Cat(cat::Args),
    /// Show what changed between two snapshots, or since one
    Diff(diff::Args),
    /// Check that the repository is whole
    Check(check::Args),
    /// Store whole again what is damaged and can be mended
    Repair(repair::Args),
    /// Count what snapshots and the repository hold
    Stats(stats::Args),
    /// Show what was done to the repository, by whom and when
    Log(log::Args),
    /// Say why a path is backed up, or why not
    Explain(explain::Args),
    /// List, add, remove and change the keys that open the repository
    Key(key::Args),
    /// Change the tags of snapshots
    Tag(tag::Args),
    /// Forget snapshots, by name or by rules that say what to keep
    Forget(Box<forget::Args>),
    /// Keep snapshots from being forgotten
    Pin(pin::Args),
    /// Let snapshots be forgotten again
    Unpin(pin::Args),
    /// Bring forgotten snapshots back, until gc has removed them
    Undelete(undelete::Args),
    /// Free the space of what no snapshot needs
    #[command(visible_aliases = ["prune", "compact"])]
    Gc(gc::Args),
    /// Accept that snapshots which were there are lost, so that backups go on
    AcceptRollback(accept_rollback::Args),
    /// Add features to the repository that this release knows
    Upgrade(upgrade::Args),
    /// Mirror a directory: a plain copy of the newest state, and plain folders of the past
    Mirror(mirror::Args),
    /// Print the version
    Version(version::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the JSON schema of what --json writes
    Schema(schema::Args),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(man::Args),
    /// Explains that there are no locks
    #[command(hide = true, alias = "break-lock")]
    Unlock(refused::Args),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        match self {
            Self::Init(args) => args.run(app),
            Self::Backup(args) => args.run(app),
            Self::Restore(args) => args.run(app),
            Self::Snapshots(args) => args.run(app),
            Self::Ls(args) => args.run(app),
            Self::Find(args) => args.run(app),
            Self::Cat(args) => args.run(app),
            Self::Diff(args) => args.run(app),
            Self::Check(args) => args.run(app),
            Self::Repair(args) => args.run(app),
            Self::Stats(args) => args.run(app),
            Self::Log(args) => args.run(app),
            Self::Explain(args) => args.run(app),
            Self::Key(args) => args.run(app),
            Self::Tag(args) => args.run(app),
            Self::Forget(args) => args.run(app),
            Self::Pin(args) => args.run(app, true),
            Self::Unpin(args) => args.run(app, false),
            Self::Undelete(args) => args.run(app),
            Self::Gc(args) => args.run(app),
            Self::AcceptRollback(args) => args.run(app),
            Self::Upgrade(args) => args.run(app),
            Self::Mirror(args) => args.run(app),
            Self::Version(args) => args.run(app),
            Self::Completions(args) => args.run(app),
            Self::Schema(args) => args.run(app),
            Self::Man(args) => args.run(app),
            Self::Unlock(args) => args.unlock(app),
        }
    }
}
