use lastgood_format::chunker::ChunkerParams;
use lastgood_format::entry::Timestamp;
use lastgood_format::id::BlobId;
use lastgood_format::snapshot::{OwnerNames, SnapshotFlags, Totals};

use super::*;

fn record(writer: u64, generation: u64) -> SnapshotRecord {
    let id = |number: u64| *blake3::hash(&number.to_le_bytes()).as_bytes();
    let writer_id = WriterId::new(*id(writer).first_chunk().unwrap());
    let blob = BlobId::new([1; 32]);
    let snapshot = Snapshot {
        session: SessionId::new([2; 16]),
        started: Timestamp { seconds: 5, nanos: 0 },
        finished: Timestamp { seconds: 6, nanos: 0 },
        tree: blob,
        hints: blob,
        links: blob,
        pack_set: blob,
        ref_packs: Vec::new(),
        sources: Vec::new(),
        host: String::new(),
        host_id: [0; 16],
        user: String::new(),
        tags: Vec::new(),
        owners: OwnerNames::default(),
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
        chain: Chain {
            writer: writer_id,
            sequence: generation,
            previous: None,
            parents: Vec::new(),
            generation,
            heads: Vec::new(),
        },
        totals: Totals::default(),
        flags: SnapshotFlags::default(),
        program: String::new(),
        original: None,
    };
    SnapshotRecord { id: SnapshotId::new(id(writer << 32 | generation)), snapshot }
}

#[test]
fn the_newest_heads_are_named_and_no_more_than_a_reader_takes() {
    let count = SNAPSHOT_HEADS_MAX as u64 + 10;
    // Every writer has an old snapshot and a new one; later writers have newer ones.
    let records = (0..count).flat_map(|writer| [record(writer, 1), record(writer, writer + 2)]);
    let own = record(count - 1, 1).snapshot.chain.writer;
    let newest = BTreeMap::from([(own, (count + 1, record(count - 1, count + 1).id))]);
    let snapshots = Snapshots { live: records.collect(), newest, ..Snapshots::default() };
    let chain = snapshots.next_in_chain(own, &[]);
    assert_eq!((chain.sequence, chain.generation), (count + 2, count + 2));
    assert_eq!(chain.heads.len(), SNAPSHOT_HEADS_MAX);
    assert!(chain.heads.is_sorted());
    let lowest = chain.heads.iter().map(|head| head.sequence).min();
    // Without its own, the newest are those of all but the first nine.
    assert_eq!(lowest, Some(9 + 2));
}
