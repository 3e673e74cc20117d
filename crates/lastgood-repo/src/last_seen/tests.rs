use super::*;

fn seen(writer: u8, sequence: u64, id: u8) -> LastSeen {
    let mut seen = LastSeen::default();
    let (writer, snapshot) = (WriterId::new([writer; 16]), SnapshotId::new([id; 32]));
    seen.see(Head { writer, sequence, snapshot });
    seen.log.insert(writer, (sequence, ObjectId::new([id; 32])));
    seen
}

#[test]
fn what_was_seen_is_kept_and_never_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = LastSeenFile::new(folder.path().join("new/last-seen"));
    assert_eq!(file.read().unwrap(), LastSeen::default());
    file.add(&seen(1, 5, 5)).unwrap();
    file.add(&seen(1, 4, 9)).unwrap();
    assert_eq!(file.read().unwrap(), seen(1, 5, 5), "an older one changes nothing");
    file.add(&seen(1, 5, 9)).unwrap();
    assert_eq!(file.read().unwrap(), seen(1, 5, 5), "nor does another one in its place");
    file.add(&seen(2, 1, 7)).unwrap();
    let mut both = seen(1, 5, 5);
    both.merge(&seen(2, 1, 7));
    assert_eq!(file.read().unwrap(), both);
}

#[test]
fn a_damaged_memory_is_an_error_and_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last-seen");
    let file = LastSeenFile::new(path.clone());
    file.add(&seen(1, 5, 5)).unwrap();
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(file.read().is_err(), "cut to {end} bytes");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(file.read().is_err(), "byte {at} flipped");
    }
    file.add(&seen(2, 1, 7)).unwrap();
    assert_eq!(file.read().unwrap(), seen(2, 1, 7));
}
