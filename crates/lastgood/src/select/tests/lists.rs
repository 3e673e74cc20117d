use std::fs;

use super::*;

fn parse(kind: ListKind, content: &[u8]) -> SourceList {
    SourceList::parse(kind, Path::new("list"), content).expect("list is good")
}

fn refused(kind: ListKind, content: &[u8]) -> String {
    let error = SourceList::parse(kind, Path::new("list"), content).expect_err("list is refused");
    error.to_string()
}

#[test]
fn verbatim_lines_are_taken_as_they_are() {
    let list = parse(ListKind::Verbatim, b"/a b \n\n#no comment\r\n  /x*\n\xff\xfe");
    let expected: Vec<PathBuf> = [&b"/a b "[..], b"#no comment", b"  /x*", b"\xff\xfe"]
        .iter()
        .map(|name| OsString::from_vec(name.to_vec()).into())
        .collect();
    assert_eq!(list.sources, expected);
    assert!(list.problems.is_empty());
}

#[test]
fn raw_names_end_in_nul() {
    let list = parse(ListKind::Raw, b"/a\nb\0#c\0 \0");
    assert_eq!(list.sources, ["/a\nb", "#c", " "].map(PathBuf::from));
    assert!(parse(ListKind::Raw, b"").sources.is_empty());
    let cut = refused(ListKind::Raw, b"/a\0/b");
    assert!(cut.starts_with("bad entry in list, name 2: the NUL at its end is missing"), "{cut}");
    assert_eq!(refused(ListKind::Raw, b"/a\0\0"), "bad entry in list, name 2: the name is empty");
}

#[test]
fn patterns_are_expanded_and_comments_skipped() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let top = directory.path();
    for name in ["one/x.txt", "one/.y.txt", "two/x.txt", "two/z[1]", "three"] {
        let path = top.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory is made");
        fs::write(path, "").expect("file is written");
    }
    let text = format!(
        "\u{feff}# comment\n\n  {0}/*/*.txt \r\n{0}/three\n{0}/t*/z\\[1]\n{0}/none*\n{0}/gone\n{0}/three/*\n",
        top.display()
    );
    let list = parse(ListKind::Patterns, text.as_bytes());
    let names = ["one/.y.txt", "one/x.txt", "two/x.txt", "three", "two/z[1]"];
    assert_eq!(list.sources, names.map(|name| top.join(name)));
    let problems: Vec<String> = list.problems.iter().map(ToString::to_string).collect();
    let expected = [("none*", 6), ("gone", 7), ("three/*", 8)].map(|(name, line)| {
        let pattern = top.join(name);
        format!(
            "pattern {:?} (list:{line}) names nothing that exists",
            pattern.display().to_string()
        )
    });
    assert_eq!(problems, expected);
}

#[test]
fn bad_lines_are_named() {
    let bad = refused(ListKind::Patterns, b"/a\n/b[\n");
    assert!(bad.starts_with("bad entry in list, line 2: the class is not closed"), "{bad}");
    let bad = refused(ListKind::Verbatim, b"/a\0/b\0");
    assert!(bad.starts_with("bad entry in list, line 1: holds a NUL"), "{bad}");
    let bad = refused(ListKind::Patterns, b"/\xff*");
    assert!(bad.starts_with("bad entry in list, line 1: a pattern must be UTF-8"), "{bad}");
}

#[test]
fn a_list_that_cannot_be_read_is_named() {
    let error = SourceList::read(ListKind::Raw, Path::new("/nonexistent/list"));
    assert_eq!(error.expect_err("no such file").to_string(), "cannot read /nonexistent/list");
}
