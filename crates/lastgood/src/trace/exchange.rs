//! What a run asks of the world, and what it is answered. Spec: `docs/format/trace.md`, section 3.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lastgood_backend::{BackendError, ErrorKind, Listed, ObjectName, PutOutcome};
use lastgood_host::scan::{Kind, Stat};
use lastgood_repo::format::encoding::{DecodeError, Reader, Write};
use lastgood_repo::format::entry::{DeviceNumber, Hint, Timestamp};

/// What a run asks, or tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// How it was started: what replays need to start it again.
    Start(Vec<u8>),
    /// The clock.
    Now,
    /// So many random bytes.
    Random(u64),
    /// A pause of so many nanoseconds.
    Pause(u64),
    /// [`Backend::put`](lastgood_backend::Backend::put) of so many bytes with this hash.
    Put(String, u64, [u8; 32]),
    /// [`Backend::get`](lastgood_backend::Backend::get) of at most so many bytes.
    Get(String, u64),
    /// [`Backend::get_range`](lastgood_backend::Backend::get_range).
    GetRange(String, Range<u64>),
    /// [`Backend::stat`](lastgood_backend::Backend::stat).
    Stat(String),
    /// [`Backend::list`](lastgood_backend::Backend::list).
    List(String),
    /// [`Backend::remove`](lastgood_backend::Backend::remove).
    Remove(String),
    /// [`Backend::settle`](lastgood_backend::Backend::settle).
    Settle(String),
    /// What `statx` says of a directory that only leads to sources.
    Leading(PathBuf),
    /// An entry of the source was found to be like this: the hash of what `statx` said.
    Entry(PathBuf, [u8; 32]),
    /// Bytes of a file were read, with this hash.
    Content(PathBuf, Range<u64>, [u8; 32]),
    /// Trouble with one path: what was being done, and what happened.
    Problem(PathBuf, String, String),
    /// The run ended like this.
    End(String),
}

/// What a run is answered.
#[derive(Debug)]
pub enum Answer {
    /// It was heard, or done.
    Done,
    /// The present.
    Time(Timestamp),
    /// Random bytes, or bytes of an object.
    Bytes(Vec<u8>),
    /// Whether a name was free.
    Put(PutOutcome),
    /// Length of an object.
    Length(u64),
    /// Objects.
    Listed(Vec<Listed>),
    /// A directory that leads to sources.
    Leading(Stat),
    /// The call failed.
    Failed(BackendError),
    /// A replay that has left its trace is answered no more. Never stored.
    Strayed,
}

