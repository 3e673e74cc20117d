//! How a command fails: one place for exit codes, and for what to do next.
//!
//! The codes are a contract, see `docs/manual/scripting.md`.

use std::io;

use lastgood::ErrorKind;
use lastgood::log::{Ending, Entry};
use serde_json::{Value, json};

use crate::output::Output;
use crate::text::quoted;

/// Exit codes. A code that is not listed means failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It failed; the message says how.
    Failed = 1,
    /// The command line or an environment variable makes no sense.
    Usage = 2,
    /// Done, but something could not be read, or not be set.
    Incomplete = 3,
    /// Something stored is damaged.
    Damaged = 5,
    /// A comparison found what should not be.
    VerifyFailed = 6,
    /// Much would go or change at once; nothing was done.
    Held = 8,
    /// There is no repository.
    NoRepository = 10,
    /// Wrong password, key file or recovery code, or none.
    WrongKey = 12,
    /// A disk is full, or no more files can be opened.
    NoSpace = 13,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
}

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// A word for programs.
    kind: &'static str,
    /// What happened, then why, each once.
    chain: Vec<String>,
    hint: Option<String>,
}

/// What hints are made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints {
    /// The repository as it was named; `None` for the default one.
    pub(crate) repository: Option<String>,
    /// Whether it could be opened.
    pub(crate) is_open: bool,
    /// Whether a rotation of its keys was interrupted.
    pub(crate) is_rotation_open: bool,
    /// The key file that it left.
    pub(crate) new_key_file: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, kind: code.kind(), chain: vec![message.into()], hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn io(code: Code, message: impl Into<String>, cause: &io::Error) -> Self {
        let mut failure = Self::new(code, message);
        if let kind @ (ErrorKind::NoSpace | ErrorKind::TooManyOpen) = ErrorKind::from(cause) {
            (failure.code, failure.kind) = code_of(kind);
        }
        failure.chain.push(cause.to_string());
        failure
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with another code, and its kind.
    pub(crate) const fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self.kind = code.kind();
        self
    }

    /// What the log says of something that ended so.
    pub(crate) fn entry(&self, entry: Entry) -> Entry {
        let ending = match self.code {
            Code::Interrupted => Ending::Cancelled,
            _ => Ending::Failed,
        };
        Entry { ending, note: self.text(), ..entry }
    }

    /// What happened and why, on one line.
    pub(crate) fn text(&self) -> String {
        self.chain.join(": ")
    }

    /// Whether it was caused by the repository at `location` having no space left.
    pub(crate) fn is_full(&self, location: &str) -> bool {
        self.kind == Code::NoSpace.kind() && self.text().contains(location)
    }

    /// A failure with the causes of `error`.
    pub(crate) fn caused(code: Code, error: &dyn std::error::Error) -> Self {
        Self { code, kind: code.kind(), chain: chain(error), hint: None }
    }

    /// The same failure, said of something.
    pub(crate) fn of(mut self, what: &str) -> Self {
        self.chain = vec![format!("{what}: {}", self.text())];
        self
    }

    /// This and another failure of one command. What could not be done at all counts before what is
    /// incomplete.
    pub(crate) fn and(self, other: Self) -> Self {
        let text = format!("{}; {}", self.text(), other.text());
        let is_lighter = self.code == Code::Incomplete && other.code != Code::Incomplete;
        let graver = if is_lighter { other } else { self };
        Self { chain: vec![text], ..graver }
    }

    /// What a program is told of it.
    pub(crate) fn fields(&self, hints: &Hints) -> Value {
        let (code, message) = (self.code as u8, self.text());
        let mut fields = json!({ "code": code, "kind": self.kind, "message": message });
        if let Some(hint) = self.hint_with(hints) {
            fields["hint"] = hint.into();
        }
        fields
    }

    fn hint_with(&self, hints: &Hints) -> Option<String> {
        self.hint.clone().or_else(|| hints.of(self.kind))
    }

    /// Shows the failure on standard error.
    pub(crate) fn show(&self, out: &Output, hints: &Hints) {
        let message = self.text();
        let hint = self.hint_with(hints);
        if out.is_json() {
            out.error_json("exit_error", self.fields(hints));
        } else {
            out.error_line(&format!("lastgood: {message}"));
            if let Some(hint) = hint {
                out.error_line(&format!("hint: {hint}"));
            }
        }
    }
}

impl From<lastgood::Error> for Failure {
    fn from(error: lastgood::Error) -> Self {
        let (code, kind) = code_of(error.kind());
        Self { code, kind, chain: chain(&error), hint: None }
    }
}

/// What happened, then why, each once.
fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // A cause that its effect already quotes is not said again.
        if !chain.iter().any(|said| said.ends_with(&text)) {
            chain.push(text);
        }
        next = cause.source();
    }
    chain
}

