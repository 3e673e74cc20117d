//! `lastgood completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::app::App;
use crate::args::Cli;
use crate::failure::{Code, Failure};

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "lastgood", &mut script);
        if app.out.is_json() {
            let script = String::from_utf8_lossy(&script).into_owned();
            let fields = serde_json::json!({ "shell": self.shell.to_string(), "script": script });
            app.out.json("completions", fields);
            return Ok(());
        }
        match app.out.raw(&script) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::io(Code::Failed, "cannot write to standard output", &error))
            }
            _ => Ok(()),
        }
    }
}
