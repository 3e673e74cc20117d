//! Every decoder as one function of bytes that anybody may have written: it must not panic, and
//! what it accepts must be what it encodes.
//!
//! Used by `tests/fuzz_short.rs` and, by path, by the targets in `fuzz/`.

use lastgood_format::chunker::ChunkerParams;
use lastgood_format::config::Config;
use lastgood_format::delta;
use lastgood_format::gc::{Lost, ReadSession, Relocation, Retired, RoundList};
use lastgood_format::group::{FrameSize, GroupDecompressor, open_frames};
use lastgood_format::guard::{Redundancy, content, guard};
use lastgood_format::hints::HintsCodec;
use lastgood_format::id::{PackId, RepositoryId, SessionId, SnapshotId};
use lastgood_format::index::IndexSegment;
use lastgood_format::key::{Class, ClassSecret, RepositoryKeys, Role, Secret, Signer};
use lastgood_format::links::LinksCodec;
use lastgood_format::log::LogRecord;
use lastgood_format::object::{ObjectKind, SealedUnder, open, seal, sign, verify};
use lastgood_format::pack::{
    Directory, FOOTER_BYTES, PackFooter, PackHeader, mend, open_end, verify_bytes,
};
use lastgood_format::packset::PackSetCodec;
use lastgood_format::page::{self, LeafCodec};
use lastgood_format::recipe::RecipeCodec;
use lastgood_format::revision::History;
use lastgood_format::session::{Outcome, Session};
use lastgood_format::slot::{KeySlot, parse_recovery_code, recovery_code};
use lastgood_format::snapshot::Snapshot;
use lastgood_format::tree::TreeCodec;

/// Decodes bytes and checks what comes out; tells whether anything did.
pub type Check = fn(&World, &[u8]) -> bool;

/// Every decoder by the name that test vectors and fuzz targets know it by.
pub const DECODERS: &[(&str, Check)] = &[
    ("config", config),
    ("revision", revision),
    ("slot", slot),
    ("recovery_code", recovery),
    ("session", session),
    ("outcome", outcome),
    ("retired", retired),
    ("condemn", condemn),
    ("verdict", verdict),
    ("relocation", relocation),
    ("read_session", read_session),
    ("lost", lost),
    ("log", log),
    ("log_record", log_record),
    ("signed_object", signed_object),
    ("sealed_object", sealed_object),
    ("snapshot", snapshot),
    ("snapshot_record", snapshot_record),
    ("index", index),
    ("index_body", index_body),
    ("guarded", guarded),
    ("pack", pack),
    ("pack_header", pack_header),
    ("pack_footer", pack_footer),
    ("pack_directory", pack_directory),
    ("pack_end", pack_end),
    ("delta", delta_of_base),
    ("tree_page", page_of::<TreeCodec>),
    ("recipe_page", page_of::<RecipeCodec>),
    ("hints_page", page_of::<HintsCodec>),
    ("links_page", page_of::<LinksCodec>),
    ("pack_set_page", page_of::<PackSetCodec>),
];

/// Runs the decoder called `name`; keeps the keys, which cost more than most decoders.
#[allow(dead_code, reason = "for the fuzz targets")]
pub fn run(name: &str, bytes: &[u8]) {
    static WORLD: std::sync::LazyLock<World> = std::sync::LazyLock::new(World::new);
    let (_, check) = DECODERS.iter().find(|(known, _)| *known == name).expect("a known decoder");
    check(&WORLD, bytes);
}

/// The keys of the vectors. What is signed or sealed is also tried with its seal made good, as a
/// writer who holds the keys could have done.
pub struct World {
    keys: RepositoryKeys,
    writer: Signer,
    maintenance: Signer,
    meta: ClassSecret,
}

const SESSION: SessionId = SessionId::new(*b"sixteen byte ids");

impl World {
    pub fn new() -> Self {
        let repository = RepositoryId::new(*b"this repository!");
        let keys = RepositoryKeys::new(Secret::new([7; 32]), repository);
        Self {
            writer: keys.writer(b"the writer's own"),
            maintenance: keys.maintenance(),
            meta: ClassSecret::create(&keys, Class::Meta, SESSION, Secret::new([2; 32])),
            keys,
        }
    }

    /// `bytes` as they are and, when they are an envelope, its body in an envelope made good.
    fn signed(
        &self,
        kind: ObjectKind,
        role: Role,
        bytes: &[u8],
        check: &dyn Fn(&[u8]) -> bool,
    ) -> bool {
        let signer = if role == Role::Writer { &self.writer } else { &self.maintenance };
        // The body of an envelope lies between its 28 bytes of header and 161 of certificate and
        // signature; bytes too short for that are taken as a body.
        let inner = bytes.len().checked_sub(161).and_then(|end| bytes.get(28..end));
        let body = inner.unwrap_or(bytes);
        let signed = sign(kind, self.keys.repository(), signer, body);
        check(bytes) | check(&signed)
    }
}

