//! The command line: what is common to all commands, and the environment that stands in for flags.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser};

use crate::commands;

/// Back up, restore, and look at what was kept.
///
/// The first command to type is `lastgood backup PATH`: it makes a repository in your home
/// directory and puts everything below PATH into it, encrypted. `lastgood restore latest -t DIR`
/// brings it back.
#[derive(Debug, Parser)]
#[command(
    name = "lastgood",
    version,
    propagate_version = false,
    disable_version_flag = false,
    after_help = AFTER_HELP,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: commands::Verb,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Repository and output")]
pub(crate) struct Global {
    /// The repository: a directory [env: LASTGOOD_REPOSITORY; default: one in your home directory]
    #[arg(short, long, global = true, value_name = "PATH")]
    pub(crate) repo: Option<PathBuf>,
    /// File whose first line names the repository [env: LASTGOOD_REPOSITORY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) repository_file: Option<PathBuf>,
    /// File with the password [env: LASTGOOD_PASSWORD_FILE; also LASTGOOD_PASSWORD and
    /// LASTGOOD_PASSWORD_FD]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Shell command that prints the password [env: LASTGOOD_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<OsString>,
    /// Key file that opens the repository without a password [env: LASTGOOD_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the recovery code, which opens the repository when everything else is lost
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) recovery_code_file: Option<PathBuf>,
    /// Directory for the local copy of the index [env: LASTGOOD_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR", env = "LASTGOOD_CACHE_DIR", hide_env = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Keep no local copy of anything
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,
    /// Extended option, for scripts written for other tools; none is known yet
    #[arg(short = 'o', long = "option", global = true, value_name = "KEY=VALUE", value_parser = parse_option)]
    pub(crate) options: Vec<String>,
    /// JSON Lines on standard output and standard error, and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more; twice, much more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but results and problems
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

fn parse_option(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Which snapshots are meant.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct FilterArgs {
    /// Only those of this host; may be given several times
    #[arg(short = 'H', long = "host", value_name = "HOST", env = "LASTGOOD_HOST", hide_env = true)]
    pub(crate) hosts: Vec<String>,
    /// Only those with this source; may be given several times: then with all of them
    #[arg(long = "path", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only those with these tags (TAG,TAG: all of them); several times: with any of the lists
    #[arg(long = "tag", value_name = "TAG[,TAG]")]
    pub(crate) tags: Vec<String>,
}

impl FilterArgs {
    /// Whether every snapshot is meant.
    pub(crate) const fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.paths.is_empty() && self.tags.is_empty()
    }
}

/// Parses the command line and the environment.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: &[(OsString, OsString)],
) -> Result<Cli, clap::Error> {
    let command = with_environment(Cli::command(), environment);
    reject_unknown(&command, environment)?;
    let mut matches = command.try_get_matches_from(args)?;
    Cli::from_arg_matches_mut(&mut matches)
}

/// Lets `LASTGOOD_<FLAG>` and `LASTGOOD_<COMMAND>__<FLAG>` stand in for flags. Those that choose
/// repository and key are read apart, because a flag of one must beat a variable of the other.
fn with_environment(command: Command, environment: &[(OsString, OsString)]) -> Command {
    let is_set = |name: &str| environment.iter().any(|(key, _)| key == OsStr::new(name));
    let command = command.mut_args(|arg| {
        let is_apart = APART.contains(&arg.get_id().as_str());
        if is_apart || arg.get_long().is_none() || arg.get_env().is_some() {
            return arg;
        }
        let name = format!("LASTGOOD_{}", variable(arg.get_long().unwrap_or_default()));
        bind(arg, name)
    });
    let names: Vec<String> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |sub| {
            let prefix = format!("LASTGOOD_{}__", variable(sub.get_name()));
            sub.mut_args(|arg| {
                let Some(long) = arg.get_long() else {
                    return arg;
                };
                let name = format!("{prefix}{}", variable(long));
                if arg.get_env().is_some() && !is_set(&name) { arg } else { bind(arg, name) }
            })
        })
    })
}

fn bind(arg: Arg, name: String) -> Arg {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse);
    let arg = arg.env(name).hide_env(true);
    if is_switch { arg.value_parser(BoolishValueParser::new()) } else { arg }
}

/// A misspelt `LASTGOOD_BACKUP__EXCLUED` would silently back up what must not be.
fn reject_unknown(
    command: &Command,
    environment: &[(OsString, OsString)],
) -> Result<(), clap::Error> {
    for (name, _) in environment {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("LASTGOOD_")) else {
            continue;
        };
        let Some((sub, flag)) = rest.split_once("__") else {
            continue;
        };
        let sub = command.get_subcommands().find(|known| variable(known.get_name()) == sub);
        let is_known = sub.is_some_and(|sub| {
            sub.get_arguments().any(|arg| arg.get_long().is_some_and(|long| variable(long) == flag))
        });
        if !is_known {
            let message = format!("no flag belongs to the environment variable LASTGOOD_{rest}\n");
            return Err(Cli::command().error(clap::error::ErrorKind::UnknownArgument, message));
        }
    }
    Ok(())
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

/// Global flags that `settings` reads from the environment itself.
const APART: [&str; 6] = [
    "repo",
    "repository_file",
    "password_file",
    "password_command",
    "key_file",
    "recovery_code_file",
];

const AFTER_HELP: &str = "Every flag of a command can be given as LASTGOOD_<COMMAND>__<FLAG>, such \
as LASTGOOD_BACKUP__EXCLUDE_CACHES=true.\n\nExit codes: 0 done; 1 failed; 2 wrong usage; 3 done, \
but something could not be read or set; 5 damage found; 6 verification failed; 8 held, to be approved; \
10 no repository; 12 wrong password or key; 13 no space; 130 interrupted.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(args: &[&str], environment: &[(&str, &str)]) -> Result<Cli, String> {
        let args = ["lastgood"].iter().chain(args).map(OsString::from);
        let environment: Vec<_> =
            environment.iter().map(|(key, value)| (key.into(), value.into())).collect();
        parse(args, &environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_puts_no_flag_below_the_heading_of_others() {
        for command in Cli::command().get_subcommands() {
            let below = command.get_arguments().filter(|arg| {
                arg.get_help_heading() == Some("Which snapshots")
                    && !["hosts", "paths", "tags"].contains(&arg.get_id().as_str())
            });
            assert_eq!(below.count(), 0, "{}", command.get_name());
            for arg in command.get_arguments().filter(|arg| arg.get_id() == "dry_run") {
                assert_eq!(arg.get_help_heading(), None, "{}", command.get_name());
            }
        }
    }

    #[test]
    fn misspelt_variables_are_refused() {
        let error = parse_with(&["snapshots"], &[("LASTGOOD_BACKUP__EXCLUED", "x")]).unwrap_err();
        assert!(error.contains("LASTGOOD_BACKUP__EXCLUED"), "{error}");
        parse_with(&["snapshots"], &[("LASTGOOD_BACKUP__EXCLUDE", "x")]).unwrap();
        parse_with(&["snapshots"], &[("LASTGOOD_UNRELATED", "x")]).unwrap();
    }

    #[test]
    fn options_of_other_tools_are_accepted_when_well_formed() {
        parse_with(&["-o", "s3.region=eu", "snapshots"], &[]).unwrap();
        parse_with(&["-o", "nonsense", "snapshots"], &[]).unwrap_err();
    }
}
