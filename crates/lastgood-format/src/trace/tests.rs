use super::*;

fn keys(root: u8) -> RepositoryKeys {
    RepositoryKeys::new(Secret::new([root; 32]), RepositoryId::new([3; 16]))
}

fn cipher(header: &TraceHeader, root: u8) -> Result<TraceCipher, KeyError> {
    header.clone().cipher(&keys(root))
}

#[test]
fn pieces_come_back_in_their_order_and_no_other() {
    let header = TraceHeader::new(&keys(1), &[9; 32], b"first");
    let bytes = header.as_bytes().try_into().unwrap();
    assert_eq!(TraceHeader::decode(bytes).unwrap(), header);
    let mut sealing = cipher(&header, 1).unwrap();
    let pieces = [sealing.seal(b"first").unwrap(), sealing.seal(b"second").unwrap()];
    let body = |piece: &Vec<u8>| piece[4..].to_vec();

    let mut opening = cipher(&header, 1).unwrap();
    assert_eq!(opening.open(body(&pieces[0])).unwrap(), b"first");
    assert_eq!(opening.open(body(&pieces[1])).unwrap(), b"second");
    assert_eq!(cipher(&header, 1).unwrap().open(body(&pieces[1])), Err(KeyError::Forged));
    let mut flipped = body(&pieces[0]);
    flipped[0] ^= 1;
    assert_eq!(cipher(&header, 1).unwrap().open(flipped), Err(KeyError::Forged));
    assert_eq!(cipher(&header, 2).err(), Some(KeyError::WrongKey));
}

#[test]
fn a_stuck_random_source_repeats_no_key() {
    let random = [0; 32];
    let one = TraceHeader::new(&keys(1), &random, b"at noon");
    let other = TraceHeader::new(&keys(1), &random, b"at one");
    assert_ne!(one, other);
}

#[test]
fn what_is_no_trace_is_refused() {
    assert!(TraceHeader::decode(&[b'x'; TraceHeader::BYTES]).is_err());
}
