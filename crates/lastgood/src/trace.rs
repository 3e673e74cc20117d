//! The trace of one backup: all that it asked of the world and was answered, kept in a file, and the
//! run made once more from that.
//!
//! One set of layers stands between the run and the world, at [`Clock`], [`Random`], [`Pause`],
//! [`Backend`] and where the source is read. Whatever passes is an [exchange](Question): in the run
//! itself the world answers and the exchange is kept; in a replay the file answers, as long as the
//! run asks the same. A trace holds class secrets, so it is sealed under the repository's key.
//! Spec: `docs/format/trace.md`.
//!
//! [`Clock`]: lastgood_repo::Clock
//! [`Random`]: lastgood_repo::Random
//! [`Pause`]: lastgood_backend::layer::retry::Pause

mod exchange;
mod file;
mod layers;
mod start;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastgood_backend::Backend;
use lastgood_backend::layer::retry::{Retry, RetryPolicy};
use lastgood_host::scan::Stat;
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::slot::Credential;
use lastgood_repo::{IndexOptions, OpenOptions, Repository, World};

use crate::backup::{self, BackupOptions, BackupReport};
use crate::error::{Error, ErrorKind};
use crate::job::Problem;
use crate::opening::last_seen_file;
use crate::writer_state::WriterState;
pub use exchange::{Answer, Question};
use file::{TraceReader, TraceWriter};
use layers::{Taped, TapedBackend};
use start::Start;

/// The trace of a run that goes on, or is made once more.
#[derive(Debug)]
pub struct Tape(Mutex<Side>);

#[derive(Debug)]
enum Side {
    Recording(TraceWriter),
    Replaying(Player),
}

/// What answers a replay.
#[derive(Debug)]
struct Player {
    reader: TraceReader,
    /// Exchanges that were the same.
    same: u64,
    last_time: Timestamp,
    /// Draws since it left its trace.
    strayed_draws: u64,
    ended: Option<Result<Ended, Error>>,
}

/// What a replay found.
#[derive(Debug)]
pub struct Replay {
    /// Exchanges that were the same, from the first.
    pub same: u64,
    /// How it ended.
    pub ended: Ended,
}

/// How a replay ended.
#[derive(Debug)]
pub enum Ended {
    /// As the run did, which it says.
    Same(String),
    /// The trace ends before the run did: it was killed, or its trace could not be kept. So far the
    /// replay was the same; this is what it went on to ask.
    CutOff(Question),
    /// The run went another way.
    Differs(Box<Difference>),
}

/// Where a replay asked something else.
#[derive(Debug)]
pub struct Difference {
    /// What the run asked and was answered.
    pub recorded: (Question, Answer),
    /// What the replay asks instead.
    pub replayed: Question,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (question, answer) = &self.recorded;
        write!(f, "recorded: {question} -> {answer}\nreplayed: {}", self.replayed)?;
        if question.is_of_source() || self.replayed.is_of_source() {
            write!(f, "\nthe source is no longer what it was")?;
        }
        Ok(())
    }
}

