//! The `lastgood` command: arguments in, text or JSON out. How anything is done is in the library.
#![forbid(unsafe_code)]

mod app;
mod args;
mod clock;
mod commands;
mod failure;
mod output;
mod progress;
mod secret;
mod settings;
mod signals;
mod table;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::app::App;
use crate::failure::{Code, Failure, Hints};
use crate::output::{Output, Style};
use crate::settings::Environment;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let args: Vec<OsString> = std::env::args_os().collect();
    let wants_json = wants_json(&args, &environment);
    let cli = match args::parse(args, environment.all()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, wants_json),
    };
    let style =
        Style { json: cli.global.json, quiet: cli.global.quiet, verbosity: cli.global.verbose };
    let out = Output::new(style);
    let mut hints = Hints::default();
    if let Err(error) = signals::listen(style.json) {
        out.warn(format!("cannot listen for signals, so Ctrl-C ends at once: {error}"));
    }
    let result = App::new(cli.global, environment, &out).and_then(|app| {
        let result = cli.command.run(&app);
        if let Err(failure) = &result {
            hints = app.hints_about(failure);
        }
        app.warn_of_mended();
        result
    });
    let written = out.finish();
    match result.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.show(&out, &hints);
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Help and version go to standard output and are no failure; anything else is wrong usage.
fn usage(error: &clap::Error, wants_json: bool) -> ExitCode {
    let is_failure = error.use_stderr();
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_failure && !is_help && wants_json {
        let style = Style { json: true, quiet: false, verbosity: 0 };
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // The synopsis is for people.
        let text = text.split("\n\nUsage:").next().unwrap_or(text).trim_end();
        Failure::usage(text).show(&Output::new(style), &Hints::default());
    } else {
        // A reader that went away, as in `lastgood --help | head -1`, is no failure.
        drop(error.print());
    }
    if is_failure { ExitCode::from(Code::Usage as u8) } else { ExitCode::SUCCESS }
}

/// Whether JSON was asked for on a command line that may not parse.
fn wants_json(args: &[OsString], environment: &Environment) -> bool {
    let flags = args.iter().take_while(|arg| *arg != "--");
    let variable = environment.get("LASTGOOD_JSON").and_then(|value| value.to_str());
    flags.into_iter().any(|arg| arg == "--json")
        || variable.is_some_and(|value| matches!(value, "1" | "true" | "yes" | "on" | "y" | "t"))
}
