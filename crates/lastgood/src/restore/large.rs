//! A file of several chunks, which are written in any order.
//!
//! A new file is written under a temporary name and gets its own when it is whole, so nothing that
//! is cut off passes for whole; the next run compares what is there and goes on. A file that is
//! there already is changed in place, unless it has other names or is a program that runs.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use lastgood_host::HostError;
use lastgood_host::source::SourceFile;
use lastgood_host::target::{TargetDirectory, TargetFile};

use crate::restore::compare;
use crate::restore::context::{Context, Slot, lock};
use crate::restore::entry::{EntryTask, copy, open_source, remove_leftover};
use crate::restore::links::with_permission;
use crate::restore::plan::Plan;
use crate::restore::report::Outcome;

/// A file that is being written or compared by several threads. Each holds it, and gives it back by
/// [`LargeFile::release`]; the last one finishes it.
pub(crate) struct LargeFile {
    pub(crate) task: EntryTask,
    form: Form,
    part: Box<[u8]>,
    reader: Slot<SourceFile>,
    writer: Slot<TargetFile>,
    state: Mutex<State>,
}

/// How its bytes come to be under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Written from nothing under the temporary name.
    Fresh,
    /// An earlier run left part of it under the temporary name.
    Resumed,
    /// Changed where it is.
    InPlace,
    /// What is there has other names, or runs: at the first difference it is copied, and the copy
    /// changed.
    Apart,
}

#[derive(Default)]
struct State {
    /// Whether there is a file under the temporary name that this run made.
    is_created: bool,
    /// Whether what is there turned out to be a program that runs.
    is_running: bool,
    is_changed: bool,
    is_damaged: bool,
    /// Something of it was left undone.
    is_unfinished: bool,
    failure: Option<HostError>,
}

impl LargeFile {
    pub(crate) fn new(task: EntryTask, has_leftover: bool) -> Arc<Self> {
        let form = match (task.plan, &task.existing) {
            (Plan::Compare | Plan::Trust, Some(existing)) if existing.links > 1 => Form::Apart,
            (Plan::Compare | Plan::Trust, Some(_)) => Form::InPlace,
            _ if has_leftover => Form::Resumed,
            _ => Form::Fresh,
        };
        let part = task.part_name();
        let (reader, writer) = (Slot::default(), Slot::default());
        Arc::new(Self { task, form, part, reader, writer, state: Mutex::default() })
    }

    /// Whether there is something that it may be equal to.
    pub(crate) fn may_hold(&self) -> bool {
        self.form != Form::Fresh
    }

    /// What is there, to be compared.
    pub(crate) fn reader(&self, ctx: &Context<'_>) -> Result<Arc<SourceFile>, HostError> {
        let mut slot = lock(&self.reader);
        if let Some(reader) = &*slot {
            return Ok(reader.clone());
        }
        let directory = self.task.folder.open(ctx)?;
        let name = if self.form == Form::Resumed { &self.part } else { &self.task.entry.name };
        let open = || open_source(&directory, name);
        let reader = match open() {
            Err(error) if error.is_denied() && ctx.writes => {
                directory.unlock_entry(name)?;
                lock(&self.state).is_changed = true;
                open()
            }
            opened => opened,
        };
        let reader = Arc::new(reader?);
        *slot = Some(reader.clone());
        ctx.readers.filled(&self.reader);
        Ok(reader)
    }

    /// How its bytes come to be under its name, by what is known now.
    fn form(&self) -> Form {
        let is_apart = self.form == Form::InPlace && lock(&self.state).is_running;
        if is_apart { Form::Apart } else { self.form }
    }

