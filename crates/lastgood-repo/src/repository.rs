//! Making and opening a repository, and its key slots.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lastgood_backend::{Backend, BackendError, ErrorKind, PutOutcome};
use lastgood_format::chunker::{Chunker, ChunkerParams, CutKey};
use lastgood_format::config::{Config, ConfigError};
use lastgood_format::id::{ObjectId, RepositoryId};
use lastgood_format::key::{KeyError, PublicKey, RepositoryKeys, Secret};
use lastgood_format::limits::{KEY_SLOTS_MAX, SMALL_OBJECT_BYTES_MAX};
use lastgood_format::object::{name, object_id};
use lastgood_format::revision::History;
use lastgood_format::slot::{Credential, KeySlot, SlotKind, WorkFactors};

use crate::error::{Damage, RepoError, RepoErrorKind};
use crate::history::read_history;
use crate::index::{Index, IndexOptions, LocalCopy};
use crate::last_seen::{LastSeenFile, Missing};
use crate::objects::{self, Mended, object_name};
use crate::world::World;

/// A repository that was opened with a key. Cheap to share; all methods may be called from many
/// threads.
#[derive(Debug)]
pub struct Repository {
    backend: Arc<dyn Backend>,
    world: World,
    history: History,
    keys: RepositoryKeys,
    index_options: IndexOptions,
    index: std::sync::OnceLock<Arc<Index>>,
    /// What was damaged and could be read nevertheless.
    pub(crate) mended: Mended,
    last_seen: Option<LastSeenFile>,
    threads: usize,
    /// What the last listing of the snapshots lacked.
    missing: Mutex<Vec<Missing>>,
    #[cfg(feature = "seeded-bugs")]
    pub(crate) planted: crate::seeded::Planted,
}

/// What `init` needs to know.
#[derive(Debug)]
pub struct InitOptions {
    /// Opens the first key slot.
    pub credential: Credential,
    /// What the first slot is called.
    pub label: String,
    /// Work factors of a passphrase slot.
    pub work: WorkFactors,
    /// Chunker of new snapshots.
    pub chunker: ChunkerParams,
}

/// How to open.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where the index is kept.
    pub index: IndexOptions,
    /// File in which this host remembers what it saw of the repository; without one it notices
    /// only what other snapshots prove.
    pub last_seen: Option<PathBuf>,
    /// Small objects that are read at once where many are; 0 and 1 read one after the other.
    pub threads: usize,
}

/// A key slot as `key list` shows it.
#[derive(Debug, Clone)]
pub struct KeySlotInfo {
    /// Its id.
    pub id: ObjectId,
    /// What opens it.
    pub kind: SlotKind,
    /// What it is called.
    pub label: String,
    /// When it was made, seconds since 1970.
    pub created: i64,
}

impl KeySlotInfo {
    fn of(id: ObjectId, slot: KeySlot) -> Self {
        Self { id, kind: slot.kind, label: slot.label, created: slot.created }
    }
}