impl Question {
    /// Appends it as it is stored.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let named = |out: &mut Vec<u8>, kind: u8, name: &str| {
            out.push(kind);
            out.bytes(name.as_bytes());
        };
        match self {
            Self::Start(bytes) => {
                out.push(1);
                out.bytes(bytes);
            }
            Self::Now => out.push(2),
            Self::Random(count) => {
                out.push(3);
                out.varint(*count);
            }
            Self::Pause(nanos) => {
                out.push(4);
                out.varint(*nanos);
            }
            Self::Put(name, bytes, hash) => {
                named(out, 5, name);
                out.varint(*bytes);
                out.extend_from_slice(hash);
            }
            Self::Get(name, bytes_max) => {
                named(out, 6, name);
                out.varint(*bytes_max);
            }
            Self::GetRange(name, range) => {
                named(out, 7, name);
                encode_range(range, out);
            }
            Self::Stat(name) => named(out, 8, name),
            Self::List(prefix) => named(out, 9, prefix),
            Self::Remove(name) => named(out, 10, name),
            Self::Settle(prefix) => named(out, 11, prefix),
            Self::Leading(path) => {
                out.push(12);
                encode_path(path, out);
            }
            Self::Entry(path, hash) => {
                out.push(13);
                encode_path(path, out);
                out.extend_from_slice(hash);
            }
            Self::Content(path, range, hash) => {
                out.push(14);
                encode_path(path, out);
                encode_range(range, out);
                out.extend_from_slice(hash);
            }
            Self::Problem(path, during, message) => {
                out.push(15);
                encode_path(path, out);
                out.bytes(during.as_bytes());
                out.bytes(message.as_bytes());
            }
            Self::End(text) => named(out, 16, text),
        }
    }

    /// Reads one.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Start(reader.bytes(reader.left())?.to_vec()),
            2 => Self::Now,
            3 => Self::Random(reader.varint()?),
            4 => Self::Pause(reader.varint()?),
            5 => Self::Put(decode_text(reader)?, reader.varint()?, reader.array()?),
            6 => Self::Get(decode_text(reader)?, reader.varint()?),
            7 => Self::GetRange(decode_text(reader)?, decode_range(reader)?),
            8 => Self::Stat(decode_text(reader)?),
            9 => Self::List(decode_text(reader)?),
            10 => Self::Remove(decode_text(reader)?),
            11 => Self::Settle(decode_text(reader)?),
            12 => Self::Leading(decode_path(reader)?),
            13 => Self::Entry(decode_path(reader)?, reader.array()?),
            14 => Self::Content(decode_path(reader)?, decode_range(reader)?, reader.array()?),
            15 => Self::Problem(decode_path(reader)?, decode_text(reader)?, decode_text(reader)?),
            16 => Self::End(decode_text(reader)?),
            _ => return Err(reader.invalid("it asks what this program does not know")),
        })
    }

    /// Whether it is asked of the repository.
    pub(super) const fn is_of_backend(&self) -> bool {
        matches!(
            self,
            Self::Put(..)
                | Self::Get(..)
                | Self::GetRange(..)
                | Self::Stat(_)
                | Self::List(_)
                | Self::Remove(_)
                | Self::Settle(_)
        )
    }

    /// Whether what it tells was found on the disk and not computed.
    #[must_use]
    pub const fn is_of_source(&self) -> bool {
        matches!(self, Self::Entry(..) | Self::Content(..) | Self::Problem(..) | Self::Leading(_))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |hash: &[u8; 32]| blake3::Hash::from_bytes(*hash).to_hex()[..16].to_owned();
        match self {
            Self::Start(_) => f.write_str("start"),
            Self::Now => f.write_str("ask the clock"),
            Self::Random(count) => write!(f, "draw {count} random bytes"),
            Self::Pause(nanos) => write!(f, "pause for {nanos} ns"),
            Self::Put(name, bytes, hash) => {
                write!(f, "put {name}, {bytes} bytes, BLAKE3 {}…", short(hash))
            }
            Self::Get(name, bytes_max) => write!(f, "get {name}, at most {bytes_max} bytes"),
            Self::GetRange(name, range) => {
                write!(f, "get bytes {} to {} of {name}", range.start, range.end)
            }
            Self::Stat(name) => write!(f, "stat {name}"),
            Self::List(prefix) => write!(f, "list {prefix}"),
            Self::Remove(name) => write!(f, "remove {name}"),
            Self::Settle(prefix) => write!(f, "settle {prefix}"),
            Self::Leading(path) => write!(f, "pass through {}", path.display()),
            Self::Entry(path, hash) => {
                write!(f, "find {} with metadata {}…", path.display(), short(hash))
            }
            Self::Content(path, range, hash) => write!(
                f,
                "read bytes {} to {} of {}, BLAKE3 {}…",
                range.start,
                range.end,
                path.display(),
                short(hash)
            ),
            Self::Problem(path, during, message) => {
                write!(f, "cannot {during} {}: {message}", path.display())
            }
            Self::End(text) => write!(f, "end: {text}"),
        }
    }
}

