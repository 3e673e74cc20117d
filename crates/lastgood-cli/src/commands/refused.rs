//! Commands that people know from other tools and that do nothing here, with the reason.

use std::ffi::OsString;

use crate::app::App;
use crate::failure::Failure;

/// Whatever was given: it is not looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

impl Args {
    /// Succeeds: what it is called for is always so.
    pub(crate) fn unlock(self, app: &App<'_>) -> Result<(), Failure> {
        let text = "there are no locks: any number of commands may use a repository at the same \
                    time, and one that was killed blocks nobody";
        app.out.note(text);
        Ok(())
    }
}
