//! Hard links: which paths of a snapshot are one file, and making them one again.
//!
//! Of the paths of one file that are restored, the first that is met is written; the others
//! become further names of it. So a part of a snapshot restores as well as all of it. The table is
//! believed only where the entries agree with it: what is linked has equal kind and content.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use lastgood_format::entry::Node;
use lastgood_format::id::BlobId;
use lastgood_format::links::LinksCodec;
use lastgood_format::pack::BlobKind;
use lastgood_host::HostError;
use lastgood_host::scan::Kind;
use lastgood_host::target::{TargetDirectory, temporary_name};
use lastgood_repo::BlobReader;

use crate::pages::{Gap, Pages};
use crate::restore::context::{Context, lock};
use crate::restore::entry::{EntryTask, clear};
use crate::restore::plan::Change;
use crate::restore::report::Outcome;

/// The hard-link table of a snapshot, or of a part of it: 16 bytes a row.
#[derive(Default)]
pub(crate) struct Links {
    hasher: RandomState,
    /// Number of the group by hash of the path. The hash is keyed by chance, so nobody can make
    /// two paths collide; and if they do, their content decides.
    groups: HashMap<u64, u32>,
    /// How many paths of each group are still to be met.
    left: Vec<u32>,
    met: HashMap<u32, Arc<Group>>,
}

/// The paths of one file.
pub(crate) struct Group {
    node: Node,
    state: Mutex<State>,
}

enum State {
    /// The first path is being restored; these wait for it.
    Pending(Vec<EntryTask>),
    /// It is there.
    Done(Leader),
    /// It could not be restored.
    Failed,
}

/// A restored file that others become links of.
#[derive(Clone)]
pub(crate) struct Leader {
    /// Its directory in the target.
    pub(crate) directory: Vec<u8>,
    /// Its name there.
    pub(crate) name: Box<[u8]>,
    /// Device and inode, where it was there before.
    pub(crate) file_id: Option<(u64, u64)>,
}

/// What a path is in its group.
pub(crate) enum Role {
    /// Not in any.
    Alone,
    /// The first: it is restored, and then [`Group::settle`] is called.
    First(Arc<Group>),
    /// Another name of the first.
    Further(Arc<Group>),
}

impl Links {
    /// Loads the rows of paths below `prefix`, which is empty or ends with `/`. A page that cannot
    /// be read goes to `failed`; its paths are restored as files of their own.
    pub(crate) fn load(
        reader: &BlobReader,
        root: BlobId,
        prefix: &[u8],
        failed: &mut dyn FnMut(Gap),
    ) -> Self {
        let mut links = Self::default();
        for link in Pages::<LinksCodec>::new(reader, BlobKind::Links, root) {
            match link {
                Ok(link) => {
                    let is_met = |path: &[u8]| path.starts_with(prefix);
                    if is_met(&link.path) {
                        links.add(&link.path, &link.leader, is_met(&link.leader));
                    }
                }
                Err(gap) => failed(gap),
            }
        }
        links
    }

    fn add(&mut self, path: &[u8], leader: &[u8], is_leader_met: bool) {
        let (path, leader) = (self.hasher.hash_one(path), self.hasher.hash_one(leader));
        let fresh = self.left.len() as u32;
        let group = *self.groups.entry(leader).or_insert(fresh);
        if group == fresh {
            self.left.push(u32::from(is_leader_met));
        }
        self.groups.insert(path, group);
        if let Some(left) = self.left.get_mut(group as usize) {
            *left += 1;
        }
    }