fn same(what: &str, again: &[u8], bytes: &[u8]) -> bool {
    assert!(again == bytes, "{what} has two forms:\n{bytes:02x?}\n{again:02x?}");
    true
}

fn config(world: &World, bytes: &[u8]) -> bool {
    Config::decode(bytes).is_ok_and(|config| {
        // Fields of a later release are ignored, so the bytes may be longer, never different.
        let again = config.encode(&world.keys);
        assert_eq!(
            Config::decode(&again).ok(),
            Some(config).filter(|c| c.root == world.keys.root_signer().public())
        );
        true
    })
}

/// A revision as it is, and with its signatures made good, by a root that stays or gives way.
fn revision(world: &World, bytes: &[u8]) -> bool {
    let repository = world.keys.repository();
    let config = Config {
        repository,
        root: world.keys.root_signer().public(),
        created: 1_795_000_000,
        required: Vec::new(),
        read_compatible: Vec::new(),
        optional: Vec::new(),
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
    };
    let later = RepositoryKeys::new(Secret::new([8; 32]), repository);
    let record = bytes.len().checked_sub(128).and_then(|end| bytes.get(8..end));
    let signed = [b"lgrevn\x01\n", record.unwrap_or(bytes)].concat();
    let good = [&world.keys, &later].map(|now| {
        let sign = |keys: &RepositoryKeys| {
            keys.root_signer().sign("config revision", &[repository.as_bytes(), &signed])
        };
        [&signed[..], &sign(&world.keys), &sign(now)].concat()
    });
    let add = |bytes: &[u8]| {
        let mut history = History::new(config.clone());
        let is_taken = history.add(2, bytes) == Ok(true);
        is_taken.then(|| history.revisions()[0].clone())
    };
    let check = |bytes: &[u8]| {
        add(bytes).is_some_and(|revision| {
            let now = [&world.keys, &later].into_iter();
            let mut now = now.filter(|keys| keys.root_signer().public() == revision.root);
            let now = now.next().expect("a root that signed").root();
            let again = revision.encode(repository, world.keys.root(), now);
            assert_eq!(add(&again), Some(revision));
            true
        })
    };
    check(bytes) | check(&good[0]) | check(&good[1])
}

fn slot(world: &World, bytes: &[u8]) -> bool {
    KeySlot::decode(bytes).is_ok_and(|slot| {
        let signed = slot.verify(world.keys.repository(), &world.keys.root_signer().public());
        assert!(signed.is_ok() || signed.is_err());
        same("slot", &slot.encode(), bytes)
    })
}

fn recovery(_: &World, bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| {
        parse_recovery_code(text).is_ok_and(|root| {
            assert_eq!(parse_recovery_code(&recovery_code(&root)), Ok(root));
            true
        })
    })
}

fn session(world: &World, bytes: &[u8]) -> bool {
    world.signed(ObjectKind::Session, Role::Writer, bytes, &|bytes| {
        Session::decode(world.keys.verifier(), SESSION, bytes).is_ok_and(|session| {
            let again = session.encode(&world.keys, &world.writer);
            assert_eq!(Session::decode(world.keys.verifier(), SESSION, &again), Ok(session));
            true
        })
    })
}

fn outcome(world: &World, bytes: &[u8]) -> bool {
    let check = |bytes: &[u8]| {
        Outcome::decode(world.keys.verifier(), SESSION, bytes).is_ok_and(|outcome| {
            let signer = match outcome {
                Outcome::Commit(_) => &world.writer,
                Outcome::Fenced => &world.maintenance,
            };
            same("outcome", &outcome.encode(&world.keys, signer, SESSION), bytes)
        })
    };
    world.signed(ObjectKind::Outcome, Role::Writer, bytes, &check)
        | world.signed(ObjectKind::Outcome, Role::Maintenance, bytes, &check)
}

fn retired(world: &World, bytes: &[u8]) -> bool {
    world.signed(ObjectKind::Retired, Role::Maintenance, bytes, &|bytes| {
        Retired::decode(world.keys.verifier(), bytes).is_ok_and(|retired| {
            let again = retired.encode(&world.keys, &world.maintenance);
            assert_eq!(Retired::decode(world.keys.verifier(), &again), Ok(retired));
            true
        })
    })
}

fn condemn(world: &World, bytes: &[u8]) -> bool {
    round_list(world, ObjectKind::Condemn, bytes)
}

fn verdict(world: &World, bytes: &[u8]) -> bool {
    round_list(world, ObjectKind::Verdict, bytes)
}

