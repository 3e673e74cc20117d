use std::collections::HashMap;

use super::*;
use crate::samples::{OTHER_SESSION, SESSION, WRITER, keys, other_keys, refuses_damage, secret};

const SIGNED_KINDS: [ObjectKind; 7] = [
    ObjectKind::Session,
    ObjectKind::Outcome,
    ObjectKind::Retired,
    ObjectKind::Condemn,
    ObjectKind::Verdict,
    ObjectKind::Relocation,
    ObjectKind::ReadSession,
];

#[test]
fn signed_objects_read_back_and_damage_is_refused() {
    let keys = keys();
    let signer = keys.writer(&WRITER);
    for body in [&b"a body"[..], b""] {
        let bytes = sign(ObjectKind::Session, keys.repository(), &signer, body);
        let (kind, role) = (ObjectKind::Session, Role::Writer);
        assert_eq!(verify(kind, keys.verifier(), role, &bytes), Ok((body, *signer.certificate())));
        refuses_damage(&bytes, |bytes| verify(kind, keys.verifier(), role, bytes).is_ok());
    }
}

#[test]
fn signed_objects_hold_for_their_kind_role_and_repository() {
    let (keys, other) = (keys(), other_keys());
    for kind in SIGNED_KINDS {
        for (signer, role) in
            [(keys.writer(&WRITER), Role::Writer), (keys.maintenance(), Role::Maintenance)]
        {
            let bytes = sign(kind, keys.repository(), &signer, b"body");
            for asked in SIGNED_KINDS {
                for asked_role in [Role::Writer, Role::Maintenance] {
                    let fits = asked == kind && asked_role == role;
                    let opened = verify(asked, keys.verifier(), asked_role, &bytes).is_ok();
                    assert_eq!(opened, fits, "{kind:?} as {asked:?}, {role:?} as {asked_role:?}");
                }
            }
            assert!(verify(kind, other.verifier(), role, &bytes).is_err());
            // Moved over with its header rewritten: the signature covers the header.
            let mut moved = bytes.clone();
            moved[8..24].copy_from_slice(other.repository().as_bytes());
            assert_eq!(verify(kind, other.verifier(), role, &moved), Err(KeyError::Signature));
        }
    }
}

#[test]
fn sealed_objects_read_back_and_damage_is_refused() {
    let keys = keys();
    let meta = secret(Class::Meta);
    for (kind, under) in [
        (ObjectKind::Snapshot, SealedUnder::Session(&meta)),
        (ObjectKind::Index, SealedUnder::Index(keys.index(), SESSION)),
    ] {
        for body in [&b"a body, a body, a body, a body, a body"[..], b""] {
            let bytes = seal(kind, keys.repository(), under, &[1; 32], body);
            assert_eq!(open(kind, &keys, 38, &bytes).as_deref(), Ok(body));
            refuses_damage(&bytes, |bytes| open(kind, &keys, 38, bytes).is_ok());
        }
    }
}

#[test]
fn sealed_objects_hold_for_their_kind_class_and_repository() {
    let (keys, other) = (keys(), other_keys());
    let (meta, data) = (secret(Class::Meta), secret(Class::Data));
    let snapshot = SealedUnder::Session(&meta);
    let bytes = seal(ObjectKind::Snapshot, keys.repository(), snapshot, &[1; 32], b"body");
    assert!(open(ObjectKind::Snapshot, &keys, 4, &bytes).is_ok());
    assert!(open(ObjectKind::Snapshot, &keys, 3, &bytes).is_err(), "its limit is not kept");
    assert!(open(ObjectKind::Index, &keys, 4, &bytes).is_err());
    assert!(open(ObjectKind::Snapshot, &other, 4, &bytes).is_err());
    for under in [SealedUnder::Session(&data), SealedUnder::Index(keys.index(), SESSION)] {
        let wrong = seal(ObjectKind::Snapshot, keys.repository(), under, &[1; 32], b"body");
        assert_eq!(open(ObjectKind::Snapshot, &keys, 4, &wrong), Err(KeyError::Forged));
    }
    let wrong = seal(ObjectKind::Index, keys.repository(), snapshot, &[1; 32], b"body");
    assert_eq!(open(ObjectKind::Index, &keys, 4, &wrong), Err(KeyError::Forged));
}

#[test]
fn a_later_version_says_so() {
    let keys = keys();
    let too_new = KeyError::Decode(DecodeError::TooNew { what: "object", version: 2, known: 1 });
    let mut signed = sign(ObjectKind::Session, keys.repository(), &keys.maintenance(), b"");
    signed[6] = 2;
    let error = verify(ObjectKind::Session, keys.verifier(), Role::Writer, &signed).unwrap_err();
    assert_eq!(error, too_new);
    let under = SealedUnder::Index(keys.index(), SESSION);
    let mut sealed = seal(ObjectKind::Index, keys.repository(), under, &[0; 32], b"");
    sealed[6] = 2;
    assert_eq!(open(ObjectKind::Index, &keys, 0, &sealed), Err(too_new));
}

/// The salt lies at a fixed place before the sealed bytes; the key is a function of it alone.
#[test]
fn a_stuck_random_source_never_seals_two_objects_with_one_key() {
    let keys = keys();
    let meta = secret(Class::Meta);
    let mut by_salt: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let unders = [
        (SealedUnder::Session(&meta), meta.wrapped.len()),
        (SealedUnder::Index(keys.index(), SESSION), 0),
        (SealedUnder::Index(keys.index(), OTHER_SESSION), 0),
    ];
    for number in 0..300_u32 {
        for (under, wrapped_bytes) in unders {
            for kind in [ObjectKind::Index, ObjectKind::Snapshot] {
                let body = (number % 290).to_le_bytes();
                let bytes = seal(kind, keys.repository(), under, &[0; 32], &body);
                let at = 8 + 16 + 1 + 1 + 16 + 32 + 2 + wrapped_bytes;
                let before = by_salt.insert(bytes[at..at + 32].to_vec(), bytes.clone());
                assert!(before.is_none_or(|before| before == bytes), "one key seals two objects");
            }
        }
    }
    assert_eq!(by_salt.len(), 290 * 6);
}

#[test]
fn names_are_what_the_layout_says() {
    let round = 0x1f;
    assert_eq!(name::session(SESSION), "sessions/7369787465656e206279746520696473");
    assert_eq!(name::condemn(round), "condemn/000000000000001f");
    assert_eq!(name::verdict(round), "verdict/000000000000001f");
    let pack = PackId::new([0xab; 32]);
    assert_eq!(
        name::pack(SESSION, pack),
        format!("packs/7369787465656e206279746520696473/{}", "ab".repeat(32))
    );
}
