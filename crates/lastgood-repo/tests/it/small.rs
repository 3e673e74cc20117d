//! Small snapshots, and whether they are whole.

use std::ops::ControlFlow;
use std::sync::Arc;

use lastgood_format::chunker::ChunkerParams;
use lastgood_format::entry::{Content, Entry, Hint, Marks, Node, Timestamp};
use lastgood_format::hints::{HintItem, HintsCodec};
use lastgood_format::id::BlobId;
use lastgood_format::key::Class;
use lastgood_format::links::LinksCodec;
use lastgood_format::pack::BlobKind;
use lastgood_format::packset::PackRef;
use lastgood_format::page;
use lastgood_format::snapshot::{OwnerNames, Snapshot, SnapshotFlags, Totals};
use lastgood_format::tree::TreeCodec;
use lastgood_repo::{
    BlobReader, CheckObserver, CheckPlan, CheckReport, Gc, GcObserver, GcOptions, GcPhase,
    GcReport, ListCursor, MaxUnused, ReadData, RepoError, Repository, Settings, SnapshotRecord,
    WriteSession, check,
};

/// Packs of a few hundred bytes, so that a few files need several.
pub(crate) const SETTINGS: Settings = Settings {
    level: None,
    group_bytes: CONTENT_BYTES + 1,
    pack_bytes: 1,
    uploads: 1,
    parity: lastgood_repo::format::parity::ParityShare::NONE,
};

/// The same; who fills a pack puts it, so that calls come in the same order each time.
pub(crate) const ORDERED: Settings = Settings { uploads: 0, ..SETTINGS };

/// As long as a delta has to be shorter than an eighth of it.
const CONTENT_BYTES: usize = 300;

/// The content of the file of this number: the same number is the same chunk, and four in a row are
/// like each other.
pub(crate) fn content(number: u8) -> Vec<u8> {
    let mut content =
        blake3::Hasher::new().update(&[number / 4]).finalize_xof().fill_to(CONTENT_BYTES);
    content[usize::from(number % 4)] ^= number % 4;
    content
}

/// One that is like that.
const fn like(number: u8) -> u8 {
    number / 4 * 4 + (number + 1) % 4
}

trait FillTo {
    fn fill_to(self, bytes: usize) -> Vec<u8>;
}

impl FillTo for blake3::OutputReader {
    fn fill_to(mut self, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.fill(&mut out);
        out
    }
}

/// Commits a snapshot of a directory with these files.
pub(crate) fn store(
    repo: &Arc<Repository>,
    writer_name: u8,
    files: &[u8],
) -> Result<SnapshotRecord, RepoError> {
    store_as(repo, SETTINGS, writer_name, files)
}

/// Commits a snapshot of a directory with these files.
pub(crate) fn store_as(
    repo: &Arc<Repository>,
    settings: Settings,
    writer_name: u8,
    files: &[u8],
) -> Result<SnapshotRecord, RepoError> {
    let session = WriteSession::begin(repo, settings, &[writer_name; 16])?;
    let snapshots = repo.snapshots()?;
    let mut writer = session.writer();
    let mut entries = Vec::new();
    for &number in files {
        let like = repo.keys().blob_id(BlobKind::Chunk, &content(like(number)));
        let chunk = writer.add_like(like, &content(number))?;
        entries.push(file(number, chunk));
    }
    let hints =
        entries.iter().map(|_| HintItem { hint: Hint::default(), children: None, boundary: 1 });
    let hints: Vec<HintItem> = hints.collect();
    let tree = page::write::<TreeCodec, RepoError>(entries, &mut |bytes| {
        writer.add(BlobKind::Tree, bytes)
    })?;
    let hints = page::write::<HintsCodec, RepoError>(hints, &mut |bytes| {
        writer.add(BlobKind::Hints, bytes)
    })?;
    let links = page::write::<LinksCodec, RepoError>(Vec::new(), &mut |bytes| {
        writer.add(BlobKind::Links, bytes)
    })?;
    writer.finish()?;
    let chain = snapshots.next_in_chain(session.writer_id(), &[]);
    session.finish(&[], |stored| {
        let time = Timestamp { seconds: 1_800_000_000, nanos: 0 };
        Snapshot {
            session: stored.session,
            started: time,
            finished: time,
            tree,
            hints,
            links,
            pack_set: stored.pack_set,
            ref_packs: stored.ref_packs,
            sources: vec![b"/files".to_vec()],
            host: "host".to_owned(),
            host_id: [1; 16],
            user: "user".to_owned(),
            tags: Vec::new(),
            owners: OwnerNames::default(),
            chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
            chain,
            totals: Totals::default(),
            flags: SnapshotFlags::default(),
            program: "test".to_owned(),
            original: None,
        }
    })
}