fn round_list(world: &World, kind: ObjectKind, bytes: &[u8]) -> bool {
    world.signed(kind, Role::Maintenance, bytes, &|bytes| {
        RoundList::decode(kind, world.keys.verifier(), 9, bytes).is_ok_and(|list| {
            let again = list.encode(kind, &world.keys, &world.maintenance);
            assert_eq!(RoundList::decode(kind, world.keys.verifier(), 9, &again), Ok(list));
            true
        })
    })
}

fn relocation(world: &World, bytes: &[u8]) -> bool {
    world.signed(ObjectKind::Relocation, Role::Maintenance, bytes, &|bytes| {
        Relocation::decode(world.keys.verifier(), bytes).is_ok_and(|relocation| {
            let again = relocation.encode(&world.keys, &world.maintenance);
            assert_eq!(Relocation::decode(world.keys.verifier(), &again), Ok(relocation));
            true
        })
    })
}

fn read_session(world: &World, bytes: &[u8]) -> bool {
    world.signed(ObjectKind::ReadSession, Role::Writer, bytes, &|bytes| {
        ReadSession::decode(world.keys.verifier(), SESSION, bytes).is_ok_and(|session| {
            let again = session.encode(&world.keys, &world.writer);
            assert_eq!(ReadSession::decode(world.keys.verifier(), SESSION, &again), Ok(session));
            true
        })
    })
}

fn lost(world: &World, bytes: &[u8]) -> bool {
    let verifier = world.keys.verifier();
    // Found under whatever name it says.
    let named = |bytes: &[u8]| {
        let (body, _) = verify(ObjectKind::Lost, verifier, Role::Maintenance, bytes).ok()?;
        Some(SnapshotId::new(*body.get(2..)?.first_chunk()?))
    };
    world.signed(ObjectKind::Lost, Role::Maintenance, bytes, &|bytes| {
        let Some(id) = named(bytes) else { return false };
        Lost::decode(verifier, id, bytes).is_ok_and(|lost| {
            let again = lost.encode(&world.keys, &world.maintenance);
            assert_eq!(Lost::decode(verifier, id, &again), Ok(lost));
            true
        })
    })
}

fn log(world: &World, bytes: &[u8]) -> bool {
    let writer = world.writer.writer_id();
    LogRecord::decode(&world.keys, writer, 2, bytes).is_ok_and(|record| {
        let again = record.encode(&world.keys, &world.writer, &world.meta, &[1; 32]);
        assert_eq!(LogRecord::decode(&world.keys, writer, 2, &again), Ok(record));
        true
    })
}

fn log_record(_: &World, bytes: &[u8]) -> bool {
    LogRecord::decode_record(bytes).is_ok_and(|record| {
        assert_eq!(LogRecord::decode_record(&record.encode_record()), Ok(record));
        true
    })
}

fn signed_object(world: &World, bytes: &[u8]) -> bool {
    let kind = ObjectKind::Session;
    verify(kind, world.keys.verifier(), Role::Writer, bytes).is_ok_and(|(body, _)| {
        same("envelope", &sign(kind, world.keys.repository(), &world.writer, body), bytes)
    })
}

fn sealed_object(world: &World, bytes: &[u8]) -> bool {
    [ObjectKind::Snapshot, ObjectKind::Index]
        .into_iter()
        .any(|kind| open(kind, &world.keys, 1 << 20, bytes).is_ok())
}

fn snapshot(world: &World, bytes: &[u8]) -> bool {
    // As it is, and as the body of an envelope whose seal is good.
    let kind = ObjectKind::Snapshot;
    let under = SealedUnder::Session(&world.meta);
    let sealed = seal(kind, world.keys.repository(), under, &[0; 32], bytes);
    Snapshot::decode(&world.keys, bytes).is_ok() | Snapshot::decode(&world.keys, &sealed).is_ok()
}

fn snapshot_record(_: &World, bytes: &[u8]) -> bool {
    Snapshot::decode_record(bytes).is_ok_and(|snapshot| {
        let again = snapshot.encode_record();
        assert_eq!(Snapshot::decode_record(&again), Ok(snapshot));
        true
    })
}

fn index(world: &World, bytes: &[u8]) -> bool {
    let under = SealedUnder::Index(world.keys.index(), SESSION);
    let sealed = seal(ObjectKind::Index, world.keys.repository(), under, &[0; 32], bytes);
    IndexSegment::decode(&world.keys, bytes).is_ok()
        | IndexSegment::decode(&world.keys, &sealed).is_ok()
}

fn index_body(world: &World, bytes: &[u8]) -> bool {
    IndexSegment::decode_body(bytes).is_ok_and(|segment| {
        let sealed = segment.encode(&world.keys, SESSION, &[0; 32]);
        let limit = bytes.len();
        same("segment", &open(ObjectKind::Index, &world.keys, limit, &sealed).unwrap(), bytes)
    })
}

