//! What every command has at hand: settings, output, and the way to the repository.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lastgood::backup::BackupOptions;
use lastgood::log::{Entry, Logbook};
use lastgood::{Credential, Event, Home, Job, Problem, Repository, Severity, SlotKind, World};
use lastgood::{opening, system, trace};
use serde_json::{Map, json};

use crate::args::Global;
use crate::clock::Stopwatch;
use crate::failure::{Code, Failure, Hints};
use crate::output::{Output, path_bytes};
use crate::progress;
use crate::secret::{self, Password};
use crate::settings::{self, Environment, KeySource};
use crate::text;

/// One run of the command.
#[derive(Debug)]
pub(crate) struct App<'a> {
    pub(crate) out: &'a Output,
    pub(crate) environment: Environment,
    pub(crate) watch: Stopwatch,
    global: Global,
    repository: Option<PathBuf>,
    fps: Option<f64>,
    /// A folder for this run alone.
    run_folder: OnceLock<tempfile::TempDir>,
    opened: OnceLock<Arc<Repository>>,
}

impl<'a> App<'a> {
    pub(crate) fn new(
        global: Global,
        environment: Environment,
        out: &'a Output,
    ) -> Result<Self, Failure> {
        let repository = settings::repository(&global, &environment)?;
        let fps = settings::progress_fps(&environment)?;
        if let Some(option) = global.options.first() {
            out.warn(format!(
                "the option {} is not known and changes nothing",
                text::quoted(option)
            ));
        }
        let watch = Stopwatch::start();
        let (run_folder, opened) = (OnceLock::new(), OnceLock::new());
        Ok(Self { out, environment, watch, global, repository, fps, run_folder, opened })
    }

    pub(crate) fn hints(&self) -> Hints {
        let repository = self.repository.as_ref().map(|path| path.to_string_lossy().into_owned());
        Hints { repository, is_open: self.opened.get().is_some(), ..Hints::default() }
    }

    /// What hints about a failure are made with.
    pub(crate) fn hints_about(&self, failure: &Failure) -> Hints {
        let hints = self.hints();
        let path = match (&self.repository, self.home()) {
            (Some(path), _) => path.clone(),
            (None, Ok(home)) => home.default_repository(),
            (None, Err(_)) => return hints,
        };
        if failure.code != Code::WrongKey {
            return hints;
        }
        let key_file = match self.named_key() {
            Ok(Some(KeySource::KeyFile(path))) => Some(path),
            Ok(None) if self.repository.is_none() => {
                self.home().ok().map(|home| home.default_key_file())
            }
            _ => None,
        };
        let new = key_file.map(|path| beside(&path)).filter(|path| path.exists());
        let new_key_file = new.map(|path| path.to_string_lossy().into_owned());
        let is_rotation_open = opening::is_rotation_open(&path).unwrap_or(false);
        Hints { is_rotation_open, new_key_file, ..hints }
    }

    pub(crate) fn home(&self) -> Result<Home, Failure> {
        let mut home = settings::home(&self.global, &self.environment)?;
        if self.global.no_cache {
            home.cache = self.run_folder()?.join("cache");
        }
        Ok(home)
    }

    /// A folder that is removed when the command ends.
    fn run_folder(&self) -> Result<&Path, Failure> {
        if self.run_folder.get().is_none() {
            let folder = tempfile::tempdir().map_err(|error| {
                Failure::io(Code::Failed, "cannot make a directory for this run", &error)
            })?;
            drop(self.run_folder.set(folder));
        }
        Ok(self.run_folder.get().map_or(Path::new("/"), tempfile::TempDir::path))
    }

    /// The repository that was named; `None` for the default one.
    pub(crate) fn named_repository(&self) -> Option<&Path> {
        self.repository.as_deref()
    }

    /// The mirror that was named in the place of a repository.
    pub(crate) fn named_mirror(&self) -> Option<&Path> {
        self.named_repository().filter(|path| lastgood::mirror::is_mirror(path))
    }

