use super::*;
use crate::samples::{OTHER_SESSION, SESSION, WRITER, keys, other_keys, refuses_damage};

#[test]
fn wrapped_secrets_open_only_where_they_belong() {
    let keys = keys();
    let secret = Secret::new([5; 32]);
    let wrapped = keys.wrap(Class::Meta, SESSION, &secret);
    assert_eq!(keys.unwrap(Class::Meta, SESSION, &wrapped).as_ref(), Ok(&secret));
    for class in [Class::Data, Class::Refs] {
        assert_eq!(keys.unwrap(class, SESSION, &wrapped), Err(KeyError::Forged));
    }
    assert_eq!(keys.unwrap(Class::Meta, OTHER_SESSION, &wrapped), Err(KeyError::Forged));
    assert_eq!(other_keys().unwrap(Class::Meta, SESSION, &wrapped), Err(KeyError::Forged));
    refuses_damage(&wrapped, |bytes| keys.unwrap(Class::Meta, SESSION, bytes).is_ok());

    let commitment = secret.commitment();
    let open = |commitment| ClassSecret::open(&keys, Class::Meta, SESSION, &wrapped, commitment);
    assert_eq!(open(&commitment).unwrap().secret, secret);
    assert_eq!(open(&[0; 32]).unwrap_err(), KeyError::Forged);
}

#[test]
fn certificates_hold_for_their_role_repository_and_root() {
    let keys = keys();
    let decode = |bytes: &[u8], keys: &RepositoryKeys, role| {
        let mut reader = Reader::new(bytes, "certificate");
        let certificate = Certificate::decode(&mut reader, keys.verifier(), role)?;
        reader.finish()?;
        Ok::<_, KeyError>(certificate)
    };
    for (signer, role, wrong) in [
        (keys.writer(&WRITER), Role::Writer, Role::Maintenance),
        (keys.maintenance(), Role::Maintenance, Role::Writer),
    ] {
        let mut bytes = Vec::new();
        signer.certificate().encode(&mut bytes);
        assert_eq!(bytes.len(), Certificate::BYTES);
        assert_eq!(decode(&bytes, &keys, role).as_ref(), Ok(signer.certificate()));
        assert_eq!(decode(&bytes, &keys, wrong), Err(KeyError::Signature));
        assert_eq!(decode(&bytes, &other_keys(), role), Err(KeyError::Signature));
        refuses_damage(&bytes, |bytes| decode(bytes, &keys, role).is_ok());
        // Promoted by its owner: the root never signed that.
        bytes[0] = wrong as u8;
        assert_eq!(decode(&bytes, &keys, wrong), Err(KeyError::Signature));
    }
}

#[test]
fn signatures_hold_for_one_purpose_and_one_split_of_the_message() {
    let signer = keys().writer(&WRITER);
    let public = signer.certificate().public;
    let signature = signer.sign("one", &[b"ab", b"c"]);
    assert!(public.verify("one", &[b"ab", b"c"], &signature).is_ok());
    assert!(public.verify("two", &[b"ab", b"c"], &signature).is_err());
    assert!(public.verify("one", &[b"a", b"bc"], &signature).is_err());
    assert!(public.verify("one", &[b"abc"], &signature).is_err());
}

#[test]
fn every_key_of_a_repository_is_another() {
    let (keys, other) = (keys(), other_keys());
    let mut all = Vec::new();
    for keys in [&keys, &other] {
        all.push(keys.root_signer().public().0);
        all.push(keys.writer(&WRITER).certificate().public.0);
        all.push(keys.writer(b"another writer!!").certificate().public.0);
        all.push(keys.maintenance().certificate().public.0);
        all.extend([keys.index(), keys.cut()].map(|secret| *secret.expose()));
        all.extend(keys.newest().wrap.iter().map(|secret| *secret.expose()));
        all.extend(BlobKind::ALL.map(|kind| *keys.blob_id(kind, b"same").as_bytes()));
        all.extend(keys.blob_ids.iter().map(|secret| *secret.expose()));
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?} {:?}", Secret::new([0x5a; 32]), keys());
    assert!(!shown.contains("90, 90") && !shown.contains("7, 7, 7"), "{shown}");
}