/// The one table from kinds to codes.
const fn code_of(kind: ErrorKind) -> (Code, &'static str) {
    match kind {
        ErrorKind::Unavailable => (Code::Failed, "unavailable"),
        ErrorKind::NoRepository => (Code::NoRepository, "no-repository"),
        ErrorKind::NotFound => (Code::Failed, "not-found"),
        ErrorKind::Exists => (Code::Failed, "exists"),
        ErrorKind::Conflict => (Code::Failed, "conflict"),
        ErrorKind::Denied => (Code::Failed, "denied"),
        ErrorKind::WrongKey => (Code::WrongKey, "wrong-key"),
        ErrorKind::Damaged => (Code::Damaged, "damaged"),
        ErrorKind::RolledBack => (Code::Damaged, "rolled-back"),
        ErrorKind::TooNew => (Code::Failed, "too-new"),
        ErrorKind::Invalid => (Code::Usage, "invalid"),
        ErrorKind::Held => (Code::Held, "held"),
        ErrorKind::NoSpace => (Code::NoSpace, "no-space"),
        ErrorKind::TooManyOpen => (Code::NoSpace, "too-many-open"),
        ErrorKind::Cancelled => (Code::Interrupted, "interrupted"),
        ErrorKind::Bug => (Code::Failed, "bug"),
    }
}

impl Code {
    /// The kind of a failure that did not come from the library.
    const fn kind(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Incomplete => "incomplete",
            Self::Damaged => "damaged",
            Self::VerifyFailed => "verify-failed",
            Self::Held => "held",
            Self::NoRepository => "no-repository",
            Self::WrongKey => "wrong-key",
            Self::NoSpace => "no-space",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Hints {
    /// `lastgood`, with the repository when it was named.
    pub(crate) fn command(&self, rest: &str) -> String {
        match &self.repository {
            Some(repository) => format!("lastgood -r {} {rest}", quoted(repository)),
            None => format!("lastgood {rest}"),
        }
    }

    /// What to do next about a failure of this kind.
    fn of(&self, kind: &str) -> Option<String> {
        let hint = match kind {
            "no-repository" if self.repository.is_some() => {
                format!("check the path, or make a repository there with: {}", self.command("init"))
            }
            "no-repository" => {
                "the default repository is made by the first backup: lastgood backup PATH; with a \
                 password or key of your own by: lastgood init; another one is named with -r PATH \
                 or LASTGOOD_REPOSITORY"
                    .to_owned()
            }
            "wrong-key" if self.is_rotation_open => {
                let command = self.command("key rotate");
                let new = match &self.new_key_file {
                    Some(file) => format!("{command} --key-file {} --yes", quoted(file)),
                    None => format!("{command} --yes, and the new password or key file"),
                };
                format!("a rotation of its keys was interrupted; finish it with: {new}")
            }
            "wrong-key" if self.new_key_file.is_some() => {
                let new = self.new_key_file.as_deref().unwrap_or_default();
                let old = quoted(new.strip_suffix(".new").unwrap_or(new));
                let new = quoted(new);
                format!("a rotation left another key: if --key-file {new} opens it, mv {new} {old}")
            }
            "wrong-key" => "give the password at the prompt, with --password-file or with \
                 --password-command, a key file with --key-file, or the recovery code with \
                 --recovery-code-file"
                .to_owned(),
            "damaged" if !self.is_open => "nothing can be read without it: bring it back from a \
                 copy of the repository"
                .to_owned(),
            "damaged" => format!(
                "what is not damaged can be restored; find out what is with: {}",
                self.command("check --read-data")
            ),
            "rolled-back" => format!(
                "the store may show an old view, or lost something: nothing is written to it until \
                 that is clear. See what else is with: {}; if the snapshots are lost for good, go \
                 on with: {}",
                self.command("check"),
                self.command("accept-rollback")
            ),
            "held" => {
                "nothing was changed; look at it with -n, and if it is right, run it again with \
                 --approve, or approve it for the next run: lastgood mirror approve"
                    .to_owned()
            }
            "no-space" => {
                "free some space and run the command again: what was stored is kept and reused"
                    .to_owned()
            }
            "too-many-open" => {
                "allow more open files (ulimit -n) and run the command again: what was stored is \
                 kept and reused"
                    .to_owned()
            }
            "unavailable" => "run the command again; what was stored is kept and reused".to_owned(),
            "conflict" => "run the command again".to_owned(),
            "too-new" => "use the release that wrote it, or a later one".to_owned(),
            "denied" => "run the command as a user who may do this".to_owned(),
            "interrupted" => "what was stored is kept: run the command again to go on".to_owned(),
            "bug" => "this is a defect of lastgood: please report it with the message".to_owned(),
            "usage" | "invalid" => "see: lastgood --help".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}
