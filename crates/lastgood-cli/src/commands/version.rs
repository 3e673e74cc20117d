//! `lastgood version`.

use serde_json::json;

use crate::app::App;
use crate::failure::Failure;
use crate::output::SCHEMA;

/// Flags of `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let version = env!("CARGO_PKG_VERSION");
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        app.out.line(format!("lastgood {version} on {system} {machine}, repository format 1"));
        app.out.json(
            "version",
            json!({
                "version": version,
                "os": system,
                "arch": machine,
                "format": 1,
                "schema_version": SCHEMA,
            }),
        );
        Ok(())
    }
}