    fn writer(&self, ctx: &Context<'_>) -> Result<Arc<TargetFile>, HostError> {
        let mut slot = lock(&self.writer);
        if let Some(writer) = &*slot {
            return Ok(writer.clone());
        }
        let name = &self.task.entry.name;
        let directory = self.task.folder.open(ctx)?;
        let mut form = self.form();
        let mut in_place = None;
        if form == Form::InPlace {
            match open_locked(&directory, name) {
                Err(error) if error.is_running() => {
                    lock(&self.state).is_running = true;
                    form = Form::Apart;
                }
                opened => in_place = Some(opened?),
            }
        }
        let is_created = lock(&self.state).is_created;
        let writer = match form {
            Form::InPlace => in_place,
            Form::Fresh | Form::Apart if !is_created => {
                self.task.folder.touch();
                let file = if form == Form::Apart {
                    copy(ctx, &directory, name, &self.part)?
                } else {
                    remove_leftover(&directory, &self.part)?;
                    with_permission(&directory, || directory.create_file(&self.part))?
                };
                file.set_early_flags(self.task.entry.flags);
                lock(&self.state).is_created = true;
                Some(file)
            }
            _ => None,
        };
        let writer = match writer {
            Some(writer) => writer,
            None => open_locked(&directory, &self.part)?,
        };
        let writer = Arc::new(writer);
        lock(&self.state).is_changed = true;
        *slot = Some(writer.clone());
        ctx.writers.filled(&self.writer);
        Ok(writer)
    }

    /// Writes `bytes`, `count` times from `offset` on.
    pub(crate) fn write(
        &self,
        ctx: &Context<'_>,
        bytes: &[u8],
        offset: u64,
        count: u64,
    ) -> Result<(), HostError> {
        let writer = self.writer(ctx)?;
        let is_blank = self.form == Form::Fresh;
        // Runs of a short chunk are written in longer strokes.
        let tiles = (TILE_BYTES / bytes.len().max(1)).clamp(1, 1 << 16) as u64;
        let tiled = if count > 1 && tiles > 1 {
            bytes.repeat(tiles.min(count) as usize)
        } else {
            Vec::new()
        };
        let mut left = count;
        let mut position = offset;
        while left > 0 {
            if ctx.is_stopped() {
                lock(&self.state).is_unfinished = true;
                return Ok(());
            }
            let stroke = if tiled.is_empty() { 1 } else { tiles.min(left) };
            let stroke_bytes = stroke as usize * bytes.len();
            let piece = if tiled.is_empty() { bytes } else { &tiled[..stroke_bytes] };
            write_bytes(&writer, piece, position, ctx.sparse, is_blank)?;
            ctx.record.bytes(piece.len() as u64, 0);
            ctx.control.add_done(0, piece.len() as u64);
            position += piece.len() as u64;
            left -= stroke;
        }
        Ok(())
    }

    /// Makes a hole, unless there is one or zeros are there already.
    pub(crate) fn hole(
        &self,
        ctx: &Context<'_>,
        mut range: Range<u64>,
        buffer: &mut Vec<u8>,
    ) -> Result<(), HostError> {
        if !self.may_hold() {
            return Ok(());
        }
        let reader = self.reader(ctx)?;
        while let Some(data) = compare::first_data(&reader, &range, buffer)? {
            if !ctx.writes {
                self.differs();
                return Ok(());
            }
            if ctx.is_stopped() {
                lock(&self.state).is_unfinished = true;
                return Ok(());
            }
            range.start = data.end;
            self.writer(ctx)?.punch_hole(data)?;
        }
        Ok(())
    }

    /// What is there differs; it was only compared.
    pub(crate) fn differs(&self) {
        lock(&self.state).is_changed = true;
    }

    /// Some of its bytes are lost; this was reported.
    pub(crate) fn is_damaged(&self) {
        lock(&self.state).is_damaged = true;
    }

    /// Some of it was not done, because the run stops.
    pub(crate) fn unfinished(&self) {
        lock(&self.state).is_unfinished = true;
    }

    pub(crate) fn failed(&self, error: HostError) {
        lock(&self.state).failure.get_or_insert(error);
    }

