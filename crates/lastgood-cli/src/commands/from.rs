//! Other repositories that may have what is lost.

use std::path::{Path, PathBuf};

use lastgood::Credential;

use crate::app::App;
use crate::failure::{Code, Failure};
use crate::settings::KeySource;

/// Flags that name them.
#[derive(Debug, clap::Args)]
pub(super) struct FromArgs {
    /// Take what is lost from another repository: a copy, or one with the same files
    #[arg(long = "from", value_name = "REPOSITORY")]
    pub(super) repositories: Vec<PathBuf>,
    /// What opens the repositories of --from that are no copies: a key file
    #[arg(long, value_name = "FILE", conflicts_with = "from_password_file")]
    from_key_file: Option<PathBuf>,
    /// The same: a file that holds the password
    #[arg(long, value_name = "FILE")]
    from_password_file: Option<PathBuf>,
}

impl FromArgs {
    /// What opens a repository that is no copy.
    pub(super) fn key(&self, app: &App<'_>, path: &Path) -> Result<Credential, Failure> {
        match (&self.from_key_file, &self.from_password_file) {
            (Some(file), _) => app.credential(&KeySource::KeyFile(file.clone())),
            (None, Some(file)) => app.credential(&KeySource::PasswordFile(file.clone())),
            (None, None) => {
                let message = format!("{} has keys of its own", path.display());
                Err(Failure::new(Code::WrongKey, message)
                    .hint("name them with --from-key-file or --from-password-file"))
            }
        }
    }
}
