//! Making and opening repositories from what a user gives: a place and a key.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lastgood_backend::layer::retry::{Retry, RetryPolicy};
use lastgood_backend::local::LocalBackend;
use lastgood_backend::{Backend, BackendError, ErrorKind as BackendErrorKind};
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::id::RepositoryId;
use lastgood_repo::format::key::Secret;
use lastgood_repo::format::object::name;
use lastgood_repo::format::slot::{Credential, SlotKind, WorkFactors, recovery_code};
use lastgood_repo::{
    IndexOptions, InitOptions, OpenOptions, RepoError, Repository, RepositoryCopy, World,
};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::system::{self, Home};

/// A repository that was just made.
#[derive(Debug)]
pub struct Created {
    /// The repository, open.
    pub repo: Arc<Repository>,
    /// What opens it when every password and key file is lost. Shown once, stored nowhere.
    pub recovery_code: Zeroizing<String>,
}

/// The default repository, open.
#[derive(Debug)]
pub struct Opened {
    /// The repository.
    pub repo: Arc<Repository>,
    /// Where it is.
    pub path: PathBuf,
    /// Its recovery code, when it was made just now.
    pub recovery_code: Option<Zeroizing<String>>,
}

/// Makes a repository in a local directory, which is made when it is missing.
///
/// # Errors
/// [`ErrorKind::Exists`] when there is one; [`ErrorKind::Invalid`] when the directory holds
/// something else; [`ErrorKind::Damaged`] when it holds a repository that lost its config.
pub fn create(
    path: &Path,
    home: &Home,
    world: World,
    credential: Credential,
    label: &str,
    chunker: Option<ChunkerParams>,
) -> Result<Created, Error> {
    refuse_foreign_content(path)?;
    refuse_headless(path)?;
    let backend = retrying(LocalBackend::create(path).map_err(RepoError::from)?, &world);
    let init = InitOptions {
        credential,
        label: label.to_owned(),
        work: WorkFactors::DEFAULT,
        chunker: chunker.unwrap_or(DEFAULT_CHUNKER),
    };
    let repo = Repository::create(backend, world, &init, OpenOptions::default())?;
    // Where there is no room for it, the first gc that makes some does it.
    let _is_whole = repo.keep_reserve(0)?;
    let recovery_code = recovery_code(repo.keys().root());
    let credential = Credential::Root(repo.keys().root().clone());
    let world = repo.world().clone();
    Ok(Created { repo: open(path, home, world, &credential)?, recovery_code })
}

/// Opens the repository in a local directory.
///
/// # Errors
/// [`ErrorKind::NoRepository`]; [`ErrorKind::WrongKey`]; [`ErrorKind::TooNew`] names the feature.
pub fn open(
    path: &Path,
    home: &Home,
    world: World,
    credential: &Credential,
) -> Result<Arc<Repository>, Error> {
    let backend = backend(path, &world)?;
    let repository = Repository::id_of(backend.as_ref())?;
    let options = OpenOptions {
        index: IndexOptions { cache: Some(home.cache.join(repository.to_string())) },
        last_seen: Some(last_seen_file(&home.state, repository)),
        threads: THREADS,
    };
    Ok(Arc::new(Repository::open(backend, world, credential, options)?))
}

/// Where this host remembers what it saw of a repository.
pub(crate) fn last_seen_file(state: &Path, repository: RepositoryId) -> PathBuf {
    state.join(repository.to_string()).join("last-seen")
}

/// The backend of a local directory, as it is: nothing is tried again.
///
/// # Errors
/// [`ErrorKind::NoRepository`], and whatever the directory says.
pub fn bare_backend(path: &Path) -> Result<Arc<dyn Backend>, Error> {
    local(path).map(|backend| Arc::new(backend) as Arc<dyn Backend>)
}

/// Opens a copy of a repository with the keys of that; nothing when another repository is there.
///
/// # Errors
/// [`ErrorKind::NoRepository`], and whatever the directory says.
pub fn open_copy(original: &Repository, path: &Path) -> Result<Option<RepositoryCopy>, Error> {
    Ok(RepositoryCopy::open(original, backend(path, original.world())?)?)
}

