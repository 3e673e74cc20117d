use proptest::prelude::*;

use super::*;
use crate::samples::{keys, other_keys, refuses_damage};

const KEY_FILE: Secret = Secret::new([42; 32]);

fn key_file_slot(created: i64, label: &str, salt: [u8; 32]) -> KeySlot {
    let keys = keys();
    let credential = Credential::KeyFile(KEY_FILE);
    let repository = keys.repository();
    KeySlot::create(
        repository,
        keys.root(),
        &credential,
        WorkFactors::DEFAULT,
        created,
        label,
        salt,
    )
    .unwrap()
}

fn passphrase(text: &str) -> Credential {
    Credential::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn slots_read_back_and_open(created in any::<i64>(), label in ".{0,30}", salt in any::<[u8; 32]>()) {
        let keys = keys();
        let slot = key_file_slot(created, &label, salt);
        let decoded = KeySlot::decode(&slot.encode()).unwrap();
        prop_assert_eq!(&decoded, &slot);
        prop_assert!(decoded.verify(keys.repository(), &keys.root_signer().public()).is_ok());
        let root = decoded.open(keys.repository(), &Credential::KeyFile(KEY_FILE)).unwrap();
        prop_assert_eq!(&root, keys.root());
    }

    #[test]
    fn recovery_codes_read_back(root in any::<[u8; 32]>()) {
        let root = Secret::new(root);
        let code = recovery_code(&root);
        prop_assert_eq!(code.len(), 56 + 13);
        prop_assert_eq!(&parse_recovery_code(&code).unwrap(), &root);
        let sloppy = format!(" {} ", code.to_lowercase().replace('-', " ").replace('1', "l").replace('0', "o"));
        prop_assert_eq!(&parse_recovery_code(&sloppy).unwrap(), &root);
    }
}

#[test]
fn a_passphrase_opens_its_slot_and_no_other_does() {
    let keys = keys();
    let repository = keys.repository();
    let create = |work| {
        KeySlot::create(repository, keys.root(), &passphrase("correct"), work, 0, "", [1; 32])
    };
    let slot = KeySlot::decode(&create(WorkFactors::FLOOR).unwrap().encode()).unwrap();
    assert_eq!(slot.open(repository, &passphrase("correct")).as_ref(), Ok(keys.root()));
    assert_eq!(slot.open(repository, &passphrase("Correct")), Err(KeyError::WrongKey));
    assert_eq!(slot.open(repository, &Credential::KeyFile(KEY_FILE)), Err(KeyError::WrongKey));
    assert_eq!(
        slot.open(other_keys().repository(), &passphrase("correct")),
        Err(KeyError::WrongKey)
    );

    let weak = WorkFactors { memory_kib: WorkFactors::FLOOR.memory_kib - 1, ..WorkFactors::FLOOR };
    let hasty = WorkFactors { passes: WorkFactors::FLOOR.passes - 1, ..WorkFactors::FLOOR };
    let huge =
        WorkFactors { memory_kib: WorkFactors::CEILING.memory_kib + 1, ..WorkFactors::FLOOR };
    let endless = WorkFactors { passes: WorkFactors::CEILING.passes + 1, ..WorkFactors::FLOOR };
    let wide = WorkFactors { lanes: WorkFactors::CEILING.lanes + 1, ..WorkFactors::FLOOR };
    let none = WorkFactors { lanes: 0, ..WorkFactors::FLOOR };
    for work in [weak, hasty, huge, endless, wide, none] {
        assert!(matches!(create(work), Err(KeyError::WorkFactors(_))), "{work:?}");
        let stored = KeySlot { kind: SlotKind::Passphrase(work), ..slot.clone() };
        assert!(
            matches!(KeySlot::decode(&stored.encode()), Err(KeyError::WorkFactors(_))),
            "{work:?}"
        );
        assert!(
            matches!(
                stored.open(repository, &passphrase("correct")),
                Err(KeyError::WorkFactors(_))
            ),
            "{work:?}"
        );
    }
}

#[test]
fn damaged_slots_are_refused() {
    let keys = keys();
    let (repository, root) = (keys.repository(), keys.root_signer().public());
    let bytes = key_file_slot(1, "laptop", [3; 32]).encode();
    let credential = Credential::KeyFile(KEY_FILE);
    refuses_damage(&bytes, |bytes| {
        KeySlot::decode(bytes).is_ok_and(|slot| slot.verify(repository, &root).is_ok())
    });
    // The seal alone refuses nearly as much: all but the signature.
    for damaged in crate::samples::flips(&bytes[..bytes.len() - 66]) {
        let damaged = [&damaged, &bytes[bytes.len() - 66..]].concat();
        let slot = KeySlot::decode(&damaged);
        assert!(slot.is_err() || slot.unwrap().open(repository, &credential).is_err());
    }
}

#[test]
fn slots_of_others_are_refused() {
    let (keys, other) = (keys(), other_keys());
    let slot = key_file_slot(1, "", [3; 32]);
    let root = keys.root_signer().public();
    assert_eq!(slot.verify(other.repository(), &root), Err(KeyError::Signature));
    assert_eq!(
        slot.verify(keys.repository(), &other.root_signer().public()),
        Err(KeyError::Signature)
    );
    let key_file = |byte| Credential::KeyFile(Secret::new([byte; 32]));
    assert_eq!(slot.open(other.repository(), &key_file(42)), Err(KeyError::WrongKey));
    assert_eq!(slot.open(keys.repository(), &key_file(43)), Err(KeyError::WrongKey));

    let mut later = slot.encode();
    later[6] = 2;
    let too_new = DecodeError::TooNew { what: "key slot", version: 2, known: 1 };
    assert_eq!(KeySlot::decode(&later), Err(KeyError::Decode(too_new)));
}

#[test]
fn a_stuck_random_source_never_seals_two_slots_with_one_key() {
    let (keys, salt) = (keys(), [0; 32]);
    let credential = Credential::KeyFile(KEY_FILE);
    let slots =
        [key_file_slot(1, "a", salt), key_file_slot(2, "a", salt), key_file_slot(1, "b", salt)];
    let mut salts: Vec<_> = slots
        .iter()
        .map(|slot| *slot.key(keys.repository(), &credential).unwrap().expose())
        .collect();
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), slots.len());
}

#[test]
fn every_wrong_digit_of_a_recovery_code_is_noticed() {
    let root = Secret::new(std::array::from_fn(|index| index as u8 * 7));
    let code = recovery_code(&root);
    for at in (0..code.len()).filter(|&at| code.as_bytes()[at] != b'-') {
        for &digit in ALPHABET.iter().filter(|&&digit| digit != code.as_bytes()[at]) {
            let mut wrong = code.as_bytes().to_vec();
            wrong[at] = digit;
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(parse_recovery_code(&wrong), Err(KeyError::WrongKey), "{wrong}");
        }
    }
    // Neighbours that change places.
    for at in 1..code.len() {
        let mut wrong = code.as_bytes().to_vec();
        wrong.swap(at - 1, at);
        let wrong = String::from_utf8(wrong).unwrap();
        let same = wrong.replace('-', "") == code.replace('-', "");
        assert_eq!(parse_recovery_code(&wrong).is_ok(), same, "{wrong}");
    }
    for wrong in ["", "U", &code[1..], &format!("{}0", *code), "é"] {
        assert_eq!(parse_recovery_code(wrong), Err(KeyError::WrongKey), "{wrong}");
    }
}