/// Opens `repo` once more through `backend`, so that a backup from it with `options` leaves its
/// trace in `file`, a new one for its owner alone. The run has one thread then, and reads the index
/// anew, into `cache`, an empty folder.
///
/// # Errors
/// [`ErrorKind::Exists`]; [`ErrorKind::Invalid`] for a stream, which cannot be read twice, and for a
/// file below a source.
pub fn record(
    file: &Path,
    repo: &Repository,
    backend: Arc<dyn Backend>,
    cache: PathBuf,
    options: &mut BackupOptions,
) -> Result<Arc<Repository>, Error> {
    if options.stream.is_some() {
        let message = "a stream cannot be read again, so no trace of its backup is kept";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    one_thread(options);
    for source in &mut options.sources {
        *source = std::path::absolute(&*source).map_err(|error| {
            Error::caused_by(ErrorKind::Invalid, "cannot find the working directory", error)
        })?;
        refuse_below(source, file)?;
    }
    // Taken and let go: the run takes the same, since it is the first that is free.
    let writer = *WriterState::claim(&options.state, repo)?.name();
    let last_seen = last_seen_file(&options.state, repo.config().repository);
    let world = repo.world();
    let start = Start {
        begun: world.clock.now(),
        location: backend.location().to_owned(),
        writer,
        last_seen: std::fs::read(&last_seen).ok(),
        options: std::mem::replace(options, BackupOptions::new(Vec::new(), PathBuf::new())),
    };
    let head = start.encode();
    *options = start.options;
    let writer = TraceWriter::create(file, repo.keys(), &world.random(), head)?;
    let tape = Arc::new(Tape(Mutex::new(Side::Recording(writer))));
    options.trace = Some(tape.clone());
    let backend = TapedBackend::around(tape.clone(), backend);
    let world = Taped { tape: tape.clone(), world: Some(world.clone()) }.into_world();
    let index = IndexOptions { cache: Some(cache) };
    tape.open(backend, world, repo, OpenOptions { index, last_seen: Some(last_seen), threads: 1 })
}

/// Makes the run once more whose trace is in `file`, with the keys of `repo`. Its source is read
/// where it was; the repository itself is not asked for anything.
///
/// # Errors
/// [`ErrorKind::WrongKey`] for a trace of another repository, or of the time before its key was
/// rotated; [`ErrorKind::Damaged`].
pub fn replay(file: &Path, repo: &Repository) -> Result<Replay, Error> {
    let folder = tempfile::tempdir().map_err(|error| {
        let text = "cannot make a folder for the replay";
        Error::caused_by(ErrorKind::from(&error), text, error)
    })?;
    let state = folder.path().join("state");
    let mut reader = TraceReader::open(file, repo.keys())?;
    let Some((Question::Start(head), _)) = reader.next()? else {
        return Err(Error::new(
            ErrorKind::Damaged,
            format!("the trace {} does not say how its run was started", file.display()),
        ));
    };
    let Start { begun, location, writer, last_seen, mut options } =
        Start::decode(&head, state.clone()).map_err(|error| reader.damaged(error))?;
    let last_seen_file = last_seen_file(&state, repo.config().repository);
    remember(&last_seen_file, &writer, last_seen.as_deref())?;
    options.select.file_systems = crate::this_host::file_systems();
    one_thread(&mut options);

    let player = Player { reader, same: 1, last_time: begun, strayed_draws: 0, ended: None };
    let tape = Arc::new(Tape(Mutex::new(Side::Replaying(player))));
    options.trace = Some(tape.clone());
    let backend = TapedBackend::alone(tape.clone(), location);
    let world = Taped { tape: tape.clone(), world: None }.into_world();
    let index = IndexOptions { cache: Some(folder.path().join("cache")) };
    let open_options = OpenOptions { index, last_seen: Some(last_seen_file), threads: 1 };
    // An error of the run is its end, which was compared.
    if let Ok(repo) = tape.open(backend, world, repo, open_options) {
        drop(backup::start(repo, options).wait(drop));
    }
    tape.replayed()
}

/// With one thread and nobody beside it, all calls come in one order.
fn one_thread(options: &mut BackupOptions) {
    options.threads = 1;
    options.settings.uploads = 0;
    options.estimate = false;
}

/// A trace that grows while it is backed up would never be the same again.
fn refuse_below(source: &Path, file: &Path) -> Result<(), Error> {
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (source.canonicalize(), folder) {
        (Ok(source), Ok(folder)) if folder.starts_with(&source) => Err(Error::new(
            ErrorKind::Invalid,
            format!("{} lies in {}, which is backed up", file.display(), source.display()),
        )),
        _ => Ok(()),
    }
}

/// Makes a state folder as it was.
fn remember(last_seen: &Path, writer: &[u8; 16], seen: Option<&[u8]>) -> Result<(), Error> {
    let folder = last_seen.parent().unwrap_or(last_seen);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("writer-0"), writer))
        .and_then(|()| seen.map_or(Ok(()), |seen| std::fs::write(last_seen, seen)))
        .map_err(|error| {
            let text = format!("cannot write {}", folder.display());
            Error::caused_by(ErrorKind::from(&error), text, error)
        })
}

impl Tape {
    /// Opens what is behind the layers, as every repository is opened.
    fn open(
        &self,
        backend: TapedBackend,
        world: World,
        original: &Repository,
        options: OpenOptions,
    ) -> Result<Arc<Repository>, Error> {
        let seed = u64::from_le_bytes(world.random());
        let pause = world.pause.clone();
        let backend = Arc::new(Retry::new(Arc::new(backend), pause, RetryPolicy::default(), seed));
        let credential = Credential::Root(original.keys().root().clone());
        let opened = Repository::open(backend, world, &credential, options).map_err(Error::from);
        if let Err(error) = &opened {
            self.end(&with_causes(error))?;
        }
        opened.map(Arc::new)
    }