    /// Whether the default repository is meant, and not there yet.
    pub(crate) fn is_default_missing(&self) -> Result<bool, Failure> {
        Ok(self.repository.is_none() && !self.home()?.default_repository().exists())
    }

    /// The key that was named.
    pub(crate) fn named_key(&self) -> Result<Option<KeySource>, Failure> {
        settings::key(&self.global, &self.environment)
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Arc<Repository>, Failure> {
        self.open_with_key().map(|(repo, _)| repo)
    }

    /// Opens the repository and says with what.
    pub(crate) fn open_with_key(&self) -> Result<(Arc<Repository>, Credential), Failure> {
        let opened = self.open_named_with_key()?;
        self.opened.get_or_init(|| opened.0.clone());
        Ok(opened)
    }

    /// Says what of the repository was damaged and could be read nevertheless.
    pub(crate) fn warn_of_mended(&self) {
        let mended = self.opened.get().map(|repo| repo.mended()).unwrap_or_default();
        let repair = self.hints().command("repair");
        for object in mended.iter().take(PROBLEMS_SHOWN as usize) {
            self.out.warn(format!("{object} is damaged; nothing of it is lost, see: {repair}"));
        }
        let passed_over = self.opened.get().map(|repo| repo.passed_over()).unwrap_or_default();
        for object in passed_over {
            let upgrade = self.hints().command("upgrade");
            self.out.warn(format!(
                "{object} is passed over: no root of the repository signed it as a revision, or it \
                 is damaged; if nobody revised the repository, end that with: {upgrade} --yes"
            ));
        }
        if mended.len() > PROBLEMS_SHOWN as usize {
            self.out.warn(format!(
                "{} objects are damaged; nothing is lost, see: {repair}",
                mended.len()
            ));
        }
    }

    fn open_named_with_key(&self) -> Result<(Arc<Repository>, Credential), Failure> {
        let home = self.home()?;
        let world = system::world();
        let Some(path) = &self.repository else {
            return self.open_existing_default(&home, world);
        };
        if let Some(source) = self.named_key()? {
            let key = self.credential(&source)?;
            return Ok((opening::open(path, &home, world, &key)?, key));
        }
        let kinds = opening::slot_kinds(path)?;
        if !kinds.iter().any(|kind| matches!(kind, SlotKind::Passphrase(_))) {
            let message = format!("the repository in {} opens with a key file", path.display());
            return Err(Failure::new(Code::WrongKey, message)
                .hint("name it with --key-file or LASTGOOD_KEY_FILE"));
        }
        if !secret::can_ask() {
            let key = Credential::Passphrase(secret::from_stdin()?);
            return Ok((opening::open(path, &home, world, &key)?, key));
        }
        for _ in 1..PROMPTS_MAX {
            let key = Credential::Passphrase(secret::ask("password")?);
            match opening::open(path, &home, world.clone(), &key) {
                Ok(repo) => return Ok((repo, key)),
                Err(error) if error.kind() == lastgood::ErrorKind::WrongKey => {
                    self.out.error_line("wrong password, try again");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let key = Credential::Passphrase(secret::ask("password")?);
        Ok((opening::open(path, &home, world, &key)?, key))
    }

    /// Opens the default repository, which is not made here: only a backup has something to put in.
    fn open_existing_default(
        &self,
        home: &Home,
        world: World,
    ) -> Result<(Arc<Repository>, Credential), Failure> {
        let path = home.default_repository();
        let key = match self.named_key()? {
            Some(source) => self.credential(&source)?,
            None if !path.exists() => {
                let message = format!("there is no repository in {} yet", path.display());
                return Err(Failure::new(Code::NoRepository, message));
            }
            None => self.credential(&KeySource::KeyFile(home.default_key_file()))?,
        };
        Ok((opening::open(&path, home, world, &key)?, key))
    }

    /// Opens the repository for a backup: the default one is made when it is not there. A dry run
    /// makes one that goes again.
    pub(crate) fn open_for_backup(
        &self,
        dry_run: bool,
    ) -> Result<(Arc<Repository>, PathBuf), Failure> {
        if let Some(path) = &self.repository {
            return Ok((self.open()?, path.clone()));
        }
        let home = self.home()?;
        if self.named_key()?.is_some() {
            return Ok((self.open()?, home.default_repository()));
        }
        if dry_run && !home.default_repository().exists() {
            let folder = self.run_folder()?;
            let passing = Home { data: folder.join("data"), ..home.clone() };
            let opened = opening::open_default(&passing, system::world(), "dry run")?;
            return Ok((opened.repo, home.default_repository()));
        }
        let opened = opening::open_default(&home, system::world(), &self.key_label())?;
        self.opened.get_or_init(|| opened.repo.clone());
        if let Some(code) = &opened.recovery_code {
            let path = &opened.path;
            self.out.line(format!("made a repository in {}", path.display()));
            self.out.line(format!("its key is in {}", home.default_key_file().display()));
            self.show_recovery_code(code);
            let mut fields = Map::new();
            text::put_path(&mut fields, "repository", path_bytes(path));
            text::put_path(&mut fields, "key_file", path_bytes(&home.default_key_file()));
            let id = opened.repo.config().repository.to_string();
            fields.insert("id".to_owned(), id.into());
            fields.insert("recovery_code".to_owned(), code.as_str().into());
            self.out.json("initialized", fields.into());
        }
        Ok((opened.repo, opened.path))
    }

    /// Opens a repository once more, so that a backup from it with `options` leaves its trace in
    /// `file`.
    pub(crate) fn open_traced(
        &self,
        repo: &Repository,
        path: &Path,
        file: &Path,
        options: &mut BackupOptions,
    ) -> Result<Arc<Repository>, Failure> {
        let backend = opening::bare_backend(path)?;
        let cache = self.run_folder()?.join("traced");
        let traced = trace::record(file, repo, backend, cache, options)?;
        self.out.info(format!("a trace of this run is kept in {}", file.display()));
        Ok(traced)
    }

    /// Shows the recovery code, once, with what to do with it.
    pub(crate) fn show_recovery_code(&self, code: &str) {
        self.out.line("");
        self.out.line("recovery code:");
        let groups: Vec<&str> = code.split('-').collect();
        self.out.lines(groups.chunks(7).map(|groups| format!("    {}", groups.join("-"))));
        self.out.line("");
        self.out.line("Write it down and keep it away from this computer: it opens the repository");
        self.out.line("when the key file or the password is lost. It is not shown again.");
        self.out.line("");
    }

    /// What a new key slot is called when nothing else was said.
    pub(crate) fn key_label(&self) -> String {
        let user = self.environment.get("USER").or_else(|| self.environment.get("LOGNAME"));
        let host = lastgood::this_host::name();
        match user.and_then(|user| user.to_str()).filter(|user| !user.is_empty()) {
            Some(user) => format!("{user}@{host}"),
            None => host,
        }
    }

    /// Reads what opens the repository.
    pub(crate) fn credential(&self, source: &KeySource) -> Result<Credential, Failure> {
        match source {
            KeySource::KeyFile(path) => {
                opening::read_key_file(path).map_err(|error| match Failure::from(error) {
                    failure if failure.code == Code::NoSpace => failure,
                    failure => failure.with_code(Code::WrongKey),
                })
            }
            KeySource::RecoveryCodeFile(path) => {
                let bytes = secret::from_file(path)?;
                let bad = || {
                    let message = format!("{} holds no recovery code", path.display());
                    Failure::new(Code::WrongKey, message).hint(
                        "it is 14 groups of four letters and digits; a slip in any of them is noticed",
                    )
                };
                let text = std::str::from_utf8(&bytes).map_err(|_| bad())?;
                Ok(Credential::Root(lastgood::parse_recovery_code(text).map_err(|_| bad())?))
            }
            password => {
                let password = password.password(&self.environment)?;
                Ok(Credential::Passphrase(password.unwrap_or_default()))
            }
        }
    }

    /// A new password: asked for twice, or read from standard input when nobody can be asked.
    pub(crate) fn new_password(&self, prompt: &str) -> Result<Password, Failure> {
        if !secret::can_ask() {
            return not_empty(secret::from_stdin()?);
        }
        for _ in 0..PROMPTS_MAX {
            let password = secret::ask(prompt)?;
            if password.is_empty() {
                self.out.error_line("an empty password protects nothing");
            } else if password == secret::ask("the same again")? {
                return Ok(password);
            } else {
                self.out.error_line("the two differ, try again");
            }
        }
        Err(Failure::new(Code::WrongKey, "no password was given twice"))
    }

    /// Asks whether to go on; where nobody can be asked, the answer is no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, Failure> {
        if self.out.is_json() || !secret::can_ask() {
            return Ok(false);
        }
        secret::confirm(question)
    }

    /// Notes what was done in the log of the repository.
    pub(crate) fn log(&self, repo: &Repository, entry: Entry) -> Result<(), Failure> {
        let program = concat!("lastgood ", env!("CARGO_PKG_VERSION"));
        if let Err(error) = Logbook::here(&self.home()?.state, program).write(repo, entry) {
            self.tell_unlogged(Some(Failure::from(error).text()));
        }
        Ok(())
    }

    /// Says that what was done is not in the log of the repository, if it is not.
    pub(crate) fn tell_unlogged(&self, why: Option<String>) {
        if let Some(why) = why {
            self.out.note(format!("this is not in the log of the repository: {why}"));
        }
    }

    /// Runs a job, showing its progress, problems and notes.
    pub(crate) fn run<T: Send + 'static>(&self, job: Job<T>) -> Result<T, Failure> {
        self.run_with(job, |_| {})
    }

    /// The same; items go to `on_item`.
    pub(crate) fn run_with<T: Send + 'static>(
        &self,
        job: Job<T>,
        mut on_item: impl FnMut(lastgood::Item),
    ) -> Result<T, Failure> {
        let mut shown = 0;
        progress::run(self.out, self.fps, job, |event| match event {
            Event::Problem(problem) => {
                shown += 1;
                self.show_problem(&problem, shown);
            }
            Event::Item(item) => on_item(item),
            Event::Note(note) => self.out.note(note),
        })
    }

    /// Shows that something was met that cannot be read; the command goes on. `number` counts from 1.
    pub(crate) fn show_lost(
        &self,
        path: &[u8],
        during: &'static str,
        error: lastgood::Error,
        number: u64,
    ) {
        let problem = Problem {
            path: PathBuf::from(OsStr::from_bytes(path)),
            during,
            message: Failure::from(error).text(),
            severity: Severity::Error,
        };
        self.show_problem(&problem, number);
    }

    /// Shows one problem as it happens: the first ones, or all of them for programs and with `-v`.
    fn show_problem(&self, problem: &Problem, number: u64) {
        if self.out.is_json() {
            let mut fields = Map::new();
            text::put_path(&mut fields, "item", path_bytes(&problem.path));
            fields.insert("during".to_owned(), problem.during.into());
            fields.insert("error".to_owned(), json!({ "message": problem.message }));
            fields.insert("severity".to_owned(), severity(problem.severity).into());
            self.out.error_json("error", fields.into());
        } else if number <= PROBLEMS_SHOWN || self.out.style.verbosity > 0 {
            let path = text::escaped(path_bytes(&problem.path));
            let word = severity(problem.severity);
            self.out.error_line(&format!("{word}: {path}: {}", problem.message));
        } else if number == PROBLEMS_SHOWN + 1 {
            self.out.error_line("further problems are counted; -v shows all of them");
        }
    }
}

/// Refuses an empty password.
/// Where a new key is until it takes the place of the one in `file`.
pub(crate) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn not_empty(password: Password) -> Result<Password, Failure> {
    match password.is_empty() {
        true => Err(Failure::new(Code::WrongKey, "an empty password protects nothing")
            .hint("use a key file when no password is to be typed: --key-file")),
        false => Ok(password),
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

const PROBLEMS_SHOWN: u64 = 20;
const PROMPTS_MAX: u32 = 3;
