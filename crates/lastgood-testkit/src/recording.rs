//! A backend that remembers every call.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};

/// Passes every call on and remembers it, with what came of it.
///
/// For assertions about the number of requests, and for crash tests: see [`Self::state_after`].
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn Backend>,
    /// What was there when recording began.
    before: Objects,
    calls: Mutex<Vec<Call>>,
}

/// One call of a [`Recording`], in the order in which calls returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method and its arguments.
    pub request: Request,
    /// What it returned, without the data.
    pub result: Result<Answer, ErrorKind>,
}

/// A method of [`Backend`], with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// [`Backend::put`], with the parts joined.
    Put {
        /// Of the object.
        name: ObjectName,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
    /// [`Backend::get`].
    Get {
        /// Of the object.
        name: ObjectName,
        /// The most that was asked for.
        bytes_max: u64,
    },
    /// [`Backend::get_range`].
    GetRange {
        /// Of the object.
        name: ObjectName,
        /// The range that was asked for.
        range: Range<u64>,
    },
    /// [`Backend::stat`].
    Stat {
        /// Of the object.
        name: ObjectName,
    },
    /// [`Backend::list`].
    List {
        /// The prefix.
        prefix: String,
    },
    /// [`Backend::remove`].
    Remove {
        /// Of the object.
        name: ObjectName,
    },
    /// [`Backend::settle`].
    Settle {
        /// The prefix.
        prefix: String,
    },
}

/// What a successful call returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Of a put.
    Put(PutOutcome),
    /// Of a get, get_range or stat: how many bytes were read, or how long the object is.
    Bytes(u64),
    /// Of a list: how many objects were shown.
    Listed(u64),
    /// Of a remove.
    Removed,
    /// Of a settle.
    Settled,
}

/// The methods of [`Backend`] that are requests, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// [`Backend::put`].
    Put,
    /// [`Backend::get`].
    Get,
    /// [`Backend::get_range`].
    GetRange,
    /// [`Backend::stat`].
    Stat,
    /// [`Backend::list`].
    List,
    /// [`Backend::remove`].
    Remove,
    /// [`Backend::settle`].
    Settle,
}

impl Recording {
    /// Records what is done to `inner`, which holds nothing yet, or nothing that matters to
    /// [`Self::state_after`].
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        Self { inner, before: Objects::new(), calls: Mutex::default() }
    }

    /// Records what is done to `inner` from its present state on.
    #[must_use]
    pub fn of_memory(inner: &MemoryBackend) -> Self {
        Self { before: inner.objects(), ..Self::new(Arc::new(inner.clone())) }
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// Returns all calls so far and forgets them, so that the next part of a test counts its own.
    /// What they changed is then not part of [`Self::state_after`].
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.lock())
    }

    /// How many calls there were so far of each method; none of those never called.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Method, u64> {
        let mut counts = BTreeMap::new();
        for call in self.lock().iter() {
            *counts.entry(call.request.method()).or_default() += 1;
        }
        counts
    }

    /// How many calls so far stored or removed an object: the number of states that a crash can
    /// leave, less one.
    #[must_use]
    pub fn change_count(&self) -> usize {
        self.lock().iter().filter(|call| call.is_change()).count()
    }

    /// The state that a crash after the first `change_count` changes leaves: 0 is the state when
    /// recording began, [`Self::change_count`] the last one.
    ///
    /// Calls that run at once may be cut in any order; here it is the one in which they returned.
    #[must_use]
    pub fn state_after(&self, change_count: usize) -> MemoryBackend {
        let mut objects = self.before.clone();
        for call in self.lock().iter().filter(|call| call.is_change()).take(change_count) {
            match &call.request {
                Request::Put { name, bytes } => {
                    objects.insert(name.clone(), Arc::clone(bytes));
                }
                Request::Remove { name } => {
                    objects.remove(name);
                }
                _ => {}
            }
        }
        let state = MemoryBackend::new();
        state.replace(objects);
        state
    }

    fn record<T>(
        &self,
        request: Request,
        result: Result<T, BackendError>,
        answer: impl FnOnce(&T) -> Answer,
    ) -> Result<T, BackendError> {
        let summary = result.as_ref().map(answer).map_err(|error| error.kind);
        self.lock().push(Call { request, result: summary });
        result
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        // Only ever pushed to, so a panicking test thread leaves nothing half done.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// Whether this call changed what the backend holds, as far as its caller knows.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self.result, Ok(Answer::Put(PutOutcome::Created) | Answer::Removed))
    }
}

impl Request {
    /// The method without its arguments.
    #[must_use]
    pub fn method(&self) -> Method {
        match self {
            Self::Put { .. } => Method::Put,
            Self::Get { .. } => Method::Get,
            Self::GetRange { .. } => Method::GetRange,
            Self::Stat { .. } => Method::Stat,
            Self::List { .. } => Method::List,
            Self::Remove { .. } => Method::Remove,
            Self::Settle { .. } => Method::Settle,
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Recording {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, parts: &[&[u8]]) -> Result<PutOutcome, BackendError> {
        let result = self.inner.put(name, parts);
        let request = Request::Put { name: name.clone(), bytes: parts.concat().into() };
        self.record(request, result, |outcome| Answer::Put(*outcome))
    }

    fn get(&self, name: &ObjectName, bytes_max: u64) -> Result<Vec<u8>, BackendError> {
        let result = self.inner.get(name, bytes_max);
        let request = Request::Get { name: name.clone(), bytes_max };
        self.record(request, result, |bytes| Answer::Bytes(bytes.len() as u64))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let result = self.inner.get_range(name, range.clone(), out);
        let request = Request::GetRange { name: name.clone(), range };
        self.record(request, result, |()| Answer::Bytes(out.len() as u64))
    }

    fn stat(&self, name: &ObjectName) -> Result<u64, BackendError> {
        let result = self.inner.stat(name);
        self.record(Request::Stat { name: name.clone() }, result, |bytes| Answer::Bytes(*bytes))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let mut count = 0;
        let result = self.inner.list(prefix, &mut |listed| {
            count += 1;
            visit(listed);
        });
        self.record(Request::List { prefix: prefix.to_owned() }, result, |()| Answer::Listed(count))
    }

    fn remove(&self, name: &ObjectName) -> Result<(), BackendError> {
        let result = self.inner.remove(name);
        self.record(Request::Remove { name: name.clone() }, result, |()| Answer::Removed)
    }

    fn settle(&self, prefix: &str) -> Result<(), BackendError> {
        let result = self.inner.settle(prefix);
        self.record(Request::Settle { prefix: prefix.to_owned() }, result, |()| Answer::Settled)
    }
}
