use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn integers_have_one_form(value in any::<u64>(), shift in 0_u32..64, signed in any::<i64>()) {
        let value = value >> shift;
        let mut bytes = Vec::new();
        bytes.varint(value);
        let mut reader = Reader::new(&bytes, "test");
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.finish(), Ok(()));
        // One more zero group is the same number in a longer form.
        let last = bytes.len() - 1;
        let mut longer = bytes.clone();
        longer[last] |= 0x80;
        longer.push(0);
        prop_assert!(Reader::new(&longer, "test").varint().is_err());
        prop_assert!(Reader::new(&bytes[..last], "test").varint().is_err());

        let mut bytes = Vec::new();
        bytes.zigzag(signed >> shift);
        prop_assert_eq!(Reader::new(&bytes, "test").zigzag(), Ok(signed >> shift));
    }

    #[test]
    fn whatever_reads_as_an_integer_is_its_encoding(bytes in vec(any::<u8>(), 0..12)) {
        let mut reader = Reader::new(&bytes, "test");
        if let Ok(value) = reader.varint() {
            let read = bytes.len() - reader.left();
            let mut again = Vec::new();
            again.varint(value);
            prop_assert_eq!(&again[..], &bytes[..read]);
        }
    }

    #[test]
    fn records_read_back(fields in btree_map(1_u64..1_000_000, vec(any::<u8>(), 0..20), 0..20)) {
        let mut writer = RecordWriter::default();
        for (tag, bytes) in &fields {
            writer.field(*tag, bytes);
        }
        let bytes = writer.finish();
        let record = Record::parse(&bytes, "test").unwrap();
        for (tag, bytes) in &fields {
            prop_assert_eq!(record.required(*tag), Ok(&bytes[..]));
        }
        prop_assert_eq!(record.optional(1_000_000), None);
    }
}

#[test]
fn integers_past_64_bits_are_refused() {
    let mut bytes = vec![0xff; 9];
    bytes.push(1);
    assert_eq!(Reader::new(&bytes, "test").varint(), Ok(u64::MAX));
    bytes[9] = 2;
    assert!(Reader::new(&bytes, "test").varint().is_err());
    assert!(Reader::new(&[0xff; 11], "test").varint().is_err());
}

#[test]
fn counts_that_cannot_follow_are_refused_before_anything_is_allocated() {
    let mut bytes = Vec::new();
    bytes.varint(u64::MAX);
    bytes.extend_from_slice(&[0; 100]);
    assert!(Reader::new(&bytes, "test").count(usize::MAX, 1).is_err());
    assert!(Reader::new(&bytes, "test").bytes(usize::MAX).is_err());
    let mut bytes = vec![50];
    bytes.extend_from_slice(&[0; 100]);
    assert_eq!(Reader::new(&bytes, "test").count(50, 2), Ok(50));
    assert!(Reader::new(&bytes, "test").count(49, 2).is_err());
    assert!(Reader::new(&bytes, "test").count(50, 3).is_err());
}

#[test]
fn records_ignore_the_unknown_and_refuse_disorder() {
    let mut writer = RecordWriter::default();
    writer.integer(1, 7).field(4, b"later").field(9, b"abc");
    let bytes = writer.finish();
    let record = Record::parse(&bytes, "test").unwrap();
    assert_eq!(record.integer(1), Ok(7));
    assert_eq!(record.array(9), Ok(*b"abc"));
    assert_eq!(record.optional(2), None);
    assert!(record.required(2).is_err());

    let twice = [&bytes[..], &bytes].concat();
    assert!(Record::parse(&twice, "test").is_err());
    for end in 1..bytes.len() {
        let cut = Record::parse(&bytes[..end], "test");
        assert!(cut.is_err() || cut.unwrap().optional(9).is_none(), "cut at {end}");
    }
    let many: Vec<u8> = (1..=RECORD_FIELDS_MAX as u64 + 1)
        .flat_map(|tag| {
            let mut field = Vec::new();
            field.varint(tag);
            field.push(0);
            field
        })
        .collect();
    assert!(Record::parse(&many, "test").is_err());
}
