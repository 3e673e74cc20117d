//! `lastgood man`: for whoever makes a package.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::app::App;
use crate::args::Cli;
use crate::failure::{Code, Failure};

/// Flags of `man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write `lastgood.1` and a page for each command
    directory: PathBuf,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let directory = &self.directory;
        let failed = |error: &std::io::Error| {
            let message = format!("cannot write manual pages into {}", directory.display());
            Failure::io(Code::Failed, message, error)
        };
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        clap_mangen::generate_to(Cli::command(), directory).map_err(|error| failed(&error))?;
        app.out.info(format!("manual pages are in {}", directory.display()));
        app.out.json("man", {
            let mut fields = serde_json::Map::new();
            crate::text::put_path(&mut fields, "directory", crate::output::path_bytes(directory));
            fields.into()
        });
        Ok(())
    }
}
