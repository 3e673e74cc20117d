//! `lastgood schema`.

use crate::app::App;
use crate::failure::{Code, Failure};

/// Flags of `schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        if app.out.is_json() {
            let schema: serde_json::Value = serde_json::from_str(SCHEMA_TEXT)
                .map_err(|error| Failure::new(Code::Failed, format!("the schema: {error}")))?;
            app.out.json("schema", serde_json::json!({ "json_schema": schema }));
        } else {
            app.out.line(SCHEMA_TEXT.trim_end());
        }
        Ok(())
    }
}

const SCHEMA_TEXT: &str = include_str!("../schema.json");
