//! The test vectors of `docs/format/vectors`: a file for each chapter, its bytes made here and
//! compared with what is stored. `LASTGOOD_BLESS=1` stores them anew.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::chunker::ChunkerParams;
use crate::config::Config;
use crate::delta;
use crate::encoding::{RecordWriter, Write as _};
use crate::entry::{Content, DeviceNumber, Entry, Hint, Marks, Node, Timestamp, Xattr};
use crate::gc::{ChainLink, Lost, PackLocation, ReadSession, Relocation, Retired, RoundList};
use crate::group::{Compression, FrameSize, GroupSalt, open_frames, seal_frames};
use crate::guard::{Redundancy, content as content_of, guard};
use crate::hints::{HintItem, HintsCodec};
use crate::id::{BlobId, ObjectId, PackId, SessionId, SnapshotId, WriterId};
use crate::index::{IndexEntry, IndexSegment};
use crate::key::{Class, ClassSecret, Inventory, RepositoryKeys, Role, Secret, Signer};
use crate::limits::BLOB_BYTES_MAX;
use crate::links::{Link, LinksCodec};
use crate::log::{Ending, LogRecord};
use crate::object::{ObjectKind, SealedUnder, open, seal, sign, verify};
use crate::pack::{BlobKind, GroupPayload, PackBuilder, PackedBlob, open_end, verify_bytes};
use crate::packset::{PackRef, PackSetCodec};
use crate::page::{self, Child, LeafCodec, Page};
use crate::parity::{ParityShare, Stripes};
use crate::recipe::{Part, RecipeCodec};
use crate::revision::{History, ROTATED_ROOTS, Revision};
use crate::samples::{OTHER_SESSION, SESSION, WRITER, keys, other_keys, secret};
use crate::session::{Outcome, Session};
use crate::slot::{Credential, KeySlot, WorkFactors, parse_recovery_code, recovery_code};
use crate::snapshot::{Chain, Head, OwnerNames, Snapshot, SnapshotFlags, Totals};
use crate::tree::TreeCodec;

/// The vectors of one chapter, as text: `[case]`, then `field = value`.
struct Chapter {
    name: &'static str,
    text: String,
}

impl Chapter {
    fn new(name: &'static str) -> Self {
        let text = format!(
            "# Test vectors of docs/format/{name}.md.\n\
             # Bytes are lowercase hex, texts are in quotes, numbers are decimal.\n\
             # A case with a field `fails` must be refused, for that reason alone.\n\
             # Written by: LASTGOOD_BLESS=1 cargo test -p lastgood-format vectors\n"
        );
        Self { name, text }
    }

    fn case(&mut self, name: &str) -> &mut Self {
        writeln!(self.text, "\n[{name}]").unwrap();
        self
    }

    fn hex(&mut self, field: &str, bytes: impl AsRef<[u8]>) -> &mut Self {
        write!(self.text, "{field} = ").unwrap();
        bytes.as_ref().iter().for_each(|byte| write!(self.text, "{byte:02x}").unwrap());
        self.text.push('\n');
        self
    }

    fn number(&mut self, field: &str, number: impl std::fmt::Display) -> &mut Self {
        writeln!(self.text, "{field} = {number}").unwrap();
        self
    }

    fn text(&mut self, field: &str, text: &str) -> &mut Self {
        writeln!(self.text, "{field} = {text:?}").unwrap();
        self
    }

    /// A stored thing with the decoder that takes it.
    fn stored(&mut self, name: &str, decoder: &str, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.case(name).text("decoder", decoder).hex("bytes", bytes)
    }

    /// A stored thing that must be refused.
    fn refused<T: std::fmt::Debug, E: std::error::Error>(
        &mut self,
        name: &str,
        decoder: &str,
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, E>,
    ) {
        let error = decode(bytes).expect_err(name);
        self.stored(name, decoder, bytes).text("fails", &error.to_string());
    }

