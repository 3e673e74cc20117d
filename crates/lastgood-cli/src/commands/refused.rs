//! Commands that people know from other tools and that do nothing here, with the reason.

use std::ffi::OsString;

use crate::app::App;
use crate::failure::{Code, Failure};

/// Whatever was given: it is not looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

impl Args {
    /// Guessing what `prune --keep-daily 7` means has cost people their backups.
    pub(crate) fn prune(self) -> Result<(), Failure> {
        let wants_policy = self.rest.iter().any(|arg| arg.to_string_lossy().starts_with("--keep"));
        let message = if wants_policy {
            "prune takes no retention policy: in some tools it thins out snapshots, in others it \
             frees space, and this one does not guess"
        } else {
            "this release never removes anything from a repository, so there is nothing to prune"
        };
        Err(Failure::new(Code::Usage, message)
            .hint("see what takes the space with: lastgood stats --mode raw-data"))
    }

    /// Succeeds: what it is called for is always so.
    pub(crate) fn unlock(self, app: &App<'_>) -> Result<(), Failure> {
        let text = "there are no locks: any number of commands may use a repository at the same \
                    time, and one that was killed blocks nobody";
        app.out.note(text);
        Ok(())
    }
}
