//! Asking a store whether it does what gc rests on: of many creators of one name exactly one
//! succeeds, and what was put is seen. Spec: `docs/format/commit.md`, before section 1.

use lastgood_backend::{Backend, BackendError, ErrorKind, PutOutcome};
use lastgood_format::object::name;

use crate::each::each;
use crate::error::RepoError;
use crate::objects::object_name;
use crate::repository::Repository;
use crate::reserve::Spender;

/// Probes the store with a name that nobody has used. Returns what time it is by the store.
///
/// # Errors
/// [`RepoError::UnsafeStore`] says what the store does not do; whatever the backend says.
pub(super) fn probe(repo: &Repository) -> Result<i64, RepoError> {
    let object = name::probe(&repo.world().random());
    let probe = Probe { repo, object: &object };
    let result = probe.run();
    // Whatever came of it; where this fails, a later gc removes it.
    let removed = repo.backend().remove(&object_name(&object));
    let now = result?;
    removed?;
    Ok(now)
}

impl Repository {
    /// Whether gc will run on this store.
    ///
    /// # Errors
    /// [`RepoError::UnsafeStore`] says why it will not; whatever the backend says.
    pub fn probe(&self) -> Result<(), RepoError> {
        probe(self).map(drop)
    }

    /// What time it is by the clock of the store, in seconds since 1970: that of an object that is
    /// put and removed again.
    ///
    /// # Errors
    /// Whatever the backend says; [`RepoError::UnsafeStore`] when what was put is not listed.
    pub fn store_time(&self) -> Result<i64, RepoError> {
        self.store_time_for(Spender::Forget)
    }

    /// The same; where the store is full, from the part of the reserve that `spender` may spend.
    pub(super) fn store_time_for(&self, spender: Spender) -> Result<i64, RepoError> {
        let object = name::probe(&self.world().random());
        self.with_room(spender, || self.backend().put(&object_name(&object), &[&[0]]))?;
        let time = Probe { repo: self, object: &object }.listed();
        self.backend().remove(&object_name(&object))?;
        time
    }
}

struct Probe<'a> {
    repo: &'a Repository,
    object: &'a str,
}

impl Probe<'_> {
    fn run(&self) -> Result<i64, RepoError> {
        let backend = self.repo.backend().as_ref();
        let racers: Vec<[u8; 1]> = (0..RACERS).map(|number| [number]).collect();
        let answers = self.race(backend, &racers)?;
        let winners: Vec<u8> = answers.into_iter().flatten().collect();
        let [winner] = winners.as_slice() else {
            return Err(self.refuse(
                "of several that create one name at once, not exactly one is \
                                    told that it did",
            ));
        };
        // Other bytes, since the same ones may pass for a repeated put.
        let name = object_name(self.object);
        if self.put(backend, RACERS)? == PutOutcome::Created {
            return Err(self.refuse("it overwrites what is there"));
        }
        if backend.get(&name, 1)? != [*winner] {
            return Err(self.refuse("what it returns is not what was put"));
        }
        self.listed()
    }

    /// When the probe was put, by the clock of the store.
    fn listed(&self) -> Result<i64, RepoError> {
        let mut found = None;
        self.repo.backend().list(name::PROBE, &mut |listed| {
            if listed.name.as_str() == self.object {
                found = Some(listed.modified);
            }
        })?;
        found.ok_or_else(|| self.refuse("what was put is not listed"))
    }

    /// All of `racers` put the name at once; who was told to have created it says so.
    fn race(
        &self,
        backend: &dyn Backend,
        racers: &[[u8; 1]],
    ) -> Result<Vec<Option<u8>>, RepoError> {
        let name = object_name(self.object);
        let put = |racer: &[u8; 1]| match backend.put(&name, &[racer]) {
            // What the others took meanwhile is there again when they have ended; the reserve is for
            // what stays.
            Err(error) if error.kind == ErrorKind::NoSpace => Ok(None),
            outcome => Ok(Some(outcome?)),
        };
        let outcomes = each(racers, RACERS.into(), put)?.into_iter();
        let answers = racers.iter().zip(outcomes).map(|(&[racer], outcome)| {
            let is_created = match outcome {
                Some(outcome) => outcome == PutOutcome::Created,
                // The one that found no room may have created it all the same.
                None => {
                    self.put(backend, racer)? == PutOutcome::Created
                        || backend.get(&name, 1)? == [racer]
                }
            };
            Ok(is_created.then_some(racer))
        });
        answers.collect()
    }

    /// A put takes space also where it finds the name taken.
    fn put(&self, backend: &dyn Backend, byte: u8) -> Result<PutOutcome, BackendError> {
        let name = object_name(self.object);
        self.repo.with_room(Spender::Gc, || backend.put(&name, &[&[byte]]))
    }

    fn refuse(&self, reason: &'static str) -> RepoError {
        RepoError::UnsafeStore { location: self.repo.location().to_owned(), reason }
    }
}

const RACERS: u8 = 8;