    /// Asks the world, or the trace.
    fn ask(&self, question: Question, world: impl FnOnce() -> Answer) -> Answer {
        if let Side::Replaying(player) = &mut *self.lock() {
            return player.answer(question);
        }
        let answer = world();
        if let Side::Recording(writer) = &mut *self.lock() {
            writer.push(&question, &answer);
        }
        answer
    }

    /// Tells what is not answered.
    fn tell(&self, question: Question) {
        drop(self.ask(question, || Answer::Done));
    }

    /// What `statx` says of a directory that only leads to sources. Its times move with whatever
    /// else happens in it, so a replay takes them from the trace.
    pub(crate) fn leading(&self, path: &Path, stat: Stat) -> Stat {
        match self.ask(Question::Leading(path.to_owned()), || Answer::Leading(stat)) {
            Answer::Leading(stat) => stat,
            _ => stat,
        }
    }

    /// An entry of the source was found.
    pub(crate) fn entry(&self, path: PathBuf, stat: &Stat) {
        self.tell(Question::Entry(path, exchange::fingerprint(stat)));
    }

    /// Bytes of a file of the source were read.
    pub(crate) fn content(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let hash = *blake3::hash(bytes).as_bytes();
        let range = offset..offset + bytes.len() as u64;
        self.tell(Question::Content(path.to_owned(), range, hash));
    }

    /// There was trouble with one path.
    pub(crate) fn problem(&self, problem: &Problem) {
        let Problem { path, during, message, .. } = problem;
        self.tell(Question::Problem(path.clone(), (*during).to_owned(), message.clone()));
    }

    /// The run ended. Says why its trace is not whole, if it is not.
    pub(crate) fn end_of(&self, result: &Result<BackupReport, Error>) -> Result<(), Error> {
        match result {
            Ok(report) => match &report.snapshot {
                Some(record) => self.end(&format!("snapshot {}", record.id)),
                None => self.end("no snapshot"),
            },
            Err(error) => self.end(&with_causes(error)),
        }
    }

    fn end(&self, how: &str) -> Result<(), Error> {
        self.tell(Question::End(how.to_owned()));
        match &mut *self.lock() {
            Side::Recording(writer) => writer.finish(),
            Side::Replaying(_) => Ok(()),
        }
    }

    fn replayed(&self) -> Result<Replay, Error> {
        match &mut *self.lock() {
            Side::Replaying(Player { same, ended, .. }) => match ended.take() {
                Some(ended) => Ok(Replay { same: *same, ended: ended? }),
                None => Err(unended()),
            },
            Side::Recording(_) => Err(unended()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Side> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Player {
    /// The recorded answer to `question`, unless the run asked something else here.
    fn answer(&mut self, question: Question) -> Answer {
        if self.ended.is_some() {
            return self.strayed(&question);
        }
        match self.reader.next() {
            Ok(Some((asked, answer))) if asked == question => {
                self.same += 1;
                match (asked, &answer) {
                    (Question::End(text), _) => self.ended = Some(Ok(Ended::Same(text))),
                    (_, Answer::Time(time)) => self.last_time = *time,
                    _ => {}
                }
                answer
            }
            Ok(recorded) => {
                let answer = self.strayed(&question);
                self.ended = Some(Ok(match recorded {
                    Some(recorded) => {
                        Ended::Differs(Box::new(Difference { recorded, replayed: question }))
                    }
                    None => Ended::CutOff(question),
                }));
                answer
            }
            Err(error) => {
                self.ended = Some(Err(error));
                self.strayed(&question)
            }
        }
    }

    /// What makes a run end soon that has left its trace: nothing of the repository can be had, and
    /// no two draws are the same, for it may wait for one that is not taken.
    fn strayed(&mut self, question: &Question) -> Answer {
        match question {
            Question::Now => Answer::Time(self.last_time),
            Question::Random(count) => {
                self.strayed_draws += 1;
                let mut bytes = vec![0; *count as usize];
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.strayed_draws.to_le_bytes()).finalize_xof().fill(&mut bytes);
                Answer::Bytes(bytes)
            }
            _ => Answer::Strayed,
        }
    }
}

/// A replay that asks for no more has ended, and told how.
fn unended() -> Error {
    Error::new(ErrorKind::Bug, "a replay did not come to an end")
}

/// An error with all its causes.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
