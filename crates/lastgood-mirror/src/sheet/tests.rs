use lastgood_format::entry::{Entry, Hint, Marks};

use super::*;
use crate::place::HostPlace;
use crate::record::At;

fn file(path: &[u8], size: u64) -> State {
    let entry = Entry {
        name: record::name(path).into(),
        node: record::content(size, [7; 32]),
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        flags: 0,
        marks: Marks::NONE,
        xattrs: None,
    };
    let present = Present { entry, at: At::Here(path.into()), link: None, hint: Hint::default() };
    State::Present(Box::new(present))
}

fn path(number: u64) -> Path {
    format!("d{:02}/a name of some length {number:05}\t\u{fc}", number / 1000).into_bytes().into()
}

/// A sheet of so many files, on disk when there are many.
fn sheet(place: &dyn Place, count: u64) -> (Sheet, Seal) {
    let mut writer = SheetWriter::new(place, b"text"[..].into(), "delta", 0);
    writer.head("delta", "backup-1", Timestamp::default(), &Head::default());
    for number in (0..count).map(|number| number * 2) {
        writer.record(&[], &path(number), &file(&path(number), number)).unwrap();
    }
    writer.seal().unwrap()
}

#[test]
fn what_was_written_is_found_read_on_from_anywhere_and_backwards() {
    for count in [0, 1, 40, 9000] {
        let folder = tempfile::tempdir().unwrap();
        let place = HostPlace::open(folder.path()).unwrap();
        let (written, seal) = sheet(&place, count);
        let (opened, head, found) = Sheet::open(&place, b"text", "delta").unwrap().unwrap();
        assert_eq!((head, found), (Head::default(), seal));
        for sheet in [&written, &opened] {
            assert_eq!(sheet.is_empty(), count == 0);
            let all: Vec<Line> = sheet.lines().map(Result::unwrap).collect();
            assert!(
                all.iter()
                    .map(|line| &line.path)
                    .eq((0..count).map(|it| path(it * 2)).collect::<Vec<_>>().iter())
            );
            let mut backwards: Vec<Line> = sheet.reversed().map(Result::unwrap).collect();
            backwards.reverse();
            assert_eq!(backwards, all);
            for number in (0..count * 2).step_by(7) {
                let expected = (number % 2 == 0).then(|| file(&path(number), number));
                assert_eq!(sheet.get(&path(number)).unwrap(), expected, "{number} of {count}");
            }
            for line in all.iter().step_by(31) {
                assert_eq!(sheet.whole_line_at(line.start).unwrap().as_ref(), Some(line));
            }
            let mut lines = sheet.lines();
            for number in [1, 2, 900, 3000, 3001, 17_998] {
                let expected = all.iter().find(|line| line.path >= path(number));
                lines.seek(&path(number)).unwrap();
                assert_eq!(lines.peek().unwrap(), expected, "{number} of {count}");
            }
        }
    }
}

#[test]
fn a_text_that_is_cut_changed_or_out_of_order_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = HostPlace::open(folder.path()).unwrap();
    sheet(&place, 3000);
    let at = folder.path().join("text");
    let whole = std::fs::read(&at).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for bytes in [&changed[..], &whole[..whole.len() - 1], &whole[..200_000], b"", b"x\n"] {
        std::fs::write(&at, bytes).unwrap();
        assert!(Sheet::open(&place, b"text", "delta").is_err());
    }
    std::fs::write(&at, &whole).unwrap();
    assert!(Sheet::open(&place, b"text", "latest").is_err());
    std::fs::remove_file(&at).unwrap();
    assert!(Sheet::open(&place, b"text", "delta").unwrap().is_none());
    let mut writer = SheetWriter::new(&place, b"text"[..].into(), "delta", 0);
    for number in [1, 3, 2] {
        writer.record(&[], &path(number), &State::Absent).unwrap();
    }
    let sheet = writer.seal().unwrap().0;
    assert_eq!(sheet.lines().filter(Result::is_err).count(), 1);
    assert_eq!(sheet.lines().count(), 3, "two lines and the failure");
}