    fn check(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/vectors");
        let path = Path::new(folder).join(self.name).with_extension("txt");
        if std::env::var_os("LASTGOOD_BLESS").is_some() {
            std::fs::write(&path, &self.text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap();
        let line = stored.lines().zip(self.text.lines()).position(|(stored, made)| stored != made);
        assert!(
            stored == self.text,
            "the bytes of the format have changed: docs/format/vectors/{}.txt, line {:?}",
            self.name,
            line.map(|line| line + 1),
        );
    }
}

/// `bytes` with one bit of the byte at `at` changed; negative positions count from the end.
fn flip(bytes: &[u8], at: isize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = if at < 0 { bytes.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    bytes[at] ^= 1;
    bytes
}

#[test]
fn vectors_of_layout() {
    let mut chapter = Chapter::new("layout");
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        bytes.varint(value);
        chapter.case(&format!("varint-{value}")).number("value", value).hex("bytes", bytes);
    }
    for value in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
        let mut bytes = Vec::new();
        bytes.zigzag(value);
        chapter.case(&format!("zigzag-{value}")).number("value", value).hex("bytes", bytes);
    }
    let mut record = RecordWriter::default();
    record.integer(1, 300).field(7, b"seven");
    chapter.case("record").text("fields", "1: 300, 7: seven").hex("bytes", record.finish());

    let (keys, other) = (keys(), other_keys());
    let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
    let (kind, repository) = (ObjectKind::Session, keys.repository());
    let signed = sign(kind, repository, &writer, b"a body");
    chapter
        .stored("signed", "signed_object", &signed)
        .hex("root", keys.root().expose())
        .hex("repository", repository.as_bytes())
        .hex("writer-name", WRITER)
        .number("kind", kind as u8)
        .text("body", "a body");
    let mut refused = |name: &str, bytes: &[u8]| {
        chapter.refused(name, "signed_object", bytes, |bytes| {
            verify(kind, keys.verifier(), Role::Writer, bytes).map(|(body, _)| body.to_vec())
        });
    };
    refused("signed-magic", &flip(&signed, 0));
    let mut later = signed.clone();
    later[6] = 2;
    refused("signed-version", &later);
    refused("signed-other-kind", &sign(ObjectKind::Outcome, repository, &writer, b"a body"));
    refused("signed-other-repository", &sign(kind, other.repository(), &writer, b"a body"));
    refused("signed-other-role", &sign(kind, repository, &maintenance, b"a body"));
    refused("signed-other-root", &sign(kind, repository, &other.writer(&WRITER), b"a body"));
    refused("signed-body-changed", &flip(&signed, 28));
    refused("signed-certificate-changed", &flip(&signed, -65));
    refused("signed-signature-changed", &flip(&signed, -1));
    refused("signed-cut-short", &signed[..signed.len() - 1]);
    refused("signed-too-long", &[&signed[..], &[0]].concat());

    let meta = secret(Class::Meta);
    let (under, random) = (SealedUnder::Session(&meta), [0x11; 32]);
    let kind = ObjectKind::Snapshot;
    let sealed = seal(kind, repository, under, &random, b"a body");
    chapter
        .stored("sealed", "sealed_object", &sealed)
        .hex("session", SESSION.as_bytes())
        .hex("session-secret", meta.secret.expose())
        .number("class", Class::Meta as u8)
        .hex("random", random)
        .number("kind", kind as u8)
        .text("body", "a body");
    let index_secret = SealedUnder::Index(keys.index(), SESSION);
    let repeated = b"again and ".repeat(20);
    chapter
        .stored(
            "sealed-index-compressed",
            "sealed_object",
            seal(ObjectKind::Index, repository, index_secret, &random, &repeated),
        )
        .hex("session", SESSION.as_bytes())
        .hex("random", random)
        .number("kind", ObjectKind::Index as u8)
        .hex("body", &repeated);
    let mut refused = |name: &str, bytes: &[u8]| {
        chapter.refused(name, "sealed_object", bytes, |bytes| open(kind, &keys, 1 << 20, bytes));
    };
    refused("sealed-other-kind", &seal(ObjectKind::Index, repository, under, &random, b"a body"));
    refused("sealed-other-repository", &seal(kind, other.repository(), under, &random, b"a body"));
    let data = secret(Class::Data);
    let wrong = SealedUnder::Session(&data);
    refused("sealed-other-class", &seal(kind, repository, wrong, &random, b"a body"));
    refused("sealed-session-changed", &flip(&sealed, 26));
    refused("sealed-commitment-changed", &flip(&sealed, 42));
    refused("sealed-wrapped-changed", &flip(&sealed, 80));
    refused("sealed-body-changed", &flip(&sealed, -17));
    refused("sealed-tag-changed", &flip(&sealed, -1));
    chapter.check();
}

#[test]
fn vectors_of_config() {
    let mut chapter = Chapter::new("config");
    let keys = keys();
    let config = Config {
        repository: keys.repository(),
        root: keys.root_signer().public(),
        created: 1_795_000_000,
        required: Vec::new(),
        read_compatible: vec!["a".into()],
        optional: vec!["b".into(), "c".into()],
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
    };
    let bytes = config.encode(&keys);
    chapter
        .stored("config", "config", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", config.repository.as_bytes())
        .hex("root-public", config.root.0)
        .number("created", config.created)
        .text("read-compatible", "a")
        .text("optional", "b, c")
        .text("chunker", "fixed 65536");
    let required = vec!["time-travel".into()];
    let future = Config { required, ..config.clone() }.encode(&keys);
    let mut refused =
        |name: &str, bytes: &[u8]| chapter.refused(name, "config", bytes, Config::decode);
    refused("required-feature", &future);
    let mut later = bytes.clone();
    later[6] = 2;
    refused("version", &later);
    refused("magic", &flip(&bytes, 0));
    refused("magic-end", &flip(&bytes, 7));
    refused("created-changed", &flip(&bytes, -73));
    refused("signature-changed", &flip(&bytes, -1));
    refused("cut-short", &bytes[..bytes.len() - 1]);
    refused("other-root", &config.encode(&other_keys()));

    let (repository, before, now) = (config.repository, keys.root(), Secret::new([8; 32]));
    let mut history = History::new(config);
    let mut rotation = Revision::new(&history, 1_795_000_001);
    rotation.required.push(ROTATED_ROOTS.to_owned());
    rotation.rotate(repository, before, &now);
    let bytes = rotation.encode(repository, before, &now);
    chapter
        .stored("revision", "revision", &bytes)
        .number("number", 2)
        .hex("root", now.expose())
        .hex("root-public", rotation.root.0)
        .hex("previous-root", before.expose())
        .text("required", ROTATED_ROOTS);
    let decode = |bytes: &[u8]| match history.clone().add(2, bytes) {
        Ok(false) => {
            Err(crate::encoding::DecodeError::invalid("revision", "no root signed it as that")
                .into())
        }
        taken => taken,
    };
    let silent = Revision { required: Vec::new(), ..rotation.clone() };
    let unsealed = Revision { previous_root: None, ..rotation.clone() };
    let later = Revision { number: 3, ..rotation.clone() };
    let required = vec![ROTATED_ROOTS.to_owned(), "time-travel".into()];
    let unknown = Revision { required, ..rotation.clone() };
    for (name, bytes) in [
        ("revision-not-required", silent.encode(repository, before, &now)),
        ("revision-root-not-sealed", unsealed.encode(repository, before, &now)),
        ("revision-of-another-number", later.encode(repository, before, &now)),
        ("revision-required-feature", unknown.encode(repository, before, &now)),
        ("revision-by-another-root", rotation.encode(repository, &Secret::new([9; 32]), &now)),
        ("revision-by-the-old-root-alone", rotation.encode(repository, before, before)),
        ("revision-magic", flip(&bytes, 0)),
        ("revision-cut-short", bytes[..bytes.len() - 1].to_vec()),
    ] {
        chapter.refused(name, "revision", &bytes, decode);
    }
    history.add(2, &bytes).unwrap();
    history.pass_over(3);
    let there = Inventory {
        live: [SnapshotId::new([1; 32]), SnapshotId::new([2; 32])].into(),
        retired: [SnapshotId::new([3; 32])].into(),
        lost: [SnapshotId::new([4; 32])].into(),
        relocations: [ObjectId::new([5; 32])].into(),
        segments: [ObjectId::new([6; 32])].into(),
        log: [(keys.writer(&WRITER).writer_id(), 7)].into(),
        round: 4,
    };
    let mut closing = Revision::new(&history, 1_795_000_002);
    closing.closed = Some(Arc::new(there));
    let bytes = closing.encode(repository, &now, &now);
    assert_eq!(history.add(4, &bytes), Ok(true));
    chapter
        .stored("revision-closing", "revision", &bytes)
        .number("number", 4)
        .number("before", 2)
        .hex("live", [[1; 32], [2; 32]].concat())
        .hex("retired", [3; 32])
        .hex("lost", [4; 32])
        .hex("relocations", [5; 32])
        .hex("segments", [6; 32])
        .hex("writer", keys.writer(&WRITER).writer_id().as_bytes())
        .number("log", 7)
        .number("round", 4);
    chapter.check();
}

#[test]
fn vectors_of_keys() {
    let mut chapter = Chapter::new("keys");
    let keys = keys();
    let repository = keys.repository();
    let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
    chapter
        .case("repository-keys")
        .hex("root", keys.root().expose())
        .hex("repository", repository.as_bytes())
        .hex("root-public", keys.root_signer().public().0)
        .hex("index-secret", keys.index().expose())
        .hex("index-commitment", keys.index().commitment())
        .hex("cut-secret", keys.cut().expose())
        .hex("writer-name", WRITER)
        .hex("writer-public", writer.certificate().public.0)
        .hex("writer-id", writer.writer_id().as_bytes())
        .hex("maintenance-public", maintenance.certificate().public.0);
    for (name, signer) in
        [("writer-certificate", &writer), ("maintenance-certificate", &maintenance)]
    {
        let mut bytes = Vec::new();
        signer.certificate().encode(&mut bytes);
        chapter.hex(name, bytes);
    }
    for kind in BlobKind::ALL {
        chapter
            .case(&format!("blob-id-{}", kind as u8))
            .number("kind", kind as u8)
            .text("plaintext", "a blob")
            .hex("id", keys.blob_id(kind, b"a blob").as_bytes());
    }
    for class in Class::ALL {
        let secret = Secret::new([class as u8; 32]);
        let wrapped = keys.wrap(class, SESSION, &secret);
        chapter
            .case(&format!("wrapped-{}", class as u8))
            .number("class", class as u8)
            .hex("session", SESSION.as_bytes())
            .hex("secret", secret.expose())
            .hex("commitment", secret.commitment())
            .hex("wrapped", &wrapped);
    }
    let wrapped = keys.wrap(Class::Data, SESSION, &Secret::new([1; 32]));
    let mut refused =
        |name: &str, keys: &RepositoryKeys, class, session: SessionId, wrapped: &[u8]| {
            let error = keys.unwrap(class, session, wrapped).unwrap_err();
            chapter
                .case(name)
                .number("class", class as u8)
                .hex("session", session.as_bytes())
                .hex("repository", keys.repository().as_bytes())
                .hex("wrapped", wrapped)
                .text("fails", &error.to_string());
        };
    refused("wrapped-other-class", &keys, Class::Meta, SESSION, &wrapped);
    refused("wrapped-other-session", &keys, Class::Data, OTHER_SESSION, &wrapped);
    refused("wrapped-other-repository", &other_keys(), Class::Data, SESSION, &wrapped);
    refused("wrapped-other-method", &keys, Class::Data, SESSION, &flip(&wrapped, 0));
    refused("wrapped-changed", &keys, Class::Data, SESSION, &flip(&wrapped, 20));

    slots(&mut chapter, &keys);
    let code = recovery_code(keys.root());
    chapter.case("recovery-code").hex("root", keys.root().expose()).text("code", &code);
    for (name, wrong) in [
        ("recovery-code-digit", code.replacen(&code[7..8], "Z", 1)),
        ("recovery-code-short", code[..code.len() - 1].to_owned()),
        ("recovery-code-letter", code.replacen(&code[7..8], "U", 1)),
    ] {
        let error = parse_recovery_code(&wrong).unwrap_err();
        chapter.case(name).text("code", &wrong).text("fails", &error.to_string());
    }
    chapter.check();
}

fn slots(chapter: &mut Chapter, keys: &RepositoryKeys) {
    let repository = keys.repository();
    let root = keys.root_signer().public();
    let passphrase = Credential::Passphrase(b"correct horse".to_vec().into());
    let key_file = Credential::KeyFile(Secret::new([0x2a; 32]));
    let create = |credential| {
        let work = WorkFactors::FLOOR;
        KeySlot::create(repository, keys.root(), credential, work, 5, "laptop", [0x33; 32]).unwrap()
    };
    let by_passphrase = create(&passphrase).encode();
    chapter
        .stored("slot-passphrase", "slot", &by_passphrase)
        .hex("root", keys.root().expose())
        .hex("repository", repository.as_bytes())
        .text("passphrase", "correct horse")
        .number("memory-kib", WorkFactors::FLOOR.memory_kib)
        .number("passes", WorkFactors::FLOOR.passes)
        .number("lanes", WorkFactors::FLOOR.lanes)
        .number("created", 5)
        .text("label", "laptop")
        .hex("random", [0x33; 32]);
    let by_key_file = create(&key_file).encode();
    chapter
        .stored("slot-key-file", "slot", &by_key_file)
        .hex("key-file", [0x2a; 32])
        .number("created", 5)
        .text("label", "laptop")
        .hex("random", [0x33; 32]);
    let opens = |bytes: &[u8]| {
        let slot = KeySlot::decode(bytes)?;
        slot.verify(repository, &root)?;
        slot.open(repository, &key_file)
    };
    assert_eq!(opens(&by_key_file).as_ref(), Ok(keys.root()));
    let mut later = by_key_file.clone();
    later[6] = 2;
    chapter.refused("slot-version", "slot", &later, opens);
    chapter.refused("slot-signature-changed", "slot", &flip(&by_key_file, -1), opens);
    chapter.refused("slot-sealed-changed", "slot", &flip(&by_key_file, -67), opens);
    chapter.refused("slot-cut-short", "slot", &by_key_file[..by_key_file.len() - 1], opens);
    // Work factors: field 2, its length, then 65,536 in three bytes.
    let at = by_passphrase.windows(4).position(|window| window == [5, 0x80, 0x80, 4]).unwrap();
    let mut weak = by_passphrase.clone();
    weak[at + 1..at + 4].copy_from_slice(&[0xff, 0xff, 3]);
    chapter.refused("slot-below-floor", "slot", &weak, opens);
    let mut heavy = by_passphrase;
    heavy[at + 5] = 5;
    chapter.refused("slot-above-ceiling", "slot", &heavy, opens);
}

#[test]
fn vectors_of_pack() {
    let mut chapter = Chapter::new("pack");
    let keys = keys();
    let data = secret(Class::Data);
    let (salt, size) = (GroupSalt([0x44; 16]), FrameSize::SMALLEST);
    let payload: Vec<u8> = (0..500).map(|n: u32| n as u8).collect();
    let mut frames = vec![0; size.count(payload.len()) * size.stored()];
    seal_frames(&data, salt, size, &payload, &mut frames);
    chapter
        .case("frames")
        .hex("session-secret", data.secret.expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("session", SESSION.as_bytes())
        .number("class", Class::Data as u8)
        .hex("salt", salt.0)
        .number("frame-size", size.stored())
        .hex("payload", &payload)
        .hex("frames", &frames);
    let (first, second) = frames.split_at(512);
    let stranger = ClassSecret { session: OTHER_SESSION, ..data.clone() };
    let foreign = ClassSecret { repository: other_keys().repository(), ..data.clone() };
    let other_class = ClassSecret { class: Class::Meta, ..data.clone() };
    for (name, secret, frames) in [
        ("frames-swapped", &data, [second, first].concat()),
        ("frames-second-missing", &data, first.to_vec()),
        ("frames-byte-changed", &data, flip(&frames, 600)),
        ("frames-other-session", &stranger, frames.clone()),
        ("frames-other-repository", &foreign, frames.clone()),
        ("frames-other-class", &other_class, frames.clone()),
    ] {
        let bytes = &mut frames.clone();
        let error = open_frames(secret, salt, size, bytes, 500, &mut Vec::new()).unwrap_err();
        chapter
            .case(name)
            .number("class", secret.class as u8)
            .hex("session", secret.session.as_bytes())
            .hex("repository", secret.repository.as_bytes())
            .hex("frames", &frames)
            .text("fails", &error.to_string());
    }
    whole_pack(&mut chapter, &keys, &data);
    deltas(&mut chapter, &keys);
    chapter.check();
}

fn deltas(chapter: &mut Chapter, keys: &RepositoryKeys) {
    let base: Vec<u8> = (0..4096_u32).map(|n| ((n * n) >> 7) as u8).collect();
    let blob = [&base[..1000], b"a change", &base[1000..]].concat();
    let stored = delta::encode(&blob, &base, blob.len() / 8).unwrap();
    chapter
        .stored("delta", "delta", &stored)
        .hex("base", &base)
        .hex("blob-id", keys.blob_id(BlobKind::Chunk, &blob).as_bytes());
    // As one, it would need fields that are not there.
    let like_a_dictionary = [&0xec30_a437_u32.to_le_bytes(), &base[4..]].concat();
    let of_that = delta::encode(&blob, &like_a_dictionary, blob.len() / 8).unwrap();
    assert_eq!(delta::resolve(&of_that, &like_a_dictionary).as_ref(), Ok(&blob));
    chapter
        .case("delta-base-like-a-dictionary")
        .hex("bytes", of_that)
        .hex("base", &like_a_dictionary)
        .hex("blob-id", keys.blob_id(BlobKind::Chunk, &blob).as_bytes());
    let (_, frame) = stored.split_at(2);
    let of_length = |length: usize| {
        let mut delta = Vec::new();
        delta.varint(length as u64);
        [&delta, frame].concat()
    };
    let bomb = delta::encode(&vec![0; BLOB_BYTES_MAX], &base, 4096).unwrap();
    let with_dictionary_id = {
        // The frame header: magic, descriptor, then what that says. spec: RFC 8878, 3.1.1.1
        let mut frame = frame.to_vec();
        assert_eq!(frame[4] & 0b11, 0, "there is no dictionary id");
        frame[4] |= 1;
        frame.insert(5 + usize::from(frame[4] & 0x20 == 0), 7);
        [&stored[..2], &frame].concat()
    };
    for (name, wrong) in [
        ("delta-too-short", of_length(blob.len() + 1)),
        ("delta-too-long", of_length(blob.len() - 1)),
        ("delta-of-nothing", of_length(0)),
        ("delta-bomb", [&[1], &bomb[4..]].concat()),
        ("delta-longer-than-a-blob", of_length(BLOB_BYTES_MAX + 1)),
        ("delta-cut-short", stored[..stored.len() - 1].to_vec()),
        ("delta-two-frames", [&stored[..], frame].concat()),
        ("delta-bytes-follow", [&stored[..], &[0]].concat()),
        ("delta-of-a-dictionary", with_dictionary_id),
    ] {
        chapter.refused(name, "delta", &wrong, |bytes| delta::resolve(bytes, &base));
    }
    // It decompresses, to other bytes than those of its id.
    let mut other = base.clone();
    other[500] ^= 1;
    let resolved = delta::resolve(&stored, &other).unwrap();
    assert_ne!(keys.blob_id(BlobKind::Chunk, &resolved), keys.blob_id(BlobKind::Chunk, &blob));
    chapter
        .case("delta-other-base")
        .hex("bytes", &stored)
        .hex("base", &other)
        .hex("blob-id", keys.blob_id(BlobKind::Chunk, &blob).as_bytes())
        .text("fails", "the blob has another id");
}

fn whole_pack(chapter: &mut Chapter, keys: &RepositoryKeys, data: &ClassSecret) {
    let random = [0x55; 32];
    let mut builder = PackBuilder::new(data, FrameSize::SMALLEST, Box::new(Vec::new()));
    let base = keys.blob_id(BlobKind::Chunk, b"base");
    let groups: [&[(&[u8], Option<BlobId>)]; 2] =
        [&[(b"one chunk", None), (b"another", Some(base))], &[(&[b'z'; 300], None)]];
    for (counter, group) in groups.iter().enumerate() {
        let raw: Vec<u8> = group.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        let blobs: Vec<_> = group
            .iter()
            .map(|(bytes, base)| PackedBlob {
                id: keys.blob_id(BlobKind::Chunk, bytes),
                kind: BlobKind::Chunk,
                base: *base,
                bytes: bytes.len() as u32,
            })
            .collect();
        let mut compressor = crate::group::GroupCompressor::new(1);
        let (compression, payload) = compressor.compress(&raw);
        chapter
            .case(&format!("pack-group-{counter}"))
            .hex("plaintext", &raw)
            .text("compression", if compression == Compression::Zstd { "zstd" } else { "stored" })
            .hex("payload", payload);
        for blob in &blobs {
            chapter.hex("blob-id", blob.id.as_bytes()).number("blob-bytes", blob.bytes);
        }
        let raw_bytes = raw.len() as u32;
        let group = GroupPayload { payload, raw_bytes, compression, level: 1, blobs: &blobs };
        builder.add_group(data, &group, counter as u64, &random);
    }
    let pack = builder.finish(ParityShare::default(), data, 2, &random);
    let bytes = pack.bytes.to_vec();
    let (header, footer) = (&bytes[..pack.layout.header_bytes()], &bytes[bytes.len() - 32..]);
    chapter.stored("pack-directory", "pack_directory", pack.directory.encode());
    chapter.stored("pack-header", "pack_header", header);
    chapter.stored("pack-footer", "pack_footer", footer);
    let end = &bytes[pack.layout.directory_offset()..];
    chapter.stored("pack-end", "pack_end", end);
    chapter
        .stored("pack", "pack", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("pack-id", pack.id.as_bytes());
    let (from_end, parity) = (end.len() as isize, pack.layout.parity_offset() as isize);
    let mut later = bytes.clone();
    later[6] = 2;
    for (name, wrong) in [
        ("pack-version", later),
        ("pack-magic", flip(&bytes, 0)),
        ("pack-header-changed", flip(&bytes, 40)),
        ("pack-frame-changed", flip(&bytes, header.len() as isize + 600)),
        ("pack-middle-changed", flip(&bytes, parity - 200)),
        ("pack-parity-changed", flip(&bytes, parity + 3)),
        ("pack-directory-changed", flip(&bytes, -from_end)),
        ("pack-second-header-changed", flip(&bytes, -40)),
        ("pack-footer-changed", flip(&bytes, -32)),
        ("pack-cut-short", bytes[..bytes.len() - 1].to_vec()),
    ] {
        chapter.refused(name, "pack", &wrong, verify_bytes);
    }
    let keyed = |bytes: &[u8]| open_end(keys, &mut bytes.to_vec());
    chapter.refused("pack-end-directory-changed", "pack_end", &flip(end, 0), keyed);
    let foreign = other_keys();
    chapter.refused("pack-end-other-repository", "pack_end", end, |bytes| {
        open_end(&foreign, &mut bytes.to_vec())
    });
    chapter.hex("repository", foreign.repository().as_bytes());
}

#[test]
fn vectors_of_parity() {
    let mut chapter = Chapter::new("parity");
    for (data, count, parity, at) in [(3, 1, 2, 3), (5, 2, 3, 4), (64, 1, 2, 60)] {
        let stripes = Stripes { count, parity, first_parity: at };
        let mut shards = vec![[0; 32]; data + count * parity];
        for (index, byte) in shards.as_flattened_mut().iter_mut().enumerate() {
            *byte = (index * index / 7) as u8;
        }
        let mut parts: Vec<&mut [u8]> = shards.iter_mut().map(|shard| &mut shard[..]).collect();
        stripes.protect(&mut parts);
        chapter
            .case(&format!("stripes-{data}-{count}-{parity}"))
            .number("stripes", count)
            .number("parity-shards-of-a-stripe", parity)
            .number("first-parity-shard", at);
        for shard in shards {
            chapter.hex("shard", shard);
        }
    }
    for (length, redundancy) in [(5, Redundancy::Full), (481, Redundancy::Light)] {
        let content: Vec<u8> = (0..length).map(|n: u32| n as u8).collect();
        let bytes = guard(&content, redundancy);
        let name = format!("guarded-{length}-{redundancy:?}").to_lowercase();
        chapter.stored(&name, "guarded", &bytes).hex("content", &content);
        let mut mendable = bytes.clone();
        mendable[..4096].fill(0);
        chapter
            .stored(&format!("{name}-without-a-sector"), "guarded", &mendable)
            .hex("content", &content);
        let mut lost = bytes.clone();
        lost[512..].fill(0);
        lost[0] ^= 1;
        chapter.refused(&format!("{name}-lost"), "guarded", &lost, |bytes| {
            content_of(bytes, 1 << 16, &|_| true)
        });
    }
    chapter.check();
}

#[test]
fn vectors_of_commit() {
    let mut chapter = Chapter::new("commit");
    let keys = keys();
    let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
    let (snapshot, other_snapshot) = (SnapshotId::new([1; 32]), SnapshotId::new([2; 32]));
    let pack = |byte| PackLocation { session: SESSION, pack: PackId::new([byte; 32]) };

    let session =
        Session { id: SESSION, round: 3, started: 1_795_000_000, writer: writer.writer_id() };
    let bytes = session.encode(&keys, &writer);
    chapter
        .stored("session", "session", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("writer-name", WRITER)
        .hex("id", SESSION.as_bytes())
        .number("round", session.round)
        .number("started", session.started);
    let decode = |bytes: &[u8]| Session::decode(keys.verifier(), SESSION, bytes);
    let unnamed = Session { id: OTHER_SESSION, ..session.clone() }.encode(&keys, &writer);
    chapter.refused("session-other-name", "session", &unnamed, decode);
    let forged = session.encode(&keys, &maintenance);
    chapter.refused("session-by-maintenance", "session", &forged, decode);

    let commit = Outcome::Commit(snapshot);
    chapter
        .stored("outcome-commit", "outcome", commit.encode(&keys, &writer, SESSION))
        .hex("session", SESSION.as_bytes())
        .hex("snapshot", snapshot.as_bytes());
    chapter
        .stored("outcome-fenced", "outcome", Outcome::Fenced.encode(&keys, &maintenance, SESSION))
        .hex("session", SESSION.as_bytes());
    let decode = |bytes: &[u8]| Outcome::decode(keys.verifier(), SESSION, bytes);
    for (name, wrong) in [
        ("outcome-commit-by-maintenance", commit.encode(&keys, &maintenance, SESSION)),
        ("outcome-fenced-by-writer", Outcome::Fenced.encode(&keys, &writer, SESSION)),
        ("outcome-other-session", commit.encode(&keys, &writer, OTHER_SESSION)),
    ] {
        chapter.refused(name, "outcome", &wrong, decode);
    }

    let retired = Retired {
        snapshot,
        time: 7,
        reason: "keep-daily".into(),
        replaced_by: Some(other_snapshot),
        link: None,
    };
    chapter
        .stored("retired", "retired", retired.encode(&keys, &maintenance))
        .hex("snapshot", snapshot.as_bytes())
        .number("time", 7)
        .text("reason", "keep-daily")
        .hex("replaced-by", other_snapshot.as_bytes());
    let link = ChainLink {
        writer: writer.writer_id(),
        sequence: 300,
        previous: Some(SnapshotId::new([8; 32])),
    };
    let linked = Retired { replaced_by: None, link: Some(link), ..retired.clone() };
    chapter
        .stored("retired-with-its-place", "retired", linked.encode(&keys, &maintenance))
        .hex("writer", writer.writer_id().as_bytes())
        .number("sequence", 300)
        .hex("previous", [8; 32]);
    let lost = Lost { snapshot, time: 7, accepted_by: "ada on host".into() };
    chapter
        .stored("lost", "lost", lost.encode(&keys, &maintenance))
        .hex("snapshot", snapshot.as_bytes())
        .number("time", 7)
        .text("accepted-by", "ada on host");
    for (name, wrong) in [
        ("lost-by-writer", lost.encode(&keys, &writer)),
        (
            "lost-other-snapshot",
            Lost { snapshot: other_snapshot, ..lost }.encode(&keys, &maintenance),
        ),
    ] {
        chapter.refused(name, "lost", &wrong, |b| Lost::decode(keys.verifier(), snapshot, b));
    }
    let forged = retired.encode(&keys, &writer);
    chapter
        .refused("retired-by-writer", "retired", &forged, |b| Retired::decode(keys.verifier(), b));

    let list = RoundList { round: 9, packs: vec![pack(1), pack(2)] };
    for (name, kind) in [("condemn", ObjectKind::Condemn), ("verdict", ObjectKind::Verdict)] {
        let decode = |bytes: &[u8]| RoundList::decode(kind, keys.verifier(), 9, bytes);
        chapter
            .stored(name, name, list.encode(kind, &keys, &maintenance))
            .number("round", 9)
            .hex("pack", [1; 32])
            .hex("pack", [2; 32]);
        let other_round = RoundList { round: 8, ..list.clone() }.encode(kind, &keys, &maintenance);
        chapter.refused(&format!("{name}-other-round"), name, &other_round, decode);
        let reversed = RoundList { round: 9, packs: vec![pack(2), pack(1)] };
        let reversed = reversed.encode(kind, &keys, &maintenance);
        chapter.refused(&format!("{name}-disordered"), name, &reversed, decode);
    }

    let moved = vec![(pack(1), vec![0, 1]), (pack(2), vec![])];
    let relocation = Relocation { to: vec![pack(3), pack(4)], moved };
    chapter
        .stored("relocation", "relocation", relocation.encode(&keys, &maintenance))
        .hex("to", [3; 32])
        .hex("to", [4; 32])
        .hex("moved-to-both", [1; 32])
        .hex("moved-to-none", [2; 32]);
    let decode = |bytes: &[u8]| Relocation::decode(keys.verifier(), bytes);
    let reversed = |change: &dyn Fn(&mut Relocation)| {
        let mut relocation = relocation.clone();
        change(&mut relocation);
        relocation.encode(&keys, &maintenance)
    };
    for (name, bytes) in [
        ("relocation-to-disordered", reversed(&|it| it.to.reverse())),
        ("relocation-moved-disordered", reversed(&|it| it.moved.reverse())),
        ("relocation-positions-disordered", reversed(&|it| it.moved[0].1.reverse())),
        ("relocation-position-too-high", reversed(&|it| it.moved[0].1[1] = 2)),
    ] {
        chapter.refused(name, "relocation", &bytes, decode);
    }

    let reader = ReadSession { id: SESSION, started: 6, snapshots: vec![snapshot] };
    chapter
        .stored("read-session", "read_session", reader.encode(&keys, &writer))
        .hex("id", SESSION.as_bytes())
        .number("started", 6)
        .hex("snapshot", snapshot.as_bytes());
    let unnamed = ReadSession { id: OTHER_SESSION, ..reader }.encode(&keys, &writer);
    chapter.refused("read-session-other-name", "read_session", &unnamed, |bytes| {
        ReadSession::decode(keys.verifier(), SESSION, bytes)
    });
    chapter.check();
}

/// A page of `items`, and how it is encoded though it must not be.
fn leaf<C: LeafCodec>(items: &[C::Item]) -> Vec<u8> {
    let mut bytes = vec![0];
    C::encode(items, &mut bytes);
    bytes
}

fn page_of<C: LeafCodec>(bytes: &[u8]) -> Result<(), crate::encoding::DecodeError> {
    page::decode::<C>(bytes, None).map(|_| ())
}

fn entry(name: &[u8], node: Node) -> Entry {
    Entry {
        name: name.into(),
        node,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        mtime: Timestamp { seconds: -1, nanos: 999_999_999 },
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    }
}

#[test]
fn vectors_of_tree() {
    let mut chapter = Chapter::new("tree");
    let id = |byte| BlobId::new([byte; 32]);
    let xattrs = || Some([Xattr { name: (*b"user.a").into(), value: (*b"\0v").into() }].into());
    let device = DeviceNumber { major: 8, minor: 1 };
    let chunk = Node::File { size: 300, content: Content::Chunk(id(1)) };
    let entries = [
        entry(b"a", Node::File { size: 0, content: Content::Empty }),
        Entry { xattrs: xattrs(), ..entry(b"ab", chunk.clone()) },
        Entry {
            marks: Marks::UNSTABLE,
            ..entry(b"ab\xff", Node::File { size: 1 << 40, content: Content::Recipe(id(2)) })
        },
        Entry { mode: 0o1777, flags: 0x10, ..entry(b"b", Node::Directory { tree: id(3) }) },
        entry(b"c", Node::Symlink { target: (*b"../x").into() }),
        entry(b"d", Node::Fifo),
        entry(b"e", Node::Socket),
        entry(b"f", Node::CharDevice { device }),
        Entry { xattrs: xattrs(), uid: 0, ..entry(b"g", Node::BlockDevice { device }) },
    ];
    chapter.stored("page-empty", "tree_page", leaf::<TreeCodec>(&[]));
    for item in &entries {
        let name = String::from_utf8_lossy(&item.name).replace('\u{fffd}', "ff");
        let one = std::slice::from_ref(item);
        chapter
            .stored(&format!("entry-{name}"), "tree_page", leaf::<TreeCodec>(one))
            .text("entry", &format!("{item:?}"));
    }
    chapter.stored("page-all-kinds", "tree_page", leaf::<TreeCodec>(&entries));
    let children = vec![
        Child { page: id(4), measure: 900, last_key: (*b"m").into() },
        Child { page: id(5), measure: 70, last_key: (*b"z").into() },
    ];
    chapter.stored(
        "interior",
        "tree_page",
        page::encode::<TreeCodec>(1, &Page::Interior(children)),
    );
    for name in ["a", "file-0000001.txt"] {
        chapter
            .case(&format!("boundary-{name}"))
            .text("name", name)
            .hex("hash", page::boundary_hash(name.as_bytes()).to_le_bytes());
    }
    let named = |name: &[u8]| entry(name, Node::Fifo);
    let mut refused = |name: &str, bytes: &[u8]| {
        chapter.refused(name, "tree_page", bytes, page_of::<TreeCodec>);
    };
    refused("name-slash", &leaf::<TreeCodec>(&[named(b"a/b")]));
    refused("name-dots", &leaf::<TreeCodec>(&[named(b"..")]));
    refused("name-nul", &leaf::<TreeCodec>(&[named(b"a\0")]));
    refused("names-disordered", &leaf::<TreeCodec>(&[named(b"b"), named(b"a")]));
    refused("names-twice", &leaf::<TreeCodec>(&[named(b"b"), named(b"b")]));
    refused("mode-too-large", &leaf::<TreeCodec>(&[Entry { mode: 0o10_000, ..named(b"a") }]));
    let mtime = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    refused("nanoseconds", &leaf::<TreeCodec>(&[Entry { mtime, ..named(b"a") }]));
    refused(
        "target-empty",
        &leaf::<TreeCodec>(&[entry(b"a", Node::Symlink { target: [].into() })]),
    );
    let Node::File { content, .. } = chunk else { unreachable!() };
    refused("size-zero", &leaf::<TreeCodec>(&[entry(b"a", Node::File { size: 0, content })]));
    let good = leaf::<TreeCodec>(&[named(b"a")]);
    // level, count, shared, length, "a", then the tag.
    assert_eq!(good[..6], [0, 1, 0, 1, b'a', 5]);
    let kind = [&good[..5], &[9], &good[6..]].concat();
    refused("kind-unknown", &kind);
    refused("cut-short", &good[..good.len() - 1]);
    refused("too-long", &[&good[..], &[0]].concat());
    refused("interior-empty", &[1, 0]);
    refused("level-too-deep", &[9, 0]);
    chapter.check();
}

#[test]
fn vectors_of_recipe() {
    let mut chapter = Chapter::new("recipe");
    let id = |byte| BlobId::new([byte; 32]);
    let parts = [
        Part::Chunk { id: id(1), bytes: 65_536 },
        Part::Hole { bytes: 1 << 40 },
        Part::Repeat { id: id(2), bytes: 512, count: 9 },
    ];
    chapter
        .stored("parts", "recipe_page", leaf::<RecipeCodec>(&parts))
        .text("parts", &format!("{parts:?}"));
    chapter.stored("empty", "recipe_page", leaf::<RecipeCodec>(&[]));
    let mut refused = |name: &str, part: Part| {
        let bytes = leaf::<RecipeCodec>(&[part]);
        chapter.refused(name, "recipe_page", &bytes, page_of::<RecipeCodec>);
    };
    refused("chunk-empty", Part::Chunk { id: id(1), bytes: 0 });
    refused("chunk-too-long", Part::Chunk { id: id(1), bytes: (8 << 20) + 1 });
    refused("hole-empty", Part::Hole { bytes: 0 });
    refused("repeat-once", Part::Repeat { id: id(1), bytes: 1, count: 1 });
    let unknown = [&[0, 1, 7][..], &[0; 32]].concat();
    chapter.refused("kind-unknown", "recipe_page", &unknown, page_of::<RecipeCodec>);
    chapter.check();
}

#[test]
fn vectors_of_hints() {
    let mut chapter = Chapter::new("hints");
    let hint = Hint {
        ctime: Timestamp { seconds: 1_795_000_000, nanos: 1 },
        btime: Timestamp { seconds: -5, nanos: 2 },
        inode: 1 << 40,
        device: (8 << 32) | 1,
    };
    let items = [
        HintItem { hint, children: None, boundary: 1 },
        HintItem { hint: Hint::default(), children: Some(BlobId::new([1; 32])), boundary: 1 },
    ];
    let bytes = leaf::<HintsCodec>(&items);
    chapter.stored("hints", "hints_page", &bytes).text("items", &format!("{items:?}"));
    let late = Hint { ctime: Timestamp { seconds: 0, nanos: 1_000_000_000 }, ..hint };
    let late = leaf::<HintsCodec>(&[HintItem { hint: late, children: None, boundary: 1 }]);
    chapter.refused("nanoseconds", "hints_page", &late, page_of::<HintsCodec>);
    let mut flag = bytes;
    let at = flag.len() - 34;
    flag[at] = 2;
    chapter.refused("flag", "hints_page", &flag, page_of::<HintsCodec>);
    chapter.check();
}

#[test]
fn vectors_of_snapshot() {
    let mut chapter = Chapter::new("snapshot");
    let link = |path: &[u8], leader: &[u8]| Link { path: path.into(), leader: leader.into() };
    let links = [link(b"d/b", b"d/a"), link(b"d/b2", b"c")];
    chapter
        .stored("links", "links_page", leaf::<LinksCodec>(&links))
        .text("links", "d/b -> d/a, d/b2 -> c");
    for (name, wrong) in [
        ("links-escape", vec![link(b"d/../b", b"a")]),
        ("links-absolute", vec![link(b"/b", b"a")]),
        ("links-leader-after", vec![link(b"a", b"b")]),
        ("links-disordered", vec![link(b"c", b"a"), link(b"b", b"a")]),
    ] {
        let bytes = leaf::<LinksCodec>(&wrong);
        chapter.refused(name, "links_page", &bytes, page_of::<LinksCodec>);
    }
    let pack = |byte, class, bytes| PackRef {
        session: SESSION,
        pack: PackId::new([byte; 32]),
        class,
        bytes,
    };
    let packs = [pack(1, Class::Data, 16 << 20), pack(2, Class::Meta, 2000)];
    chapter
        .stored("pack-set", "pack_set_page", leaf::<PackSetCodec>(&packs))
        .text("packs", &format!("{packs:?}"));
    let [first, second] = packs;
    for (name, wrong) in [
        ("pack-set-disordered", vec![second, first]),
        ("pack-set-too-long", vec![pack(1, Class::Data, (128 << 20) + 1)]),
    ] {
        let bytes = leaf::<PackSetCodec>(&wrong);
        chapter.refused(name, "pack_set_page", &bytes, page_of::<PackSetCodec>);
    }

    let (keys, meta) = (keys(), secret(Class::Meta));
    let writer = keys.writer(&WRITER);
    let snapshot = snapshot(&keys);
    let encode = |snapshot: &Snapshot, signer: &Signer, secret: &ClassSecret| {
        snapshot.encode(&keys, signer, secret, &[0x66; 32]).unwrap()
    };
    let bytes = encode(&snapshot, &writer, &meta);
    chapter
        .stored("snapshot", "snapshot", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("writer-name", WRITER)
        .hex("session-secret", meta.secret.expose())
        .hex("random", [0x66; 32])
        .hex("id", blake3::hash(&bytes).as_bytes())
        .text("snapshot", &format!("{snapshot:?}"));
    chapter.stored("snapshot-record", "snapshot_record", snapshot.encode_record());
    let maintenance = keys.maintenance();
    let decode = |bytes: &[u8]| Snapshot::decode(&keys, bytes);
    for (name, wrong) in [
        ("snapshot-changed", flip(&bytes, -20)),
        ("snapshot-by-maintenance", encode(&snapshot, &maintenance, &meta)),
        ("snapshot-by-another-writer", encode(&snapshot, &keys.writer(b"another writer!!"), &meta)),
        ("snapshot-other-class", encode(&snapshot, &writer, &secret(Class::Data))),
        (
            "snapshot-other-session",
            encode(&Snapshot { session: OTHER_SESSION, ..snapshot.clone() }, &writer, &meta),
        ),
    ] {
        chapter.refused(name, "snapshot", &wrong, decode);
    }
    chapter.check();
}

#[test]
fn vectors_of_log() {
    let mut chapter = Chapter::new("log");
    let (keys, meta) = (keys(), secret(Class::Meta));
    let writer = keys.writer(&WRITER);
    let record = LogRecord {
        writer: writer.writer_id(),
        sequence: 2,
        previous: Some(ObjectId::new([3; 32])),
        began: Timestamp { seconds: 1_795_000_000, nanos: 5 },
        ended: Timestamp { seconds: 1_795_000_009, nanos: 999_999_999 },
        verb: "forget".into(),
        ending: Ending::Done,
        host: "h\u{f6}st".into(),
        user: "ada".into(),
        program: "lastgood 1".into(),
        snapshots: vec![SnapshotId::new([4; 32]), SnapshotId::new([5; 32])],
        counts: vec![("kept".into(), 300), ("retired".into(), 2)],
        note: "keep-daily 7".into(),
    };
    let encode = |record: &LogRecord, signer: &Signer, secret: &ClassSecret| {
        record.encode(&keys, signer, secret, &[0x77; 32])
    };
    let bytes = encode(&record, &writer, &meta);
    chapter
        .stored("log", "log", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("writer-name", WRITER)
        .hex("session-secret", meta.secret.expose())
        .hex("random", [0x77; 32])
        .hex("hash", blake3::hash(&bytes).as_bytes())
        .text("record", &format!("{record:?}"));
    chapter.stored("log-record", "log_record", record.encode_record());
    let first = LogRecord { sequence: 1, previous: None, ..record.clone() };
    chapter.stored("log-record-first", "log_record", first.encode_record());
    let decode = |bytes: &[u8]| LogRecord::decode(&keys, writer.writer_id(), 2, bytes);
    let other = keys.writer(b"another writer!!");
    for (name, wrong) in [
        ("log-changed", flip(&bytes, -20)),
        ("log-other-sequence", encode(&first, &writer, &meta)),
        ("log-by-another-writer", encode(&record, &other, &meta)),
        ("log-by-maintenance", encode(&record, &keys.maintenance(), &meta)),
        ("log-other-class", encode(&record, &writer, &secret(Class::Data))),
    ] {
        chapter.refused(name, "log", &wrong, decode);
    }
    chapter.check();
}

fn snapshot(keys: &RepositoryKeys) -> Snapshot {
    let id = |byte| BlobId::new([byte; 32]);
    Snapshot {
        session: SESSION,
        started: Timestamp { seconds: 1_795_000_000, nanos: 5 },
        finished: Timestamp { seconds: 1_795_000_009, nanos: 999_999_999 },
        tree: id(1),
        hints: id(2),
        links: id(3),
        pack_set: id(4),
        ref_packs: vec![PackRef {
            session: SESSION,
            pack: PackId::new([9; 32]),
            class: Class::Refs,
            bytes: 900,
        }],
        sources: vec![b"/home/\xff".to_vec(), b"/srv".to_vec()],
        host: "h\u{f6}st".into(),
        host_id: [9; 16],
        user: "ada".into(),
        tags: vec!["weekly".into()],
        owners: OwnerNames {
            users: vec![(0, "root".into()), (1000, "ada".into())],
            groups: vec![(100, "users".into())],
        },
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
        chain: Chain {
            writer: keys.writer(&WRITER).writer_id(),
            sequence: 2,
            previous: Some(SnapshotId::new([5; 32])),
            parents: vec![SnapshotId::new([5; 32])],
            generation: 3,
            heads: vec![Head {
                writer: WriterId::new([6; 16]),
                sequence: 1,
                snapshot: SnapshotId::new([7; 32]),
            }],
        },
        totals: Totals {
            files: 1,
            directories: 2,
            others: 3,
            bytes: 4,
            files_new: 5,
            files_changed: 6,
            bytes_added: 7,
            bytes_stored: 8,
            errors: 9,
        },
        flags: SnapshotFlags::INCOMPLETE,
        program: "lastgood 0.1.0".into(),
        original: Some(SnapshotId::new([8; 32])),
    }
}

#[test]
fn vectors_of_index() {
    let mut chapter = Chapter::new("index");
    let keys = keys();
    let pack = |byte, class| PackRef {
        session: SESSION,
        pack: PackId::new([byte; 32]),
        class,
        bytes: 4000,
    };
    let entry = |byte, pack, ordinal| IndexEntry {
        blob: BlobId::new([byte; 32]).into(),
        pack,
        ordinal,
        bytes: 65_536,
    };
    let segment = IndexSegment {
        packs: vec![pack(1, Class::Data), pack(2, Class::Meta)],
        entries: vec![entry(3, 1, 0), entry(4, 0, 0), entry(5, 0, 1)],
    };
    let encode = |segment: &IndexSegment| segment.encode(&keys, SESSION, &[0x77; 32]);
    let bytes = encode(&segment);
    let body = open(ObjectKind::Index, &keys, 1 << 20, &bytes).unwrap();
    chapter
        .stored("segment", "index", &bytes)
        .hex("root", keys.root().expose())
        .hex("repository", keys.repository().as_bytes())
        .hex("session", SESSION.as_bytes())
        .hex("random", [0x77; 32])
        .hex("id", blake3::hash(&bytes).as_bytes())
        .text("segment", &format!("{segment:?}"));
    chapter.stored("segment-body", "index_body", body);
    let mut reversed = segment.clone();
    reversed.entries.reverse();
    let orphaned = IndexSegment { packs: Vec::new(), ..segment.clone() };
    let mut astray = segment;
    astray.entries[0].pack = 2;
    for (name, wrong) in [
        ("segment-changed", flip(&bytes, -20)),
        ("segment-disordered", encode(&reversed)),
        ("segment-without-packs", encode(&orphaned)),
        ("segment-pack-unknown", encode(&astray)),
    ] {
        chapter.refused(name, "index", &wrong, |bytes| IndexSegment::decode(&keys, bytes));
    }
    chapter.check();
}
