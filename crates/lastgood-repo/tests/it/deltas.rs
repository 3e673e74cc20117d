//! Blobs that are stored as changes of others: what is read, and what is refused.

use lastgood_backend::ObjectName;
use lastgood_format::delta;
use lastgood_format::group::{Compression, FrameSize};
use lastgood_format::id::{BlobId, SessionId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::{ClassSecret, Secret};
use lastgood_format::object::{name, object_id};
use lastgood_format::pack::{BlobKind, GroupPayload, PackBuilder, PackedBlob};
use lastgood_format::packset::PackRef;
use lastgood_format::parity::ParityShare;
use lastgood_repo::{BlobReader, RepoError};

use crate::place::Place;

/// A blob as it stands in a pack that anybody with the key could have made.
struct Made {
    id: BlobId,
    kind: BlobKind,
    base: Option<BlobId>,
    bytes: Vec<u8>,
}

/// Content that does not compress, with a change at `change`.
fn version(change: u8) -> Vec<u8> {
    let mut bytes = vec![0; 5_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes[100 + usize::from(change)] ^= change;
    bytes
}

/// A pack in the store and an index segment for it.
fn put_pack(place: &Place, blobs: &[Made]) -> PackRef {
    let keys = place.repo.keys();
    let class = blobs[0].kind.class();
    let session = SessionId::new(place.repo.world().random());
    let secret = ClassSecret::create(keys, class, session, Secret::new([9; 32]));
    let mut pack = PackBuilder::new(&secret, FrameSize::ORDINARY, Box::new(Vec::new()));
    let packed = blobs.iter().map(|made| PackedBlob {
        id: made.id,
        kind: made.kind,
        base: made.base,
        bytes: made.bytes.len() as u32,
    });
    let packed: Vec<PackedBlob> = packed.collect();
    let raw = blobs.iter().map(|made| &made.bytes[..]).collect::<Vec<_>>().concat();
    let group = GroupPayload {
        payload: &raw,
        raw_bytes: raw.len() as u32,
        compression: Compression::Stored,
        level: 1,
        blobs: &packed,
    };
    pack.add_group(&secret, &group, 0, &[0; 32]);
    let pack = pack.finish(ParityShare::NONE, &secret, 1, &[0; 32]);
    let bytes = pack.bytes.to_vec();
    let at = PackRef { session, pack: pack.id, class, bytes: bytes.len() as u64 };
    let object = ObjectName::new(&name::pack(session, pack.id)).unwrap();
    place.memory.overwrite(&object, &bytes);
    let mut segment = IndexSegment::default();
    segment.add_pack(at, &pack.directory.blobs);
    segment.entries.sort_unstable();
    let segment = segment.encode(keys, session, &[0; 32]);
    place.put(&name::index(object_id(&segment)), &segment);
    at
}

fn whole(place: &Place, kind: BlobKind, bytes: &[u8]) -> Made {
    let id = place.repo.keys().blob_id(kind, bytes);
    Made { id, kind, base: None, bytes: bytes.to_vec() }
}

/// `bytes` as a change of `base`, which is told to be a change of `told`.
fn delta_of(place: &Place, bytes: &[u8], base: &[u8], told: BlobId) -> Made {
    let stored = delta::encode(bytes, base, bytes.len() / 8).unwrap();
    Made { base: Some(told), bytes: stored, ..whole(place, BlobKind::Chunk, bytes) }
}

fn chunk_id(place: &Place, bytes: &[u8]) -> BlobId {
    place.repo.keys().blob_id(BlobKind::Chunk, bytes)
}

#[test]
fn a_change_of_a_whole_blob_is_read_wherever_that_lies() {
    let place = Place::new();
    let [base, one, other] = [1, 2, 3].map(version);
    let base_id = chunk_id(&place, &base);
    // The base lies as a change of another as well, which is of no use.
    let third = version(4);
    let of_third = delta_of(&place, &base, &third, chunk_id(&place, &third));
    put_pack(&place, &[of_third, delta_of(&place, &one, &base, base_id)]);
    put_pack(&place, &[whole(&place, BlobKind::Chunk, &base)]);
    put_pack(&place, &[delta_of(&place, &other, &base, base_id)]);
    let reader = BlobReader::new(place.reopened());
    for bytes in [one, other, base] {
        let found = reader.blob(BlobKind::Chunk, chunk_id(&place, &bytes)).unwrap();
        assert!(*found == bytes[..]);
    }
}

/// What a delta says of its base is somebody's word. None of these is read, and the blob beside it
/// is.
#[test]
fn what_is_no_change_of_a_whole_blob_is_refused() {
    let place = Place::new();
    let [base, blob, other] = [1, 2, 3].map(version);
    let ids = [&base, &blob, &other].map(|bytes| chunk_id(&place, bytes));
    let [base_id, blob_id, other_id] = ids;
    let lonely = chunk_id(&place, b"of which there is no more");
    // Only a page of a tree holds these bytes.
    let page = whole(&place, BlobKind::Tree, &base);
    let page_id = page.id;
    let no_change = "which no pack holds whole";
    let cases = [
        ("a base that is nowhere", lonely, vec![], no_change),
        ("itself", blob_id, vec![], no_change),
        ("a page", page_id, vec![page], no_change),
        ("a page's bytes", base_id, vec![whole(&place, BlobKind::Tree, &base)], no_change),
        ("a delta", base_id, vec![delta_of(&place, &base, &other, other_id)], no_change),
        ("a delta of itself", base_id, vec![delta_of(&place, &base, &blob, blob_id)], no_change),
        (
            "another base",
            other_id,
            vec![whole(&place, BlobKind::Chunk, &other)],
            "other content than its id says",
        ),
    ];
    for (case, told, others, why) in cases {
        let place = Place::new();
        for made in others {
            put_pack(&place, &[made]);
        }
        let beside = whole(&place, BlobKind::Chunk, b"beside it");
        let beside_id = beside.id;
        let pack = put_pack(&place, &[delta_of(&place, &blob, &base, told), beside]);
        let reader = BlobReader::new(place.reopened());
        let error = reader.blob(BlobKind::Chunk, blob_id).expect_err(case);
        assert!(error.is_damage(), "{case}");
        let source = std::error::Error::source(&error).expect(case).to_string();
        assert!(source.contains(why), "{case}: {source}");
        assert!(error.to_string().contains(&pack.pack.to_string()), "{case}: {error}");
        assert!(reader.blob(BlobKind::Chunk, beside_id).is_ok(), "{case}");
    }
}

#[test]
fn damage_of_a_base_is_named_as_such() {
    let place = Place::new();
    let [base, blob] = [1, 2].map(version);
    let base_pack = put_pack(&place, &[whole(&place, BlobKind::Chunk, &base)]);
    put_pack(&place, &[delta_of(&place, &blob, &base, chunk_id(&place, &base))]);
    let object = ObjectName::new(&name::pack(base_pack.session, base_pack.pack)).unwrap();
    let mut bytes = place.memory.objects()[&object].to_vec();
    bytes[1_000] ^= 1;
    place.memory.overwrite(&object, &bytes);
    let reader = BlobReader::new(place.reopened());
    let error = reader.blob(BlobKind::Chunk, chunk_id(&place, &blob)).unwrap_err();
    assert!(
        matches!(&error, RepoError::Damaged { object: found, .. } if *found == object.as_str())
    );

    // Another pack that holds it whole will do.
    put_pack(
        &place,
        &[whole(&place, BlobKind::Chunk, &base), whole(&place, BlobKind::Chunk, b"x")],
    );
    let reader = BlobReader::new(place.reopened());
    assert!(*reader.blob(BlobKind::Chunk, chunk_id(&place, &blob)).unwrap() == blob[..]);
}