    /// Whether there is no point in going on with it.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.state).failure.is_some()
    }

    /// Gives it back. The last to do so finishes it.
    pub(crate) fn release(self: Arc<Self>, ctx: &Context<'_>) {
        if let Some(file) = Arc::into_inner(self) {
            file.finish(ctx);
        }
    }

    fn finish(self, ctx: &Context<'_>) {
        let failure = lock(&self.state).failure.take();
        let result = match failure {
            Some(error) => Err(error),
            None if lock(&self.state).is_unfinished => {
                ctx.record.failed();
                return self.task.leave(ctx, None);
            }
            None => self.complete(ctx),
        };
        let (is_created, is_damaged) = {
            let state = lock(&self.state);
            (state.is_created, state.is_damaged)
        };
        match result {
            Ok(outcome) if is_damaged => {
                // The damage is reported; what there is of the file is in place.
                ctx.record.failed();
                self.task.leave(ctx, Some(outcome));
            }
            Err(error) if is_created && !error.is_no_space() => {
                // Half a file under a temporary name helps nobody when the next try fails as well.
                if let Ok(directory) = self.task.folder.open(ctx) {
                    directory.remove_entry(&self.part).ok();
                }
                self.task.finish(ctx, Err(error));
            }
            result => self.task.finish(ctx, result),
        }
    }

    fn complete(&self, ctx: &Context<'_>) -> Result<Outcome, HostError> {
        let size = self.task.bytes();
        let existing = match self.form {
            Form::InPlace | Form::Apart => self.task.existing,
            Form::Fresh | Form::Resumed => None,
        };
        if let Some(existing) = &existing
            && existing.size == size
            && !lock(&self.state).is_changed
        {
            return self.task.settle_metadata(ctx, existing);
        }
        if !ctx.writes {
            return Ok(Outcome::Changed(self.task.change()));
        }
        let writer = self.writer(ctx)?;
        let stat = writer.stat()?;
        if stat.size != size {
            writer.set_len(size)?;
        }
        let mut wanted = ctx.metadata(&self.task.entry);
        if lock(&self.state).is_damaged {
            // Only a whole file bears the snapshot's time: what goes by it tries again.
            wanted.mtime = writer.stat()?.mtime;
        }
        let directory = self.task.folder.open(ctx)?;
        let is_in_place = self.form() == Form::InPlace;
        let name = if is_in_place { &self.task.entry.name } else { &self.part };
        if let (Plan::Replace, Some(existing)) = (self.task.plan, &self.task.existing) {
            crate::restore::entry::clear(ctx, &directory, &self.task.entry.name, existing)?;
        }
        self.task.put_in_place(ctx, &directory, name, || writer.apply(&wanted, ctx.policy))?;
        if !is_in_place {
            self.task.folder.touch();
        }
        Ok(Outcome::Changed(self.task.change()))
    }
}

/// Opens a file to write, whatever protects it.
fn open_locked(directory: &TargetDirectory, name: &[u8]) -> Result<TargetFile, HostError> {
    match directory.open_file(name) {
        Err(error) if error.is_denied() => {
            directory.unlock_entry(name)?;
            directory.open_file(name)
        }
        opened => opened,
    }
}

/// Writes `bytes` at `offset`; with `sparse`, long runs of zeros become holes. `is_blank` says that
/// the file has nothing but holes where nothing was written.
pub(crate) fn write_bytes(
    file: &TargetFile,
    bytes: &[u8],
    offset: u64,
    sparse: bool,
    is_blank: bool,
) -> Result<(), HostError> {
    if !sparse {
        return file.write_at(bytes, offset);
    }
    let mut done = 0;
    while done < bytes.len() {
        // Blocks of the file, not of the chunk: only a whole block can be a hole.
        let is_hole = |at: usize| {
            let end = block_end(offset, at, bytes.len());
            (end - at == BLOCK_BYTES && compare::is_zero(&bytes[at..end]), end)
        };
        let (hole, mut end) = is_hole(done);
        while end < bytes.len() {
            let (next, next_end) = is_hole(end);
            if next != hole {
                break;
            }
            end = next_end;
        }
        let start = offset + done as u64;
        if !hole {
            file.write_at(&bytes[done..end], start)?;
        } else if !is_blank {
            file.punch_hole(start..offset + end as u64)?;
        }
        done = end;
    }
    Ok(())
}

/// End of the block of the file in which byte `at` of a chunk at `offset` lies.
fn block_end(offset: u64, at: usize, length: usize) -> usize {
    let into = ((offset + at as u64) % BLOCK_BYTES as u64) as usize;
    (at + BLOCK_BYTES - into).min(length)
}

/// Shortest run of zeros that becomes a hole.
const BLOCK_BYTES: usize = 4096;
/// How much of a run of equal chunks is written at once.
const TILE_BYTES: usize = 1 << 20;
