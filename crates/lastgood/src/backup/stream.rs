//! A stream as a snapshot of one file.

use std::ffi::OsString;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use lastgood_host::HostError;
use lastgood_repo::format::entry::{Entry, Hint, Marks, Node, Timestamp};
use lastgood_repo::format::hints::HintItem;
use lastgood_repo::format::links::LinksCodec;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::page;

use super::building::{Building, Slice};
use super::content::{ReadStop, Recipe};
use super::engine::{Engine, Scanned, Worker};
use super::sink::Stop;
use super::{Stream, StreamFrom};
use crate::error::{Error, ErrorKind};

/// Reads the stream to its end and stores it as the file at its path.
pub(super) fn store(engine: &Engine<'_>, stream: Stream) -> Result<Scanned, Error> {
    let (mut reader, child) = match stream.from {
        StreamFrom::Reader(reader) => (reader, None),
        StreamFrom::Command(command) => {
            let mut child = spawn(&command)?;
            let output = child.stdout.take().ok_or_else(|| {
                Error::new(ErrorKind::Bug, "a command was started without its output")
            })?;
            (Box::new(output) as Box<dyn Read + Send>, Some((command, child)))
        }
    };
    let path = stream.path;
    let mut worker = engine.worker();
    let mut recipe = Recipe::default();
    let mut read = |mut buffer: &mut [u8], _: u64| {
        let mut filled = 0;
        while !buffer.is_empty() {
            match reader.read(buffer) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    buffer = &mut buffer[count..];
                    #[cfg(feature = "seeded-bugs")]
                    if lastgood_repo::format::seeded::is_planted(
                        lastgood_repo::format::seeded::Mistake::ShortReadTrusted,
                    ) {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(HostError { action: "read", path: path.clone(), source });
                }
            }
        }
        Ok(filled)
    };
    let result = worker.store_range(&mut recipe, 0..u64::MAX, &mut read);
    drop(reader);
    let finished = child.map_or(Ok(()), |(command, mut child)| {
        if result.is_err() {
            // It may never end by itself. Where it cannot be killed, it has ended.
            drop(child.kill());
        }
        finish(&command, child)
    });
    match result {
        Ok(_) => finished?,
        Err(ReadStop::Host(error)) => return Err(error.into()),
        Err(ReadStop::Stop(stop)) => return Err(stop.into()),
    }
    let node = recipe.finish(&mut worker)?;
    if let Node::File { size, .. } = node {
        engine.counts.bytes.fetch_add(size, std::sync::atomic::Ordering::Relaxed);
    }
    engine.counts.files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    engine.counts.files_new.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(wrap(engine, worker, node)?)
}

/// Puts the file into directories that lead to it.
fn wrap(engine: &Engine<'_>, mut worker: Worker<'_>, file: Node) -> Result<Scanned, Stop> {
    let now = engine.repo.world().clock.now();
    let path = engine.source_paths().first().cloned().unwrap_or_default();
    let mut node = file;
    let mut mode = 0o600;
    let mut hints = None;
    for name in path.components().rev() {
        let std::path::Component::Normal(name) = name else { continue };
        let name = std::os::unix::ffi::OsStrExt::as_bytes(name);
        let hint = HintItem { hint: Hint::default(), children: hints, boundary: 0 };
        let mut slice = Slice::default();
        slice.push(entry(name, node, mode, now), hint, false, false);
        let mut building = Building::default();
        building.append(slice, 0, true);
        let (tree, tree_hints) = building.finish(None, &mut worker.sink)?;
        (node, hints, mode) = (Node::Directory { tree }, Some(tree_hints), 0o700);
    }
    let links = page::write::<LinksCodec, Stop>(Vec::new(), &mut |bytes| {
        worker.sink.add(BlobKind::Links, bytes)
    })?;
    worker.finish()?;
    match (node, hints) {
        (Node::Directory { tree }, Some(hints)) => Ok(engine.scanned(tree, hints, links)),
        _ => Err(Stop::Cancelled),
    }
}

fn entry(name: &[u8], node: Node, mode: u16, mtime: Timestamp) -> Entry {
    Entry {
        name: name.into(),
        node,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime,
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    }
}

fn spawn(command: &[OsString]) -> Result<Child, Error> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::new(ErrorKind::Invalid, "there is no command to run"));
    };
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| {
            let text = format!("cannot run {}", program.display());
            Error::caused_by(ErrorKind::NotFound, text, source)
        })
}

/// A command that failed has given who knows what: nothing of it may become a snapshot.
fn finish(command: &[OsString], mut child: Child) -> Result<(), Error> {
    let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    let status = child.wait().map_err(|source| {
        Error::caused_by(ErrorKind::Unavailable, format!("cannot wait for {name}"), source)
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("{name} failed ({status}); nothing was committed")))
}