impl Answer {
    /// Appends it as it is stored.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(1),
            Self::Time(time) => {
                out.push(2);
                encode_time(*time, out);
            }
            Self::Bytes(bytes) => {
                out.push(3);
                out.bytes(bytes);
            }
            Self::Put(outcome) => {
                out.extend([4, u8::from(*outcome == PutOutcome::Exists)]);
            }
            Self::Length(bytes) => {
                out.push(5);
                out.varint(*bytes);
            }
            Self::Listed(objects) => {
                out.push(6);
                out.varint(objects.len() as u64);
                for object in objects {
                    out.bytes(object.name.as_str().as_bytes());
                    out.varint(object.bytes);
                    out.zigzag(object.modified);
                }
            }
            Self::Leading(stat) => {
                out.push(7);
                encode_stat(stat, out);
            }
            Self::Failed(error) => {
                out.push(8);
                encode_error(error, out);
            }
            Self::Strayed => {}
        }
    }

    /// Reads one.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Done,
            2 => Self::Time(decode_time(reader)?),
            3 => Self::Bytes(reader.bytes(reader.left())?.to_vec()),
            4 => Self::Put(match reader.u8()? {
                0 => PutOutcome::Created,
                1 => PutOutcome::Exists,
                _ => return Err(reader.invalid("a put has no such outcome")),
            }),
            5 => Self::Length(reader.varint()?),
            6 => {
                let count = reader.count(usize::MAX, 3)?;
                let mut objects = Vec::with_capacity(count);
                for _ in 0..count {
                    let name = ObjectName::new(&decode_text(reader)?)
                        .ok_or_else(|| reader.invalid("it lists what is no name of an object"))?;
                    let (bytes, modified) = (reader.varint()?, reader.zigzag()?);
                    objects.push(Listed { name, bytes, modified });
                }
                Self::Listed(objects)
            }
            7 => Self::Leading(decode_stat(reader)?),
            8 => Self::Failed(decode_error(reader)?),
            _ => return Err(reader.invalid("it answers what this program does not know")),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Time(time) => write!(f, "{}.{:09}", time.seconds, time.nanos),
            // They may be secret.
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Put(PutOutcome::Created) => f.write_str("created"),
            Self::Put(PutOutcome::Exists) => f.write_str("exists"),
            Self::Length(bytes) => write!(f, "{bytes} bytes"),
            Self::Listed(objects) => write!(f, "{} objects", objects.len()),
            Self::Leading(_) => f.write_str("its metadata"),
            Self::Failed(error) => write!(f, "{error}: {}", error.source),
            Self::Strayed => f.write_str("nothing"),
        }
    }
}

/// The hash of what `statx` says of an entry, but for the number of the mount, which the next mount
/// changes.
pub(super) fn fingerprint(stat: &Stat) -> [u8; 32] {
    let mut bytes = Vec::new();
    encode_stat(&Stat { mount_id: 0, ..*stat }, &mut bytes);
    *blake3::hash(&bytes).as_bytes()
}

fn encode_stat(stat: &Stat, out: &mut Vec<u8>) {
    let kind = KINDS.iter().position(|kind| *kind == stat.kind).unwrap_or_default();
    out.push(kind as u8);
    for number in [
        u64::from(stat.mode),
        stat.uid.into(),
        stat.gid.into(),
        stat.links.into(),
        stat.size,
        stat.blocks,
        stat.device_number.major.into(),
        stat.device_number.minor.into(),
        stat.hint.inode,
        stat.hint.device,
        stat.mount_id,
    ] {
        out.varint(number);
    }
    for time in [stat.mtime, stat.hint.ctime, stat.hint.btime] {
        encode_time(time, out);
    }
}

