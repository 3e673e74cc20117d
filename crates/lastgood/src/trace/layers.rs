//! The layers between a run and the world.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use lastgood_backend::layer::retry::Pause;
use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::{Clock, Random, World};
use zeroize::Zeroize;

use super::Tape;
use super::exchange::{Answer, Question};

/// Clock, randomness and pause that leave a trace, or come from one.
#[derive(Clone)]
pub(super) struct Taped {
    pub(super) tape: Arc<Tape>,
    /// None in a replay.
    pub(super) world: Option<World>,
}

impl Taped {
    pub(super) fn into_world(self) -> World {
        World {
            clock: Arc::new(self.clone()),
            random: Arc::new(self.clone()),
            pause: Arc::new(self),
        }
    }

    fn ask(&self, question: Question, answer: impl FnOnce(&World) -> Answer) -> Answer {
        self.tape.ask(question, || self.world.as_ref().map_or(Answer::Strayed, answer))
    }
}

impl Clock for Taped {
    fn now(&self) -> Timestamp {
        match self.ask(Question::Now, |world| Answer::Time(world.clock.now())) {
            Answer::Time(time) => time,
            _ => Timestamp::default(),
        }
    }
}

impl Random for Taped {
    fn fill(&self, out: &mut [u8]) {
        let drawn = self.ask(Question::Random(out.len() as u64), |world| {
            let mut bytes = vec![0; out.len()];
            world.random.fill(&mut bytes);
            Answer::Bytes(bytes)
        });
        if let Answer::Bytes(mut bytes) = drawn {
            if bytes.len() == out.len() {
                out.copy_from_slice(&bytes);
            }
            bytes.zeroize();
        }
    }
}

impl Pause for Taped {
    fn pause(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        drop(self.ask(Question::Pause(nanos), |world| {
            world.pause.pause(duration);
            Answer::Done
        }));
    }
}

/// A backend that leaves a trace, or comes from one.
#[derive(Debug)]
pub(super) struct TapedBackend {
    tape: Arc<Tape>,
    /// None in a replay.
    inner: Option<Arc<dyn Backend>>,
    location: String,
}

impl TapedBackend {
    /// Leaves a trace of what is asked of `inner`.
    pub(super) fn around(tape: Arc<Tape>, inner: Arc<dyn Backend>) -> Self {
        let location = inner.location().to_owned();
        Self { tape, inner: Some(inner), location }
    }

    /// Answers from the trace.
    pub(super) const fn alone(tape: Arc<Tape>, location: String) -> Self {
        Self { tape, inner: None, location }
    }

    fn ask(
        &self,
        question: Question,
        answer: impl FnOnce(&dyn Backend) -> Result<Answer, BackendError>,
    ) -> Result<Answer, BackendError> {
        let answer = self.tape.ask(question, || match &self.inner {
            Some(inner) => answer(&**inner).unwrap_or_else(Answer::Failed),
            None => Answer::Strayed,
        });
        match answer {
            Answer::Failed(error) => Err(error),
            answer => Ok(answer),
        }
    }

    /// The error of a replay that left its trace, or whose trace answers something else.
    fn strayed(&self, action: &'static str, object: &str) -> BackendError {
        BackendError {
            kind: ErrorKind::Failed,
            action,
            object: object.to_owned(),
            location: self.location.clone(),
            source: io::Error::other("the replay is not what was recorded"),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for TapedBackend {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let mut hasher = blake3::Hasher::new();
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        let hash = *hasher.finalize().as_bytes();
        let question = Question::Put(name.to_string(), hasher.count(), hash);
        match self.ask(question, |inner| inner.put(name, parts).map(Answer::Put))? {
            Answer::Put(outcome) => Ok(outcome),
            _ => Err(self.strayed("write", name.as_str())),
        }
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        let question = Question::Get(name.to_string(), bytes_max);
        match self.ask(question, |inner| inner.get(name, bytes_max).map(Answer::Bytes))? {
            Answer::Bytes(bytes) if bytes.len() as u64 <= bytes_max => Ok(bytes),
            _ => Err(self.strayed("read", name.as_str())),
        }
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.clear();
        let question = Question::GetRange(name.to_string(), range.clone());
        let length = range.end.saturating_sub(range.start);
        let answer = self.ask(question, |inner| {
            let mut bytes = Vec::new();
            inner.get_range(name, range, &mut bytes)?;
            Ok(Answer::Bytes(bytes))
        })?;
        match answer {
            Answer::Bytes(bytes) if bytes.len() as u64 == length => {
                out.extend_from_slice(&bytes);
                Ok(())
            }
            _ => Err(self.strayed("read", name.as_str())),
        }
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        let question = Question::Stat(name.to_string());
        match self.ask(question, |inner| inner.stat(name).map(Answer::Length))? {
            Answer::Length(bytes) => Ok(bytes),
            _ => Err(self.strayed("stat", name.as_str())),
        }
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let answer = self.ask(Question::List(prefix.to_owned()), |inner| {
            let mut listed = Vec::new();
            inner.list(prefix, &mut |object| listed.push(object))?;
            Ok(Answer::Listed(listed))
        })?;
        match answer {
            Answer::Listed(listed) => {
                listed.into_iter().for_each(visit);
                Ok(())
            }
            _ => Err(self.strayed("list", prefix)),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        let question = Question::Remove(name.to_string());
        match self.ask(question, |inner| inner.remove(name).map(|()| Answer::Done))? {
            Answer::Done => Ok(()),
            _ => Err(self.strayed("remove", name.as_str())),
        }
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        let question = Question::Settle(prefix.to_owned());
        match self.ask(question, |inner| inner.settle(prefix).map(|()| Answer::Done))? {
            Answer::Done => Ok(()),
            _ => Err(self.strayed("settle", prefix)),
        }
    }
}