    /// What the entry at `path` is. `is_restored` says whether it will be there afterwards.
    pub(crate) fn meet(&mut self, path: &[u8], node: &Node, is_restored: bool) -> Role {
        if self.groups.is_empty() {
            return Role::Alone;
        }
        let Some(&number) = self.groups.get(&self.hasher.hash_one(path)) else {
            return Role::Alone;
        };
        let left = self.left.get_mut(number as usize).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        let first = self.met.get(&number).cloned();
        if left == 0 {
            self.met.remove(&number);
        }
        match first {
            _ if !is_restored => Role::Alone,
            Some(group) if group.node == *node => Role::Further(group),
            Some(_) => Role::Alone,
            None if left == 0 => Role::Alone,
            None => {
                let state = Mutex::new(State::Pending(Vec::new()));
                let group = Arc::new(Group { node: node.clone(), state });
                self.met.insert(number, group.clone());
                Role::First(group)
            }
        }
    }
}

impl Group {
    /// Links `task` to the first path, now or when that is there.
    pub(crate) fn join(&self, ctx: &Context<'_>, task: EntryTask) {
        let leader = match &mut *lock(&self.state) {
            State::Pending(waiting) => {
                waiting.push(task);
                return;
            }
            State::Done(leader) => Some(leader.clone()),
            State::Failed => None,
        };
        follow(ctx, task, leader.as_ref());
    }

    /// The first path is there, or never will be.
    pub(crate) fn settle(&self, ctx: &Context<'_>, leader: Option<Leader>) {
        let next = leader.clone().map_or(State::Failed, State::Done);
        let before = std::mem::replace(&mut *lock(&self.state), next);
        if let State::Pending(waiting) = before {
            for task in waiting {
                follow(ctx, task, leader.as_ref());
            }
        }
    }
}

fn follow(ctx: &Context<'_>, task: EntryTask, leader: Option<&Leader>) {
    match leader {
        Some(leader) => match link(ctx, &task, leader) {
            Ok(outcome) => task.done(ctx, outcome),
            Err(error) => task.failed(ctx, &error),
        },
        None if ctx.is_stopped() => {}
        None => {
            ctx.record.failed();
            let message = "the file that it is another name of could not be restored".to_owned();
            ctx.record.trouble(task.path(ctx), ctx.verb(), message, crate::job::Severity::Error);
        }
    }
    ctx.control.add_done(1, task.bytes());
    task.folder.release(ctx);
}

fn link(ctx: &Context<'_>, task: &EntryTask, leader: &Leader) -> Result<Outcome, HostError> {
    let name = &task.entry.name;
    if let Some(existing) = &task.existing
        && leader.file_id == Some(existing.file_id())
    {
        return Ok(Outcome::Equal);
    }
    let change = match &task.existing {
        None => Change::Created,
        Some(existing) if existing.kind != crate::restore::plan::kind(&task.entry.node) => {
            Change::Kind
        }
        Some(_) => Change::Link,
    };
    let Some(target) = ctx.target.filter(|_| ctx.writes) else {
        return Ok(Outcome::Changed(change));
    };
    let from = target.directory(&leader.directory)?;
    let directory = task.folder.open(ctx)?;
    task.folder.touch();
    match &task.existing {
        None => with_permission(&directory, || directory.hard_link(name, &from, &leader.name))?,
        Some(existing) if existing.kind == Kind::Directory => {
            clear(ctx, &directory, name, existing)?;
            directory.hard_link(name, &from, &leader.name)?;
        }
        Some(_) => {
            let part = temporary_name(lastgood_format::page::boundary_hash(name));
            let link = || directory.hard_link(&part, &from, &leader.name);
            match with_permission(&directory, link) {
                // A leftover of a run that was cut.
                Err(error) if error.is_exists() => {
                    directory.remove_entry(&part)?;
                    link()?;
                }
                linked => linked?,
            }
            directory.rename(&part, name)?;
        }
    }
    Ok(Outcome::Changed(change))
}

/// Tries again with permission to change `directory`, where that was refused.
pub(crate) fn with_permission<T>(
    directory: &TargetDirectory,
    change: impl Fn() -> Result<T, HostError>,
) -> Result<T, HostError> {
    match change() {
        Err(error) if error.is_denied() => {
            directory.unlock()?;
            change()
        }
        done => done,
    }
}
