use super::*;

#[test]
fn integers_round_trip_in_their_shortest_form_only() {
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
        let mut bytes = Vec::new();
        bytes.varint(value);
        let mut reader = Reader::new(&bytes, "test");
        assert_eq!(reader.varint(), Ok(value));
        assert_eq!(reader.finish(), Ok(()));
        // One more zero group is the same number in a longer form.
        let last = bytes.len() - 1;
        bytes[last] |= 0x80;
        bytes.push(0);
        assert!(Reader::new(&bytes, "test").varint().is_err(), "{value}");
    }
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut bytes = Vec::new();
        bytes.zigzag(value);
        assert_eq!(Reader::new(&bytes, "test").zigzag(), Ok(value));
    }
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

    let mut twice = bytes.clone();
    twice.extend_from_slice(&bytes);
    assert!(Record::parse(&twice, "test").is_err());
    for end in 1..bytes.len() {
        let cut = Record::parse(&bytes[..end], "test");
        assert!(cut.is_err() || cut.unwrap().optional(9).is_none(), "cut at {end}");
    }
}