/// Which kinds of credential the key slots of a repository take, found out without any.
///
/// # Errors
/// [`ErrorKind::NoRepository`], and whatever the directory says.
pub fn slot_kinds(path: &Path) -> Result<Vec<SlotKind>, Error> {
    Ok(Repository::slot_kinds(backend(path, &system::world())?.as_ref())?)
}

/// Whether the root of a repository was rotated, and that was interrupted: the new key is the one
/// that opens it, and finishes that. Found out without any.
///
/// # Errors
/// [`ErrorKind::NoRepository`], and whatever the directory says.
pub fn is_rotation_open(path: &Path) -> Result<bool, Error> {
    Ok(Repository::is_rotation_open(backend(path, &system::world())?.as_ref())?)
}

/// Opens the default repository; makes it at its first use, with a key file beside it.
///
/// # Errors
/// [`ErrorKind::WrongKey`] when the repository is there and its key file is not, or is not one.
pub fn open_default(home: &Home, world: World, label: &str) -> Result<Opened, Error> {
    let (path, key_file) = (home.default_repository(), home.default_key_file());
    let exists = match backend(&path, &world) {
        Ok(backend) => Repository::exists(backend.as_ref())?,
        Err(error) if error.kind() == ErrorKind::NoRepository => false,
        Err(error) => return Err(error),
    };
    if exists {
        let credential = read_key_file(&key_file).map_err(Error::of_key)?;
        let repo = open(&path, home, world, &credential)?;
        return Ok(Opened { repo, path, recovery_code: None });
    }
    std::fs::create_dir_all(&home.data).map_err(|source| {
        Error::caused_by(
            ErrorKind::from(&source),
            format!("cannot create {}", home.data.display()),
            source,
        )
    })?;
    // A key file without a repository is what an interrupted first run left: it is used.
    let credential = match read_key_file(&key_file) {
        Ok(credential) => credential,
        Err(error) if error.kind() == ErrorKind::NotFound => write_key_file(&key_file, &world)?,
        Err(error) => return Err(error),
    };
    let created = create(&path, home, world, credential, label, None)?;
    Ok(Opened { repo: created.repo, path, recovery_code: Some(created.recovery_code) })
}

/// Reads a key file: 64 lowercase hex digits, for its owner alone.
///
/// # Errors
/// [`ErrorKind::NotFound`]; [`ErrorKind::Denied`] when others may read it;
/// [`ErrorKind::Invalid`] when it is no key file.
pub fn read_key_file(path: &Path) -> Result<Credential, Error> {
    let failed = |source: std::io::Error| {
        Error::caused_by(
            ErrorKind::from(&source),
            format!("cannot read the key file {}", path.display()),
            source,
        )
    };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::Denied,
            format!("the key file {0} is open to others; run: chmod 600 {0}", path.display()),
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(2048));
    Read::by_ref(&mut file).take(1024).read_to_string(&mut text).map_err(failed)?;
    let mut secret = Zeroizing::new([0; 32]);
    let digits = text.trim().as_bytes();
    let is_key = digits.len() == 64
        && digits.chunks(2).zip(secret.iter_mut()).all(|(pair, byte)| {
            let parsed = std::str::from_utf8(pair).ok();
            let parsed = parsed.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = parsed.unwrap_or(0);
            parsed.is_some()
        });
    if !is_key {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{} is not a key file: it must hold 64 hex digits", path.display()),
        ));
    }
    Ok(Credential::KeyFile(Secret::new(*secret)))
}

