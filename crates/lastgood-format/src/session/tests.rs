use proptest::prelude::*;

use super::*;
use crate::samples::{
    OTHER_SESSION, SESSION, WRITER, keys, other_keys, refuses_damage, session_id, snapshot_id,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn sessions_read_back(id in session_id(), round in any::<u64>(), started in any::<i64>()) {
        let keys = keys();
        let signer = keys.writer(&WRITER);
        let session = Session { id, round, started, writer: signer.writer_id() };
        let bytes = session.encode(&keys, &signer);
        prop_assert_eq!(Session::decode(keys.verifier(), id, &bytes), Ok(session));
        prop_assert!(Session::decode(keys.verifier(), OTHER_SESSION, &bytes).is_err());
    }

    #[test]
    fn outcomes_read_back(id in session_id(), snapshot in snapshot_id()) {
        let keys = keys();
        let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
        for (outcome, signer, other) in [
            (Outcome::Commit(snapshot), &writer, &maintenance),
            (Outcome::Fenced, &maintenance, &writer),
        ] {
            let bytes = outcome.encode(&keys, signer, id);
            prop_assert!(bytes.len() as u64 <= Outcome::BYTES_MAX);
            let decoded = Outcome::decode_signed(keys.verifier(), id, &bytes);
            prop_assert_eq!(decoded, Ok((outcome, signer.writer_id())));
            prop_assert!(Outcome::decode(keys.verifier(), OTHER_SESSION, &bytes).is_err());
            prop_assert!(Outcome::decode(other_keys().verifier(), id, &bytes).is_err());
            // A writer cannot fence and the maintenance key cannot commit.
            prop_assert!(Outcome::decode(keys.verifier(), id, &outcome.encode(&keys, other, id)).is_err());
        }
    }
}

#[test]
fn damaged_sessions_and_outcomes_are_refused() {
    let keys = keys();
    let (writer, maintenance) = (keys.writer(&WRITER), keys.maintenance());
    let session = Session { id: SESSION, round: 3, started: 4, writer: writer.writer_id() };
    let bytes = session.encode(&keys, &writer);
    refuses_damage(&bytes, |bytes| Session::decode(keys.verifier(), SESSION, bytes).is_ok());
    for (outcome, signer) in
        [(Outcome::Commit(SnapshotId::new([1; 32])), &writer), (Outcome::Fenced, &maintenance)]
    {
        let bytes = outcome.encode(&keys, signer, SESSION);
        refuses_damage(&bytes, |bytes| Outcome::decode(keys.verifier(), SESSION, bytes).is_ok());
    }
    // Only a writer announces.
    let forged = session.encode(&keys, &maintenance);
    assert_eq!(Session::decode(keys.verifier(), SESSION, &forged), Err(KeyError::Signature));
}
