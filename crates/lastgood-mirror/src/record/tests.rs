use proptest::prelude::*;

use super::*;
use crate::text::{Reader, sha256};

fn round_trip(path: &[u8], state: &State) -> Vec<(Path, State)> {
    let mut writer = Writer::new("test");
    write(&[], path, state, &mut writer);
    let (bytes, _) = writer.finish();
    let reader = Reader::open("test", &bytes).unwrap();
    reader.lines().map(|line| parse(&line.unwrap().1).unwrap()).collect()
}

fn node() -> impl Strategy<Value = Node> {
    let device =
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| DeviceNumber { major, minor });
    prop_oneof![
        any::<Vec<u8>>().prop_map(|bytes| content(bytes.len() as u64, sha256(&bytes))),
        Just(DIRECTORY),
        prop::collection::vec(1..=255_u8, 1..40)
            .prop_map(|target| Node::Symlink { target: target.into() }),
        Just(Node::Fifo),
        Just(Node::Socket),
        device.clone().prop_map(|device| Node::CharDevice { device }),
        device.prop_map(|device| Node::BlockDevice { device }),
    ]
}

prop_compose! {
    fn time()(seconds: i64, nanos in 0..1_000_000_000_u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }
}

fn path() -> impl Strategy<Value = Path> {
    let byte = any::<u8>().prop_filter("of a name", |byte| *byte != b'/' && *byte != 0);
    let name =
        prop::collection::vec(byte, 1..12).prop_filter("a name", |name| Entry::is_valid_name(name));
    prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/').into())
}

proptest! {
    #[test]
    fn every_record_comes_back(
        path in path(),
        other in path(),
        node in node(),
        (mode, uid, gid, flags, marks) in (0..0o10000_u16, any::<u32>(), any::<u32>(), any::<u32>(), 0..4_u8),
        (mtime, ctime, btime) in (time(), time(), time()),
        place in 0..5,
        link in any::<Option<(u64, u64)>>(),
        xattrs in any::<Vec<(Vec<u8>, Vec<u8>)>>(),
        (inode, device) in any::<(u64, u64)>(),
    ) {
        let at = match (&node, place) {
            (Node::File { .. }, 1) => At::Here(other),
            (Node::File { .. }, 2) => At::Next(path.clone()),
            (Node::File { .. }, 3) => At::Next(other),
            (Node::File { .. }, 4) => At::Lost,
            _ => At::Here(path.clone()),
        };
        let xattrs: Box<[Xattr]> = xattrs
            .into_iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| Xattr { name: name.into(), value: value.into() })
            .collect();
        let xattrs = (!xattrs.is_empty()).then_some(xattrs);
        let marks = Marks(marks);
        let entry = Entry { name: name(&path).into(), node, mode, uid, gid, mtime, flags, marks, xattrs };
        let hint = Hint { ctime, btime, inode, device };
        let state = State::Present(Box::new(Present { entry, at, link, hint }));
        prop_assert_eq!(round_trip(&path, &state), [(path.clone(), state)]);
        prop_assert_eq!(round_trip(&path, &State::Absent), [(path, State::Absent)]);
    }
}

#[test]
fn hostile_paths_are_refused() {
    for path in ["..", "a/../b", "/etc", "a//b", "a/", "./a", "a\0b"] {
        assert_eq!(parse(&[Vec::new(), path.into()]), None, "{path:?}");
    }
    let here = |at: &str| parse_at(at.as_bytes(), b"a");
    for at in ["here:..", "next:/etc", "here:", "lost:a", "there", "moved:a"] {
        assert_eq!(here(at), None, "{at}");
    }
}