impl Repository {
    /// Makes a repository on an empty backend, with one key slot.
    ///
    /// The config is written last: until then there is no repository, and `create` can be called
    /// again; what an interrupted attempt left is a key slot that opens nothing.
    ///
    /// # Errors
    /// [`RepoError::Exists`] when there is one already; whatever the backend says.
    pub fn create(
        backend: Arc<dyn Backend>,
        world: World,
        init: &InitOptions,
        options: OpenOptions,
    ) -> Result<Self, RepoError> {
        let location = backend.location().to_owned();
        if Self::exists(backend.as_ref())? {
            return Err(RepoError::Exists { location });
        }
        let repository = RepositoryId::new(world.random());
        let keys = RepositoryKeys::new(world.secret(), repository);
        let created = world.clock.now().seconds;
        let config = Config {
            repository,
            root: keys.root_signer().public(),
            created,
            required: Vec::new(),
            read_compatible: Vec::new(),
            optional: Vec::new(),
            chunker: init.chunker.into(),
        };
        let this = Self {
            backend,
            world,
            history: History::new(config),
            keys,
            index_options: options.index,
            index: std::sync::OnceLock::new(),
            mended: Mended::default(),
            last_seen: options.last_seen.map(LastSeenFile::new),
            threads: options.threads,
            missing: Mutex::default(),
            #[cfg(feature = "seeded-bugs")]
            planted: crate::seeded::Planted::default(),
        };
        this.add_key(&init.credential, init.work, &init.label)?;
        let config = this.config().encode(&this.keys);
        if !this.put_own(name::CONFIG, &config, SMALL_OBJECT_BYTES_MAX)? {
            return Err(RepoError::Exists { location });
        }
        // Where this fails, the first run does it.
        drop(this.copy_config());
        Ok(this)
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// [`RepoError::NoRepository`]; [`RepoError::WrongKey`]; [`RepoError::Config`] names a feature
    /// this program does not know.
    pub fn open(
        backend: Arc<dyn Backend>,
        world: World,
        credential: &Credential,
        options: OpenOptions,
    ) -> Result<Self, RepoError> {
        let mended = Mended::default();
        let last_seen = options.last_seen.map(LastSeenFile::new);
        let config = read_config(backend.as_ref(), &mended)?;
        let history = read_history(backend.as_ref(), config, &mended, last_seen.as_ref())?;
        let keys = unlock(backend.as_ref(), &history, credential, &mended)?;
        Ok(Self {
            backend,
            world,
            history,
            keys,
            index_options: options.index,
            index: std::sync::OnceLock::new(),
            mended,
            last_seen,
            threads: options.threads,
            missing: Mutex::default(),
            #[cfg(feature = "seeded-bugs")]
            planted: crate::seeded::Planted::default(),
        })
    }

    /// Whether there is a repository, without any key.
    ///
    /// # Errors
    /// Whatever the backend says, but for "not found".
    pub fn exists(backend: &dyn Backend) -> Result<bool, RepoError> {
        for object in [name::CONFIG, &name::revision(name::FIRST_REVISION)] {
            match backend.stat(&object_name(object)) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Whether the second copy of the config, if it can be read, is one.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn compare_config_copy(&self) -> Result<(), RepoError> {
        let object = name::revision(name::FIRST_REVISION);
        let read = |object: &str| match self.find(object, SMALL_OBJECT_BYTES_MAX) {
            Err(error) if error.is_damage() => Ok(None),
            found => found,
        };
        match (read(name::CONFIG)?, read(&object)?) {
            (Some(config), Some(copy)) if config != copy => {
                Err(self.damaged(&object, Damage::State("it is no copy of the config")))
            }
            _ => Ok(()),
        }
    }

    /// Stores the second copy of the config.
    pub(crate) fn copy_config(&self) -> Result<(), RepoError> {
        if let Some(config) = self.find(name::CONFIG, SMALL_OBJECT_BYTES_MAX)? {
            self.put(&name::revision(name::FIRST_REVISION), &config)?;
        }
        Ok(())
    }

    /// The id of the repository, without any key.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the key.
    pub fn id_of(backend: &dyn Backend) -> Result<RepositoryId, RepoError> {
        Ok(read_config(backend, &Mended::default())?.repository)
    }

    /// The kinds of credential that its slots take, without any key.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the key.
    pub fn slot_kinds(backend: &dyn Backend) -> Result<Vec<SlotKind>, RepoError> {
        let mended = Mended::default();
        let config = read_config(backend, &mended)?;
        let history = read_history(backend, config, &mended, None)?;
        let slots = read_slots(backend, &history, &mended)?;
        Ok(slots.into_iter().map(|(_, slot)| slot.kind).collect())
    }

    /// Whether its root was rotated, and that was interrupted before its end, without any key.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the key.
    pub fn is_rotation_open(backend: &dyn Backend) -> Result<bool, RepoError> {
        let mended = Mended::default();
        let config = read_config(backend, &mended)?;
        Ok(read_history(backend, config, &mended, None)?.is_rotation_open())
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Small objects that are read at once.
    pub(crate) const fn threads(&self) -> usize {
        self.threads
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> &str {
        self.backend.location()
    }

    /// The config, as it was when the repository was made.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.history.config
    }

    /// The config and what changed since.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The same repository, opened with another root secret.
    pub(crate) fn opened_anew(&self, root: Secret) -> Result<Self, RepoError> {
        let options = OpenOptions {
            index: self.index_options.clone(),
            last_seen: self.last_seen.as_ref().map(|file| file.path().to_owned()),
            threads: self.threads,
        };
        let credential = Credential::Root(root);
        Self::open(self.backend.clone(), self.world.clone(), &credential, options)
    }

    /// The same repository with the same keys, on a backend that holds a copy of it. What its own
    /// revisions say does not matter: it may have been made before the newest of them.
    pub(crate) fn on(&self, backend: Arc<dyn Backend>) -> Result<Self, RepoError> {
        let root = self.keys.root().clone();
        Ok(Self {
            backend,
            world: self.world.clone(),
            history: self.history.clone(),
            keys: self.history.keys(root).map_err(RepoError::Unlock)?,
            index_options: IndexOptions::default(),
            index: std::sync::OnceLock::new(),
            mended: Mended::default(),
            last_seen: None,
            threads: self.threads,
            missing: Mutex::default(),
            #[cfg(feature = "seeded-bugs")]
            planted: crate::seeded::Planted::default(),
        })
    }

    /// All slots that a root of the repository made, and whether that is an older root.
    pub(crate) fn all_key_slots(&self) -> Result<Vec<(KeySlotInfo, bool)>, RepoError> {
        let mut slots = Vec::new();
        let mut roots = vec![self.config().root];
        roots.extend(self.history.revisions().iter().map(|revision| revision.root));
        for (id, slot) in read_all_slots(self.backend.as_ref(), &self.mended)? {
            let Ok(slot) = slot else { continue };
            let is_by = |root: &PublicKey| slot.verify(self.config().repository, root).is_ok();
            if roots.iter().any(is_by) {
                let is_old = !is_by(self.history.root());
                slots.push((KeySlotInfo::of(id, slot), is_old));
            }
        }
        Ok(slots)
    }

    /// All keys.
    #[must_use]
    pub const fn keys(&self) -> &RepositoryKeys {
        &self.keys
    }

    /// Clock and randomness.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The repository's chunker.
    #[must_use]
    pub fn chunker(&self, params: ChunkerParams) -> Chunker {
        Chunker::new(params, &CutKey::new(*self.keys.cut().expose()))
    }

    /// The index, loaded at first use.
    ///
    /// # Errors
    /// When segments cannot be listed or the local copy cannot be kept. A damaged segment is
    /// skipped: the index is a hint.
    pub fn index(&self) -> Result<Arc<Index>, RepoError> {
        if let Some(index) = self.index.get() {
            return Ok(index.clone());
        }
        let loaded = Arc::new(Index::load(self, &self.index_options)?);
        Ok(self.index.get_or_init(|| loaded).clone())
    }

    pub(crate) const fn last_seen_file(&self) -> Option<&LastSeenFile> {
        self.last_seen.as_ref()
    }

    pub(crate) const fn missing(&self) -> &Mutex<Vec<Missing>> {
        &self.missing
    }

    /// An empty index for what no segment covers.
    pub(crate) fn index_aside(&self) -> Index {
        Index::aside(LocalCopy::of(&self.index_options, &self.keys))
    }

    /// Lists the key slots of the newest root that can be read.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn key_slots(&self) -> Result<Vec<KeySlotInfo>, RepoError> {
        let slots = read_slots(self.backend.as_ref(), &self.history, &self.mended)?;
        Ok(slots.into_iter().map(|(id, slot)| KeySlotInfo::of(id, slot)).collect())
    }

    /// The key slots that cannot be read, and what is wrong with each.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn damaged_key_slots(&self) -> Result<Vec<(ObjectId, RepoError)>, RepoError> {
        let slots = read_all_slots(self.backend.as_ref(), &self.mended)?.into_iter();
        Ok(slots.filter_map(|(id, slot)| Some((id, slot.err()?))).collect())
    }

    /// Adds a key slot for another credential.
    ///
    /// # Errors
    /// When there are as many as a reader tries, or the work factors are out of bounds;
    /// [`RepoError::Revised`] when the root was rotated meanwhile, so that it would open nothing.
    pub fn add_key(
        &self,
        credential: &Credential,
        work: WorkFactors,
        label: &str,
    ) -> Result<ObjectId, RepoError> {
        if read_slots(self.backend.as_ref(), &self.history, &self.mended)?.len() >= KEY_SLOTS_MAX {
            return Err(RepoError::KeySlot("there are eight key slots already; remove one first"));
        }
        let slot = KeySlot::create(
            self.config().repository,
            self.keys.root(),
            credential,
            work,
            self.world.clock.now().seconds,
            label,
            self.world.random(),
        )
        .map_err(|_| RepoError::KeySlot("the work factors of the new key are out of bounds"))?;
        let bytes = slot.encode();
        let id = object_id(&bytes);
        self.put(&name::key(id), &bytes)?;
        // Afterwards: a rotation that begins from here on sees the slot, and says that it goes.
        let looked = self.refuse_if_revised();
        if let Err(RepoError::Revised { .. }) = &looked {
            drop(objects::remove(self.backend.as_ref(), &name::key(id)));
        }
        looked.map(|()| id)
    }

    /// Removes a key slot, or what is left of one. Whoever copied it before can still open the
    /// repository with its key.
    ///
    /// # Errors
    /// When it is the last one, or there is none of that id.
    pub fn remove_key(&self, id: ObjectId) -> Result<(), RepoError> {
        if self.damaged_key_slots()?.iter().any(|(slot, _)| *slot == id) {
            return Ok(objects::remove(self.backend.as_ref(), &name::key(id))?);
        }
        let slots = read_slots(self.backend.as_ref(), &self.history, &self.mended)?;
        if !slots.iter().any(|(slot, _)| *slot == id) {
            return Err(RepoError::KeySlot("there is no key slot of that id"));
        }
        if slots.len() == 1 {
            return Err(RepoError::KeySlot(
                "this is the last key slot; add another before removing it",
            ));
        }
        Ok(objects::remove(self.backend.as_ref(), &name::key(id))?)
    }

    /// Which slot a credential opens.
    ///
    /// # Errors
    /// [`RepoError::WrongKey`] when none does.
    pub fn slot_of(&self, credential: &Credential) -> Result<ObjectId, RepoError> {
        read_slots(self.backend.as_ref(), &self.history, &self.mended)?
            .into_iter()
            .find(|(_, slot)| slot.open(self.config().repository, credential).is_ok())
            .map(|(id, _)| id)
            .ok_or_else(|| RepoError::WrongKey { location: self.location().to_owned() })
    }

    /// Names an object as damaged.
    pub(crate) fn damaged(&self, object: &str, source: impl Into<Damage>) -> RepoError {
        RepoError::Damaged {
            object: object.to_owned(),
            location: self.location().to_owned(),
            source: source.into(),
        }
    }

    /// Calls `visit` with the part after `prefix` of every object's name, and its length.
    pub(crate) fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(&str, u64),
    ) -> Result<(), RepoError> {
        self.backend.list(prefix, &mut |listed| {
            if let Some(rest) = listed.name.as_str().strip_prefix(prefix) {
                visit(rest, listed.bytes);
            }
        })?;
        Ok(())
    }

    /// Reads an object of at most `bytes_max` bytes of content, or nothing when there is none.
    pub(crate) fn find(&self, object: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, RepoError> {
        objects::read(self.backend.as_ref(), object, bytes_max, &self.mended)
    }

    /// Names of objects that were damaged when they were read, and were mended in memory; not of
    /// those that a repair has stored whole.
    #[must_use]
    pub fn mended(&self) -> Vec<String> {
        self.mended.names()
    }

    /// Stores an object whose name is new by construction, or that may be there already with the
    /// same bytes (a retry whose first answer was lost).
    pub(crate) fn put(&self, object: &str, content: &[u8]) -> Result<PutOutcome, BackendError> {
        objects::put(self.backend.as_ref(), object, content)
    }

    /// Stores an object of which there is one. Returns whether it is this one: who finds the name
    /// taken may have taken it himself, by a try whose answer was lost.
    pub(crate) fn put_own(
        &self,
        object: &str,
        content: &[u8],
        bytes_max: u64,
    ) -> Result<bool, RepoError> {
        match self.put(object, content)? {
            PutOutcome::Created => Ok(true),
            PutOutcome::Exists => {
                Ok(self.find(object, bytes_max)?.is_some_and(|found| found == content))
            }
        }
    }
}

fn read_config(backend: &dyn Backend, mended: &Mended) -> Result<Config, RepoError> {
    let location = backend.location().to_owned();
    let unusable = |source: ConfigError| RepoError::Config { location: location.clone(), source };
    let found = objects::read(backend, name::CONFIG, SMALL_OBJECT_BYTES_MAX, mended);
    if !matches!(&found, Ok(Some(_))) && !found.as_ref().is_err_and(|error| !error.is_damage()) {
        let copy = name::revision(name::FIRST_REVISION);
        let copied = objects::read(backend, &copy, SMALL_OBJECT_BYTES_MAX, mended);
        if let Ok(Some(content)) = copied {
            mended.note(name::CONFIG, false);
            return Config::decode(&content).map_err(unusable);
        }
    }
    match found {
        Ok(Some(content)) => Config::decode(&content).map_err(unusable),
        Ok(None) if was_used(backend)? => Err(RepoError::Damaged {
            object: name::CONFIG.to_owned(),
            location,
            source: Damage::State("it is missing, and the rest of a repository is there"),
        }),
        Ok(None) => Err(RepoError::NoRepository { location }),
        Err(RepoError::Damaged { source: Damage::Decode(error), .. }) => {
            Err(unusable(error.into()))
        }
        Err(error) => Err(error),
    }
}

/// Whether a repository was used here: every run announces itself, and gc leaves its outcome.
fn was_used(backend: &dyn Backend) -> Result<bool, RepoError> {
    let mut was_used = false;
    for prefix in [name::SESSIONS, name::OUTCOMES] {
        backend.list(prefix, &mut |_| was_used = true)?;
    }
    Ok(was_used)
}

/// All slots that the newest root made. A foreign one is passed over: anybody who may add objects
/// could else lock everybody out.
fn read_slots(
    backend: &dyn Backend,
    history: &History,
    mended: &Mended,
) -> Result<Vec<(ObjectId, KeySlot)>, RepoError> {
    let (repository, root) = (history.config.repository, history.root());
    let slots = read_all_slots(backend, mended)?.into_iter();
    let slots = slots.filter_map(|(id, slot)| Some((id, slot.ok()?)));
    Ok(slots.filter(|(_, slot)| slot.verify(repository, root).is_ok()).collect())
}

/// All slots, whoever made them, or what is wrong with one.
fn read_all_slots(
    backend: &dyn Backend,
    mended: &Mended,
) -> Result<Vec<(ObjectId, Result<KeySlot, RepoError>)>, RepoError> {
    let mut ids = Vec::new();
    backend.list(name::KEYS, &mut |listed| {
        let id = listed.name.as_str().strip_prefix(name::KEYS);
        ids.extend(id.and_then(|id| id.parse::<ObjectId>().ok()));
    })?;
    ids.sort();
    let mut slots = Vec::new();
    for id in ids {
        let object = name::key(id);
        let damaged = |source| {
            let (object, location) = (object.clone(), backend.location().to_owned());
            RepoError::Damaged { object, location, source }
        };
        match objects::read(backend, &object, SMALL_OBJECT_BYTES_MAX, mended) {
            Ok(Some(bytes)) if object_id(&bytes) != id => {
                slots.push((id, Err(damaged(Damage::Name))));
            }
            Ok(Some(bytes)) => {
                slots.push((id, KeySlot::decode(&bytes).map_err(|error| damaged(error.into()))));
            }
            // Removed meanwhile.
            Ok(None) => {}
            // Too long to be a slot, or too much of it is lost.
            Err(error) if error.kind() == RepoErrorKind::Damaged => slots.push((id, Err(error))),
            Err(error) => return Err(error),
        }
    }
    Ok(slots)
}

/// All keys of a repository.
fn unlock(
    backend: &dyn Backend,
    history: &History,
    credential: &Credential,
    mended: &Mended,
) -> Result<RepositoryKeys, RepoError> {
    let location = || backend.location().to_owned();
    let root = match credential {
        Credential::Root(root) => Ok(root.clone()),
        credential => unlock_slot(backend, history, credential, mended),
    };
    let keys = root.and_then(|root| {
        history.keys(root).map_err(|error| match error {
            KeyError::WrongKey => RepoError::WrongKey { location: location() },
            error => RepoError::Unlock(error),
        })
    });
    match (keys, history.passed_over().first()) {
        // The key may be right, and that of a root of which this was to tell.
        (Err(RepoError::WrongKey { .. }), Some(number)) => Err(RepoError::Damaged {
            object: name::revision(*number),
            location: location(),
            source: Damage::State("it cannot be verified, and the key does not fit without it"),
        }),
        (keys, _) => keys,
    }
}

fn unlock_slot(
    backend: &dyn Backend,
    history: &History,
    credential: &Credential,
    mended: &Mended,
) -> Result<Secret, RepoError> {
    let location = backend.location().to_owned();
    let mut tried = 0;
    for (id, slot) in read_slots(backend, history, mended)? {
        match slot.open(history.config.repository, credential) {
            Ok(root) => return Ok(root),
            Err(KeyError::WrongKey) => {}
            Err(error @ KeyError::NoMemory(_)) => return Err(RepoError::Unlock(error)),
            Err(error) => {
                return Err(RepoError::Damaged {
                    object: name::key(id),
                    location,
                    source: error.into(),
                });
            }
        }
        // Wrong kinds cost nothing and do not count.
        let is_same_kind =
            matches!((slot.kind, credential), (SlotKind::Passphrase(_), Credential::Passphrase(_)));
        tried += usize::from(is_same_kind);
        if tried >= KEY_SLOTS_MAX {
            break;
        }
    }
    Err(RepoError::WrongKey { location })
}

/// The number that 16 lowercase hex digits of a name write.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let is_canonical = text.len() == 16
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_canonical.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