/// What is mended is what is stored for its content.
fn guarded(_: &World, bytes: &[u8]) -> bool {
    content(bytes, bytes.len() as u64, &|_| true).is_ok_and(|found| {
        assert!(found.content.len() <= bytes.len(), "content out of nothing");
        let again = guard(&found.content, Redundancy::Full);
        let limit = found.content.len() as u64;
        let found_again = content(&again, limit, &|_| true).expect("what was stored is read");
        same("guarded object", &found_again.content, &found.content)
    })
}

/// Whatever the bytes are, nothing but a pack of the name that is asked for is returned.
fn mend_pack(bytes: &[u8]) {
    let partly = mend(bytes, PackId::new([0; 32])).expect_err("no pack has this name");
    if let Ok(id) = verify_bytes(&partly.bytes) {
        let mended = mend(bytes, id).expect("the same pack by its name");
        assert!(mended.bytes == partly.bytes, "two packs of one name");
    }
}

/// A whole pack, read as `check` does and then as a restore does.
fn pack(world: &World, bytes: &[u8]) -> bool {
    let verified = verify_bytes(bytes).is_ok();
    mend_pack(bytes);
    let Some((_, footer)) = bytes.split_last_chunk::<FOOTER_BYTES>() else {
        return verified;
    };
    let Ok(footer) = PackFooter::decode(footer) else {
        return verified;
    };
    let start = bytes.len().saturating_sub(footer.end_bytes as usize);
    let Ok(opened) = open_end(&world.keys, &mut bytes[start..].to_vec()) else {
        return verified;
    };
    for group in &opened.directory.groups {
        let range = opened.header.group_range(group);
        let Some(frames) = bytes.get(range.start as usize..range.end as usize) else {
            continue;
        };
        let (size, stored) = (opened.header.frame_size, group.stored_bytes as usize);
        let (mut payload, mut raw) = (Vec::new(), Vec::new());
        let frames = &mut frames.to_vec();
        if open_frames(&opened.secret, group.salt, size, frames, stored, &mut payload).is_ok() {
            GroupDecompressor::default()
                .decompress(group.compression, &mut payload, group.raw_bytes as usize, &mut raw)
                .unwrap();
        }
    }
    verified
}

/// With its checksum as it is, and made good.
fn pack_header(_: &World, bytes: &[u8]) -> bool {
    let check = |bytes: &[u8]| {
        PackHeader::decode(bytes).is_ok_and(|header| {
            let again = header.encode();
            same("pack header", &again, &bytes[..again.len()])
        })
    };
    let mended = bytes.len().checked_sub(8).map(|end| {
        let covered = &bytes[..end];
        let checksum = twox_hash::XxHash3_64::oneshot(covered).to_le_bytes();
        [covered, &checksum].concat()
    });
    check(bytes) | mended.is_some_and(|bytes| check(&bytes))
}

fn pack_footer(_: &World, bytes: &[u8]) -> bool {
    let Some(bytes) = bytes.last_chunk::<FOOTER_BYTES>() else {
        return false;
    };
    let check = |bytes: &[u8; FOOTER_BYTES]| {
        PackFooter::decode(bytes).is_ok_and(|footer| same("pack footer", &footer.encode(), bytes))
    };
    let mut mended = *bytes;
    let checksum = twox_hash::XxHash3_64::oneshot(&bytes[..16]).to_le_bytes();
    mended[16..24].copy_from_slice(&checksum);
    check(bytes) | check(&mended)
}

fn pack_directory(_: &World, bytes: &[u8]) -> bool {
    Class::ALL.into_iter().any(|class| {
        Directory::decode(bytes, class, FrameSize::SMALLEST)
            .is_ok_and(|directory| same("directory", &directory.encode(), bytes))
    })
}

fn pack_end(world: &World, bytes: &[u8]) -> bool {
    open_end(&world.keys, &mut bytes.to_vec()).is_ok()
}

/// The base is that of the vectors.
fn delta_of_base(_: &World, bytes: &[u8]) -> bool {
    let base: Vec<u8> = (0..4096_u32).map(|n| ((n * n) >> 7) as u8).collect();
    // What it is a change of, its id tells; here it is only bounded.
    delta::resolve(bytes, &base).is_ok_and(|blob| {
        let again = delta::encode(&blob, &base, 2 * blob.len() + 64).expect("there is room");
        delta::resolve(&again, &base).as_ref() == Ok(&blob)
    })
}

fn page_of<C: LeafCodec>(_: &World, bytes: &[u8]) -> bool {
    page::decode::<C>(bytes, None)
        .is_ok_and(|(level, page)| same("page", &page::encode::<C>(level, &page), bytes))
}
