use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::key::Class;
use crate::samples::{WRITER, keys, other_keys, refuses_damage, secret};

fn record(writer: WriterId) -> LogRecord {
    LogRecord {
        writer,
        sequence: 3,
        previous: Some(ObjectId::new([4; 32])),
        began: Timestamp { seconds: 5, nanos: 6 },
        ended: Timestamp { seconds: 7, nanos: 8 },
        verb: "forget".into(),
        ending: Ending::Incomplete,
        host: "host".into(),
        user: "user".into(),
        program: "lastgood 1".into(),
        snapshots: vec![SnapshotId::new([9; 32])],
        counts: vec![("snapshots".into(), 1)],
        note: "keep-daily".into(),
    }
}

proptest! {
    #[test]
    fn records_read_back(
        sequence in 1_u64..,
        previous in any::<Option<[u8; 32]>>(),
        ending in any::<u64>(),
        verb in ".{0,20}",
        note in ".{0,200}",
        snapshots in vec(any::<[u8; 32]>(), 0..5),
        counts in vec((".{0,9}", any::<u64>()), 0..5),
    ) {
        let keys = keys();
        let signer = keys.writer(&WRITER);
        let record = LogRecord {
            sequence,
            previous: previous.map(ObjectId::new),
            ending: Ending::from_number(ending),
            verb,
            note,
            snapshots: snapshots.into_iter().map(SnapshotId::new).collect(),
            counts,
            ..record(signer.writer_id())
        };
        let bytes = record.encode(&keys, &signer, &secret(Class::Meta), &[1; 32]);
        let decode = |keys, sequence| LogRecord::decode(keys, signer.writer_id(), sequence, &bytes);
        prop_assert_eq!(decode(&keys, sequence), Ok(record));
        prop_assert!(decode(&keys, sequence - 1).is_err());
        prop_assert!(decode(&other_keys(), sequence).is_err());
    }
}

#[test]
fn a_record_of_another_writer_or_damaged_is_refused() {
    let keys = keys();
    let (signer, other) = (keys.writer(&WRITER), keys.writer(b"another writer!!"));
    let record = record(signer.writer_id());
    let encode = |signer| record.encode(&keys, signer, &secret(Class::Meta), &[1; 32]);
    let decode = |writer: WriterId, bytes: &[u8]| LogRecord::decode(&keys, writer, 3, bytes);
    let bytes = encode(&signer);
    refuses_damage(&bytes, |bytes| decode(signer.writer_id(), bytes).is_ok());
    assert!(decode(other.writer_id(), &bytes).is_err());
    assert_eq!(decode(signer.writer_id(), &encode(&other)), Err(KeyError::Signature));
}
