//! Makes a backup once more from the trace that `lastgood backup --record` kept of it, and says
//! whether it goes the same way. See `docs/format/trace.md`.
//!
//! `cargo xtask replay FILE --repository PATH (--key-file | --password-file | --recovery-code-file) KEY`
#![expect(clippy::print_stdout, reason = "a command that reports to people")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lastgood::trace::{self, Ended};
use lastgood::{Credential, Home, opening, parse_recovery_code, system};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let asked = Asked::parse(std::env::args_os().skip(1)).ok_or(USAGE)?;
    // What this host remembers of the repository is left alone.
    let folder = tempfile::tempdir()?;
    let below = |name| folder.path().join(name);
    let home = Home { data: below("data"), cache: below("cache"), state: below("state") };
    let repo = opening::open(&asked.repository, &home, system::world(), &asked.credential()?)?;
    let replay = trace::replay(&asked.file, &repo)?;
    println!("the same for {} exchanges", replay.same);
    match replay.ended {
        Ended::Same(how) => {
            println!("the run went the same way to its end: {how}");
            return Ok(ExitCode::SUCCESS);
        }
        Ended::CutOff(next) => println!("the trace ends before the run did; it went on: {next}"),
        Ended::Differs(difference) => println!("then the replay goes another way\n{difference}"),
    }
    Ok(ExitCode::FAILURE)
}

/// What was asked for.
struct Asked {
    file: PathBuf,
    repository: PathBuf,
    /// A flag, and the file that holds the key.
    key: (String, PathBuf),
}

impl Asked {
    fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let (mut file, mut repository, mut key) = (None, None, None);
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--repository") => repository = Some(words.next()?.into()),
                Some(flag) if flag.starts_with("--") => {
                    key = Some((flag.to_owned(), words.next()?.into()));
                }
                _ => file = Some(word.into()),
            }
        }
        Some(Self { file: file?, repository: repository?, key: key? })
    }

    fn credential(&self) -> Result<Credential, Box<dyn std::error::Error>> {
        let (flag, path) = &self.key;
        Ok(match flag.as_str() {
            "--key-file" => opening::read_key_file(path)?,
            "--password-file" => Credential::Passphrase(first_line(path)?.into_bytes().into()),
            "--recovery-code-file" => Credential::Root(parse_recovery_code(&first_line(path)?)?),
            _ => return Err(USAGE.into()),
        })
    }
}

fn first_line(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.lines().next().unwrap_or_default().to_owned())
}

const USAGE: &str = "usage: replay FILE --repository PATH \
                     (--key-file | --password-file | --recovery-code-file) KEY";