/// Commits a copy of a snapshot without reading what it refers to; none when it may not be taken
/// over.
pub(crate) fn take_over(
    repo: &Arc<Repository>,
    writer_name: u8,
    record: &SnapshotRecord,
) -> Result<Option<SnapshotRecord>, RepoError> {
    let session = WriteSession::begin(repo, ORDERED, &[writer_name; 16])?;
    if !session.may_reuse(&BlobReader::new(repo.clone()), record)? {
        return Ok(None);
    }
    let snapshots = repo.snapshots()?;
    let chain = snapshots.next_in_chain(session.writer_id(), &[record.id]);
    let finished = session.finish(std::slice::from_ref(record), |stored| Snapshot {
        session: stored.session,
        pack_set: stored.pack_set,
        ref_packs: stored.ref_packs,
        chain,
        tags: vec!["copy".to_owned()],
        original: Some(record.id),
        ..record.snapshot.clone()
    });
    finished.map(Some)
}

/// Reads every file of a snapshot, as a restore does. Returns the names of those that hold
/// something else than they should.
pub(crate) fn read_back(
    repo: &Arc<Repository>,
    record: &SnapshotRecord,
) -> Result<Vec<String>, RepoError> {
    let reader = BlobReader::new(repo.clone());
    reader.add_snapshot(&record.snapshot)?;
    let mut entries = ListCursor::<TreeCodec>::open(&reader, BlobKind::Tree, record.snapshot.tree)?;
    let mut wrong = Vec::new();
    while let Some(entry) = entries.next(&reader)? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let number: u8 = name["file ".len()..].parse().expect("a file of a test");
        let Node::File { content: Content::Chunk(chunk), .. } = entry.node else {
            panic!("{name} is a file of one chunk")
        };
        if *reader.blob(BlobKind::Chunk, chunk)? != content(number) {
            wrong.push(name);
        }
    }
    Ok(wrong)
}

/// What is stored as a change of another, and of what.
pub(crate) fn deltas(repo: &Arc<Repository>) -> Vec<(BlobId, BlobId)> {
    let reader = BlobReader::new(repo.clone());
    let packs = repo.all_packs().unwrap().into_iter();
    let deltas = packs.flat_map(|(session, pack, bytes)| {
        let pack = PackRef { session, pack, class: Class::Data, bytes };
        let opened = reader.packs().open(pack).unwrap();
        let blobs = opened.directory.blobs.iter();
        blobs.filter_map(|blob| Some((blob.id, blob.base?))).collect::<Vec<_>>()
    });
    deltas.collect()
}

fn file(number: u8, chunk: BlobId) -> Entry {
    Entry {
        name: format!("file {number:03}").into_bytes().into(),
        node: Node::File { size: CONTENT_BYTES as u64, content: Content::Chunk(chunk) },
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Timestamp::default(),
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    }
}

/// Gc that fences whoever is in its way and repacks whatever is unused in part.
pub(crate) fn eager() -> GcOptions {
    GcOptions {
        fence_after: i64::MIN,
        max_unused: MaxUnused::Bytes(0),
        settings: SETTINGS,
        writer_name: [0xcc; 16],
        exclusive: false,
        threads: 1,
        keep_reserve: false,
    }
}

/// Plans and executes.
pub(crate) fn collect(repo: &Arc<Repository>, options: GcOptions) -> Result<GcReport, RepoError> {
    let mut gc = Gc::new(repo.clone(), options);
    let plan = gc.plan(&Quiet)?;
    gc.execute(&plan, &Quiet)
}

/// Nobody listens.
pub(crate) struct Quiet;

impl GcObserver for Quiet {
    fn enter(&self, _: GcPhase, _: u64) {}
    fn step(&self, _: GcPhase, _: u64) {}
    fn proceed(&self) -> Result<(), RepoError> {
        Ok(())
    }
}

impl CheckObserver for Quiet {
    fn total(&self, _: u64, _: u64) {}
    fn done(&self, _: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn damaged(&self, _: &str) {}
}

/// Reads everything that live snapshots need.
pub(crate) fn checked(repo: &Arc<Repository>) -> CheckReport {
    check(repo, &CheckPlan { read_data: ReadData::All, threads: 1 }, &Quiet).unwrap()
}
