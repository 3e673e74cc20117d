//! How much there is to do, counted beside the run.

use lastgood_host::HostError;
use lastgood_host::scan::{Directory, Kind, ListBuffer, Listing, Root, Seen};

use super::directory::head;
use super::engine::Engine;
use super::node::join;
use crate::select::{Decision, Facts};

/// Counts files and bytes of all sources, beside the run, for the progress display alone.
pub(super) fn estimate(engine: &Engine<'_>) {
    let mut names = ListBuffer::new();
    for (source, path) in engine.source_paths().iter().enumerate() {
        match Root::open(path) {
            Ok(Root::Directory(directory)) => {
                if estimate_below(engine, source, directory, &mut names).is_none() {
                    return;
                }
            }
            Ok(Root::Entry(entry)) => engine.control.add_total(1, entry.stat.size),
            Err(_) => {}
        }
    }
    engine.control.total_is_known();
}

/// Counts what lies below one source; `None` when the run ended first. What cannot be read is left
/// to the run to report.
fn estimate_below(
    engine: &Engine<'_>,
    source: usize,
    root: Directory,
    names: &mut ListBuffer,
) -> Option<()> {
    let root_device = root.own_stat().map_or(0, |stat| stat.hint.device);
    let mut listed = |directory: Result<Directory, HostError>, below: Box<[u8]>| {
        let directory = directory.ok()?;
        let listing = directory.list(names).ok()?;
        Some(Estimated { directory, listing, at: 0, below })
    };
    let mut stack: Vec<Estimated> = listed(Ok(root), Box::default()).into_iter().collect();
    while let Some(top) = stack.last_mut() {
        if engine.control.is_cancelled() || engine.is_over() {
            return None;
        }
        let Estimated { directory, listing, at, below } = top;
        let mut scope =
            engine.selection.enter(source, below, |name, n| head(directory, listing, name, n));
        let (mut files, mut bytes) = (0, 0);
        let mut child = None;
        for scanned in directory.scan_range(listing, *at..listing.len()) {
            *at += 1;
            let Seen::Stat(stat) = scanned.seen else { continue };
            if scope.decide(scanned.name, &Facts::from(&stat)) != Decision::Include {
                continue;
            }
            if stat.kind != Kind::Directory {
                files += 1;
                bytes += if stat.kind == Kind::File { stat.size } else { 0 };
            } else if engine.selection.descend(root_device, stat.hint.device) == Decision::Include {
                child = Some((directory.open_child(scanned.name), join(below, scanned.name)));
                break;
            }
        }
        engine.control.add_total(files, bytes);
        match child {
            Some((child, below)) => stack.extend(listed(child, below)),
            None => drop(stack.pop()),
        }
    }
    Some(())
}

/// A directory whose content is being counted.
struct Estimated {
    directory: Directory,
    listing: Listing,
    /// How many names were looked at.
    at: usize,
    /// Path below the source.
    below: Box<[u8]>,
}