/// Makes a key file with mode 0600, durable before anything is sealed for it.
///
/// # Errors
/// [`ErrorKind::Exists`]: a key file is never overwritten.
pub fn write_key_file(path: &Path, world: &World) -> Result<Credential, Error> {
    let failed = |source: std::io::Error| {
        let text = format!("cannot create the key file {}", path.display());
        Error::caused_by(ErrorKind::from(&source), text, source)
    };
    let secret = Zeroizing::new(world.random::<32>());
    // With room for all of it: a string that grows leaves a copy of what it held.
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in secret.iter() {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX_DIGITS[usize::from(digit)])));
    }
    text.push('\n');
    let mut file =
        File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new("."))).and_then(|d| d.sync_all()).map_err(failed)?;
    Ok(Credential::KeyFile(Secret::new(*secret)))
}

fn backend(path: &Path, world: &World) -> Result<Arc<dyn Backend>, Error> {
    local(path).map(|backend| retrying(backend, world))
}

fn local(path: &Path) -> Result<LocalBackend, Error> {
    match LocalBackend::open(path) {
        Ok(backend) => Ok(backend),
        Err(BackendError { kind: BackendErrorKind::NotFound, location, .. }) => {
            Err(RepoError::NoRepository { location }.into())
        }
        Err(BackendError { source, location, .. })
            if source.kind() == std::io::ErrorKind::NotADirectory =>
        {
            Err(RepoError::NoRepository { location }.into())
        }
        Err(error) => Err(RepoError::from(error).into()),
    }
}

/// Every call of a repository is tried again while it fails for the moment.
fn retrying(backend: LocalBackend, world: &World) -> Arc<dyn Backend> {
    let seed = u64::from_le_bytes(world.random());
    let pause = world.pause.clone();
    Arc::new(Retry::new(Arc::new(backend), pause, RetryPolicy::default(), seed))
}

/// A directory that holds other things is not ours to fill.
fn refuse_foreign_content(path: &Path) -> Result<(), Error> {
    let mut entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let message = format!("{} is no directory; name an empty or new one", path.display());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Err(_) => return Ok(()),
    };
    let ours = OURS.map(|prefix| prefix.trim_end_matches('/'));
    let foreign = entries.find_map(|entry| {
        let found = entry.ok()?.file_name().to_string_lossy().into_owned();
        let is_ours = ours.contains(&found.as_str()) || found.starts_with('.');
        (!is_ours && found != "lost+found").then_some(found)
    });
    match foreign {
        None => Ok(()),
        Some(found) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "{} is not empty: it holds {found}; name an empty or new directory",
                path.display()
            ),
        )),
    }
}

/// A repository that lost its config is not there any more, and a new one on top of it would end
/// all hope for what it holds. Every run announces itself, so one that was used has sessions, or
/// outcomes in their place.
fn refuse_headless(path: &Path) -> Result<(), Error> {
    let holds = |prefix| {
        std::fs::read_dir(path.join(prefix)).is_ok_and(|mut entries| entries.next().is_some())
    };
    let was_used = holds(name::SESSIONS) || holds(name::OUTCOMES);
    let copy = name::revision(name::FIRST_REVISION);
    if [name::CONFIG, &copy].iter().any(|config| path.join(config).exists()) || !was_used {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Damaged,
        format!(
            "the repository in {0} has lost its config and the copy of it: bring {0}/config back from a copy of the \
             repository, or name another directory",
            path.display()
        ),
    ))
}

/// What a repository holds.
const OURS: [&str; 18] = [
    name::CONFIG,
    name::REVISIONS,
    name::KEYS,
    name::SESSIONS,
    name::OUTCOMES,
    name::PACKS,
    name::INDEX,
    name::SNAPSHOTS,
    name::RETIRED,
    name::CONDEMN,
    name::VERDICT,
    name::RELOCATIONS,
    name::READERS,
    name::LOG,
    name::LOST,
    name::REPAIRED,
    name::PROBE,
    name::RESERVE,
];
/// Small objects that are read at once where many are, such as all snapshots.
const THREADS: usize = 8;
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Chunker of repositories made without saying otherwise. See `docs/adr/0002-chunk-size.md`.
pub const DEFAULT_CHUNKER: ChunkerParams = ChunkerParams::MinAes { target: 32 << 10 };