fn decode_stat(reader: &mut Reader<'_>) -> Result<Stat, DecodeError> {
    let kind = *KINDS
        .get(usize::from(reader.u8()?))
        .ok_or_else(|| reader.invalid("an entry has no such kind"))?;
    let mode = u16::try_from(reader.varint()?);
    let mode = mode.map_err(|_| reader.invalid("a mode has 16 bits"))?;
    let (uid, gid, links) = (reader.varint_u32()?, reader.varint_u32()?, reader.varint_u32()?);
    let (size, blocks) = (reader.varint()?, reader.varint()?);
    let device_number = DeviceNumber { major: reader.varint_u32()?, minor: reader.varint_u32()? };
    let (inode, device, mount_id) = (reader.varint()?, reader.varint()?, reader.varint()?);
    let mtime = decode_time(reader)?;
    let (ctime, btime) = (decode_time(reader)?, decode_time(reader)?);
    let hint = Hint { ctime, btime, inode, device };
    // No run asks whether what it reads can be changed.
    let is_locked = false;
    Ok(Stat {
        kind,
        mode,
        uid,
        gid,
        links,
        size,
        blocks,
        device_number,
        mtime,
        hint,
        mount_id,
        is_locked,
    })
}

/// What went wrong at a backend, to the letter: it may end up in the log of the repository.
fn encode_error(error: &BackendError, out: &mut Vec<u8>) {
    let kind = ERRORS.iter().position(|kind| *kind == error.kind).unwrap_or_default();
    out.push(kind as u8);
    for text in [error.action, &error.object, &error.location] {
        out.bytes(text.as_bytes());
    }
    match error.source.raw_os_error() {
        Some(number) => {
            out.push(0);
            out.zigzag(number.into());
        }
        None => {
            out.push(1);
            out.bytes(error.source.to_string().as_bytes());
        }
    }
}

fn decode_error(reader: &mut Reader<'_>) -> Result<BackendError, DecodeError> {
    let kind = *ERRORS
        .get(usize::from(reader.u8()?))
        .ok_or_else(|| reader.invalid("an error has no such kind"))?;
    // A handful of words, in a process that does nothing else.
    let action = Box::leak(decode_text(reader)?.into_boxed_str());
    let (object, location) = (decode_text(reader)?, decode_text(reader)?);
    let source = match reader.u8()? {
        0 => {
            let number = i32::try_from(reader.zigzag()?);
            io::Error::from_raw_os_error(
                number.map_err(|_| reader.invalid("no error of a system"))?,
            )
        }
        _ => io::Error::other(decode_text(reader)?),
    };
    Ok(BackendError { kind, action, object, location, source })
}

pub(super) fn encode_time(time: Timestamp, out: &mut Vec<u8>) {
    out.zigzag(time.seconds);
    out.varint(time.nanos.into());
}

pub(super) fn decode_time(reader: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
    Ok(Timestamp { seconds: reader.zigzag()?, nanos: reader.varint_u32()? })
}

pub(super) fn encode_path(path: &Path, out: &mut Vec<u8>) {
    out.bytes(path.as_os_str().as_bytes());
}

pub(super) fn decode_path(reader: &mut Reader<'_>) -> Result<PathBuf, DecodeError> {
    Ok(PathBuf::from(OsStr::from_bytes(reader.bytes(reader.left())?)))
}

pub(super) fn decode_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.bytes(reader.left())?.to_vec();
    String::from_utf8(bytes).map_err(|_| reader.invalid("a text is not UTF-8"))
}

fn encode_range(range: &Range<u64>, out: &mut Vec<u8>) {
    out.varint(range.start);
    out.varint(range.end);
}

fn decode_range(reader: &mut Reader<'_>) -> Result<Range<u64>, DecodeError> {
    Ok(reader.varint()?..reader.varint()?)
}

/// Kinds of entries by their stored number.
const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::Socket,
    Kind::CharDevice,
    Kind::BlockDevice,
];
/// Kinds of errors by their stored number.
const ERRORS: [ErrorKind; 8] = [
    ErrorKind::Failed,
    ErrorKind::NotFound,
    ErrorKind::OutOfRange,
    ErrorKind::NoSpace,
    ErrorKind::Denied,
    ErrorKind::TooManyOpen,
    ErrorKind::Unreadable,
    ErrorKind::Transient,
];
