//! What gc, check and forget take in a repository of many snapshots and chunks.
//!
//! `cargo run --release -p bench --bin scale -- SCRATCH [SNAPSHOTS] [CHUNKS]` makes a repository of
//! 20 hosts in SCRATCH (default 10,000 snapshots and 10,000,000 chunks of 48 bytes; a snapshot
//! shares 49 of its 50 files with the one of its host before), and measures the command built in
//! the same profile on it, once each. Memory is the highest anonymous memory seen.
#![expect(clippy::print_stdout, reason = "it prints figures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bench::{lastgood, remove, report, run};
use lastgood::system::{Home, world};
use lastgood::{Entry, Marks, Node, Repository, Settings, Snapshot, SnapshotFlags, SnapshotRecord};
use lastgood_format::chunker::ChunkerParams;
use lastgood_format::entry::{Content, Hint, Timestamp};
use lastgood_format::hints::{HintItem, HintsCodec};
use lastgood_format::links::LinksCodec;
use lastgood_format::pack::BlobKind;
use lastgood_format::page;
use lastgood_format::recipe::{Part, RecipeCodec};
use lastgood_format::snapshot::{Chain, OwnerNames, Totals};
use lastgood_format::tree::TreeCodec;
use lastgood_repo::{BlobReader, RepoError, WriteSession};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scratch =
        PathBuf::from(arguments.next().context("usage: scale SCRATCH [SNAPSHOTS] [CHUNKS]")?);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<u64>());
    let (snapshots, chunks) = (number(10_000)?, number(10_000_000)?);
    std::fs::create_dir_all(&scratch)?;
    let scratch = scratch.canonicalize()?;
    let home = scratch.join("home");
    remove(&home)?;
    let start = Instant::now();
    make(&home, snapshots, chunks / snapshots.max(1))?;
    println!(
        "made {snapshots} snapshots, {chunks} chunks in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    let lastgood = lastgood()?;
    let kept = format!("--keep-last={}", snapshots.saturating_sub(snapshots / 10));
    let commands: [(&str, &[&str]); 7] = [
        ("snapshots", &["snapshots"]),
        ("check", &["check"]),
        ("gc -n, all needed", &["gc", "--dry-run"]),
        ("forget a tenth", &["forget", &kept, "--group-by="]),
        ("gc, packs that nobody needs", &["gc", "--max-unused=unlimited"]),
        ("gc, with repacking", &["gc", "--max-unused=0%"]),
        ("check --read-data", &["check", "--read-data"]),
    ];
    for (what, arguments) in commands {
        let arguments: Vec<&Path> = arguments.iter().map(Path::new).collect();
        let measured = run(&lastgood, &home, &arguments)?;
        report(what, &[measured], |_| String::new(), "", "");
    }
    remove(&scratch)?;
    Ok(())
}

/// One of the hosts that back up.
#[derive(Default)]
struct Host {
    files: VecDeque<Entry>,
    last: Option<SnapshotRecord>,
}

fn make(home: &Path, snapshots: u64, chunks_each: u64) -> anyhow::Result<()> {
    let share = home.join(".local/share/lastgood");
    let home = Home {
        data: share,
        cache: home.join(".cache/lastgood"),
        state: home.join(".local/state/lastgood"),
    };
    let repo = lastgood::opening::open_default(&home, world(), "bench")?.repo;
    let mut hosts: Vec<Host> = (0..HOSTS).map(|_| Host::default()).collect();
    for number in 0..snapshots {
        let at = (number % HOSTS) as usize;
        commit(&repo, at, &mut hosts[at], number, chunks_each)
            .with_context(|| format!("snapshot {number}"))?;
    }
    Ok(())
}

/// Commits a snapshot of the last files of a host and a new one.
fn commit(
    repo: &Arc<Repository>,
    at: usize,
    host: &mut Host,
    number: u64,
    chunks: u64,
) -> Result<(), RepoError> {
    let settings = Settings { level: None, ..Settings::default() };
    let session = WriteSession::begin(repo, settings, &[at as u8; 16])?;
    let reader = BlobReader::new(repo.clone());
    if let Some(last) = &host.last {
        session.may_reuse(&reader, last)?;
    }
    let mut writer = session.writer();
    let mut parts = Vec::new();
    for chunk in 0..chunks {
        let mut bytes = [0; CHUNK_BYTES as usize];
        blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .update(&chunk.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        let id = writer.add(BlobKind::Chunk, &bytes)?;
        parts.push(Part::Chunk { id, bytes: CHUNK_BYTES });
    }
    let recipe = page::write::<RecipeCodec, RepoError>(parts, &mut |bytes| {
        writer.add(BlobKind::Recipe, bytes)
    })?;
    host.files.push_back(Entry {
        name: format!("file {number:08}").into_bytes().into(),
        node: Node::File {
            size: chunks * u64::from(CHUNK_BYTES),
            content: Content::Recipe(recipe),
        },
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 0 },
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    });
    if host.files.len() > FILES {
        host.files.pop_front();
    }
    let hint = || HintItem { hint: Hint::default(), children: None, boundary: 1 };
    let hints: Vec<HintItem> = host.files.iter().map(|_| hint()).collect();
    let files: Vec<Entry> = host.files.iter().cloned().collect();
    let tree =
        page::write::<TreeCodec, RepoError>(files, &mut |bytes| writer.add(BlobKind::Tree, bytes))?;
    let hints = page::write::<HintsCodec, RepoError>(hints, &mut |bytes| {
        writer.add(BlobKind::Hints, bytes)
    })?;
    let links = page::write::<LinksCodec, RepoError>(Vec::new(), &mut |bytes| {
        writer.add(BlobKind::Links, bytes)
    })?;
    writer.finish()?;
    let before = host.last.as_ref();
    let chain = Chain {
        writer: session.writer_id(),
        sequence: before.map_or(1, |last| last.snapshot.chain.sequence + 1),
        previous: before.map(|last| last.id),
        parents: before.map(|last| last.id).into_iter().collect(),
        generation: number + 1,
        heads: Vec::new(),
    };
    let time = Timestamp { seconds: 1_700_000_000 + number as i64 * 60, nanos: 0 };
    let record = session.finish(host.last.as_slice(), |stored| Snapshot {
        session: stored.session,
        started: time,
        finished: time,
        tree,
        hints,
        links,
        pack_set: stored.pack_set,
        ref_packs: stored.ref_packs,
        sources: vec![b"/files".to_vec()],
        host: format!("host-{at}"),
        host_id: [at as u8; 16],
        user: "user".to_owned(),
        tags: Vec::new(),
        owners: OwnerNames::default(),
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
        chain,
        totals: Totals { files: FILES as u64, bytes: chunks * FILES as u64, ..Totals::default() },
        flags: SnapshotFlags::default(),
        program: "bench".to_owned(),
        original: None,
    })?;
    host.last = Some(record);
    Ok(())
}

const HOSTS: u64 = 20;
const FILES: usize = 50;
const CHUNK_BYTES: u32 = 48;
