use super::*;

#[test]
fn no_rules_exclude_nothing_and_build_no_path() {
    let selection = compile(&SelectOptions::default(), "/src");
    let mut scope = selection.enter(0, b"deep/below", |_, _| panic!("no marker is wanted"));
    assert_eq!(scope.decide(b"name", &facts(FILE)), Decision::Include);
    assert_eq!(scope.path.capacity(), 0);
}

#[test]
fn relative_patterns() {
    check(&["*.o"], &["o", "a.oo"], &["a.o", "x/y/a.o", "x.o/in"]);
    check(&["tmp/"], &["tmp", "x/tmp"], &["tmp/", "x/tmp/", "tmp/a"]);
    check(&["a/b"], &["x/a/b", "a/c"], &["a/b", "a/b/c"]);
    check(&["/a"], &["x/a"], &["a", "a/"]);
    check(&["**/a/b"], &["a"], &["a/b", "x/a/b", "x/y/a/b"]);
    check(&["a/**"], &["a/"], &["a/b", "a/b/c"]);
    check(&["a/**/b"], &["a/c", "b"], &["a/b", "a/x/b", "a/x/y/b"]);
}

#[test]
fn the_last_pattern_decides_and_a_parent_that_is_out_stays_out() {
    check(&["*.log", "!keep.log"], &["keep.log", "x/keep.log"], &["a.log"]);
    check(&["!keep.log", "*.log"], &[], &["keep.log"]);
    check(&["/x/", "!/x/keep"], &[], &["x/", "x/keep"]);
    check(&["/x/*", "!/x/keep"], &["x/", "x/keep"], &["x/other"]);
    check(&["/*", "!/keep"], &["keep/", "keep/a"], &["other", "other/keep"]);
}

#[test]
fn syntax_that_git_and_the_matcher_read_differently() {
    check(&["{a,b}"], &["a", "b"], &["{a,b}"]);
    check(&["a[!b]c"], &["a/c", "abc"], &["axc"]);
    check(&["[[:digit:]]x", "[\\]]y", "[\\\\]"], &["ax"], &["1x", "]y", "\\"]);
    check(&["a b ", "#x", "\\!y"], &["a b", "y"], &["a b ", "#x", "!y"]);
    check(&["[!^-]z", "[-!^]"], &["-z", "^z", "!z^", "z"], &["az", "-", "!", "^"]);
    check(&["[!!]q", "[\\!^]"], &["!q"], &["aq", "!", "^"]);
    check(&["t\t", "n\u{a0}", "back\\\\/"], &["t", "n", "back\\"], &["t\t", "n\u{a0}", "back\\/"]);
    check(&["a?b"], &["aéb"], &["axb"]);
    check(&["a??b"], &["axb"], &["aéb"]);
}

#[test]
fn patterns_match_bytes_that_are_no_text() {
    let selection = compile(&excludes(&["*.tmp", "/d?/x"]), "/src");
    assert!(is_excluded(&selection, b"\xff\xfe.tmp"));
    assert!(is_excluded(&selection, b"d\xff/x"));
    assert!(!is_excluded(&selection, b"d\xff\xff/x"));
}

#[test]
fn absolute_patterns_go_on_from_the_source() {
    check(&["/home/me/tmp"], &["x/tmp", "home/me/tmp"], &["tmp", "tmp/x"]);
    check(&["/home/me/tmp", "!/home/me/tmp/"], &["tmp/"], &["tmp"]);
    check(&["/home/*/.cache"], &["x/.cache", "home/x/.cache"], &[".cache"]);
    check(&["/home/**/x/y"], &["y"], &["x/y", "a/x/y"]);
    check(&["/home/me/**"], &[], &["a", "b/c"]);
    check(&["/home/you/tmp"], &["tmp"], &["home/you/tmp"]);
    check(&["home/me/tmp"], &["tmp"], &["home/me/tmp"]);
    check(&["/*/me/tmp"], &["tmp"], &["home/me/tmp"]);
    check(&["/home"], &["a"], &["home"]);
    check(&["/home/me/"], &["home/me/"], &[]);
}

#[test]
fn a_source_is_out_only_by_a_pattern_that_names_it() {
    let check = |patterns: &[&str], kind, expected| {
        let selection = compile(&excludes(patterns), "/home/me");
        let is_out = selection.source(0, &facts(kind)) != Decision::Include;
        assert_eq!(is_out, expected, "{patterns:?}");
    };
    check(&["me", "*", "/*", "/home", "/home/me/**", "/home/me/*"], DIRECTORY, false);
    check(&["/home/me"], DIRECTORY, true);
    check(&["/home/m?"], FILE, true);
    check(&["/home/m?/"], FILE, false);
    check(&["/home/**"], FILE, true);
    check(&["/home/*", "!/home/me"], FILE, false);
}

#[test]
fn sources_share_a_matcher_where_patterns_mean_the_same() {
    let roots = ["/a/x", "/a/y", "/b"].map(PathBuf::from);
    let selection = Selection::compile(&excludes(&["*.o", "/b/z"]), &roots).expect("compiles");
    let pointer = |root: usize| selection.roots[root].patterns.as_ref().map(Arc::as_ptr);
    assert_eq!(pointer(0), pointer(1));
    assert_ne!(pointer(0), pointer(2));
    let is_out = |root| {
        let mut scope = selection.enter(root, b"", |_, _| None);
        scope.decide(b"z", &facts(FILE)) != Decision::Include
    };
    assert_eq!([is_out(0), is_out(1), is_out(2)], [false, false, true]);
}

#[test]
fn iexclude_ignores_case_and_comes_last() {
    let options = SelectOptions {
        iexcludes: vec!["*.ISO".into(), "!Keep.iso".into(), "/HOME/me/[a-c]".into()],
        ..excludes(&["keep.iso"])
    };
    let selection = compile(&options, "/home/me");
    for path in ["x.iso", "d/X.Iso", "A", "c"] {
        assert!(is_excluded(&selection, path.as_bytes()), "{path}");
    }
    for path in ["KEEP.ISO", "keep.iso", "d", "home"] {
        assert!(!is_excluded(&selection, path.as_bytes()), "{path}");
    }
}

#[test]
fn exclude_files_come_first_and_give_line_numbers() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("rules");
    let lines = "\u{feff}# comment\r\n\r\n*.log  \r\n!keep.log\n\\#x\nsp\\ \n/home/me/abs\n";
    std::fs::write(&file, lines).expect("rules are written");
    let options = SelectOptions { exclude_files: vec![file.clone()], ..excludes(&["!again.log"]) };
    let selection = compile(&options, "/home/me");
    for path in ["a.log", "#x", "sp ", "abs"] {
        assert!(is_excluded(&selection, path.as_bytes()), "{path}");
    }
    for path in ["keep.log", "again.log", "# comment", "sp"] {
        assert!(!is_excluded(&selection, path.as_bytes()), "{path}");
    }
    let mut scope = selection.enter(0, b"", |_, _| None);
    let Decision::Exclude(reason) = scope.decide(b"a.log", &facts(FILE)) else {
        panic!("a.log is in");
    };
    let expected = format!("pattern *.log   ({}:3)", file.display());
    assert_eq!(reason.to_string(), expected);
}

#[test]
fn bad_rules_name_their_place() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("rules");
    let in_file = SelectOptions { exclude_files: vec![file.clone()], ..SelectOptions::default() };
    let place = file.display();
    let expected = format!("cannot read {place}: No such file or directory (os error 2)");
    assert_eq!(error(&in_file), expected);
    std::fs::write(&file, b"ok\n\ncaf\xe9\n").expect("rules are written");
    let message = error(&in_file);
    assert!(message.contains(&format!("({place}:3): not UTF-8")), "{message}");

    let cases = [
        ("", "nothing to match"),
        ("/", "nothing to match"),
        ("!", "nothing to match"),
        ("a//b", "no name is empty, `.` or `..`"),
        ("./a", "no name is empty, `.` or `..`"),
        ("a/../b", "no name is empty, `.` or `..`"),
        ("[a", "the class is not closed; write \\[ for a bracket"),
        ("[[:word:]]", "there is no class [:word:]"),
        ("[/]", "the class matches nothing"),
        ("[à-é]", "only ASCII characters can bound a range"),
        ("a\\", "a backslash at the end escapes nothing; write \\\\ for a backslash"),
    ];
    for (pattern, problem) in cases {
        let expected = format!("bad pattern {pattern:?} (--exclude): {problem}");
        assert_eq!(error(&excludes(&[pattern])), expected);
    }
    for spec in [&b""[..], b":x", b"a/b", b".."] {
        let options =
            SelectOptions { exclude_if_present: vec![spec.into()], ..SelectOptions::default() };
        assert!(error(&options).starts_with("bad --exclude-if-present"));
    }
}

#[test]
fn large_files_are_out_and_nothing_else_that_is_large() {
    let limit = Some(ByteSize(100));
    let selection =
        compile(&SelectOptions { exclude_larger_than: limit, ..SelectOptions::default() }, "/src");
    let mut scope = selection.enter(0, b"", |_, _| None);
    let sized = |kind, size| Facts { size, ..facts(kind) };
    assert_eq!(scope.decide(b"a", &sized(FILE, 100)), Decision::Include);
    assert_eq!(scope.decide(b"a", &sized(DIRECTORY, 101)), Decision::Include);
    assert!(matches!(
        scope.decide(b"a", &sized(FILE, 101)),
        Decision::Exclude(Reason::LargerThan { bytes: 100 })
    ));
}

#[test]
fn markers_keep_directory_and_marker_only() {
    let options = SelectOptions {
        exclude_caches: true,
        exclude_if_present: vec![b".nobackup".to_vec(), b"tag:v1:x".to_vec()],
        ..SelectOptions::default()
    };
    let selection = compile(&options, "/src");
    let check = |present: &str, content: &[u8], expected: bool| {
        let mut scope = selection.enter(0, b"sub", |name, bytes_max| {
            let found = name == present.as_bytes();
            found.then(|| content[..content.len().min(bytes_max)].to_vec())
        });
        let is_out = scope.decide(b"other", &facts(FILE)) != Decision::Include;
        assert_eq!(is_out, expected, "{present} {content:?}");
        assert_eq!(scope.content_excluded().is_some(), expected);
        assert_eq!(scope.decide(present.as_bytes(), &facts(FILE)), Decision::Include);
    };
    check("CACHEDIR.TAG", &[CACHE_TAG_HEADER, b"\n# made by"].concat(), true);
    check("CACHEDIR.TAG", b"Signature: 8a477f597d28d17", false);
    check("CACHEDIR.TAG", b"", false);
    check(".nobackup", b"", true);
    check(".nobackup", b"whatever", true);
    check("tag", b"v1:xyz", true);
    check("tag", b"v2", false);
    check("none", b"", false);
}

#[test]
fn what_cannot_be_examined_is_left_out_by_name_only() {
    let selection = compile(&excludes(&["x", "y/", "z*", "!z*/"]), "/src");
    let mut scope = selection.enter(0, b"", |_, _| None);
    let mut is_out = |name: &str| scope.decide_unseen(name.as_bytes()) != Decision::Include;
    assert_eq!(["x", "y", "z", "a"].map(&mut is_out), [true, false, false, false]);
}

const MOUNTS: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
    23 22 0:21 / /proc rw - proc proc rw\n\
    24 22 0:5 / /dev rw shared:2 master:3 - devtmpfs udev rw\n\
    25 22 0:30 / /run rw - tmpfs tmpfs rw\n\
    26 22 0:40 / /odd\\040name rw - fuse.portal portal rw\nnonsense\n";

fn device(major: u64, minor: u64) -> u64 {
    major << 32 | minor
}

#[test]
fn other_file_systems() {
    let file_systems = FileSystems::parse(MOUNTS);
    let options = SelectOptions { file_systems, ..SelectOptions::default() };
    let crossing = compile(&options, "/");
    let root = device(8, 1);
    let fs_type = |decision| match decision {
        Decision::Exclude(Reason::PseudoFileSystem { fs_type }) => *fs_type,
        Decision::Exclude(_) => "other",
        Decision::Include => "",
    };
    let types = [(8, 1), (0, 21), (0, 5), (0, 30), (0, 40), (9, 9)]
        .map(|(major, minor)| fs_type(crossing.descend(root, device(major, minor))));
    assert_eq!(types, ["", "proc", "devtmpfs", "", "fuse.portal", ""]);
    assert_eq!(crossing.descend(device(0, 21), device(0, 21)), Decision::Include);

    let staying = compile(
        &SelectOptions { one_file_system: true, named_devices: vec![device(9, 9)], ..options },
        "/",
    );
    assert_eq!(staying.descend(root, root), Decision::Include);
    assert_eq!(staying.descend(root, device(9, 9)), Decision::Include);
    assert_eq!(staying.descend(root, device(0, 30)), Decision::Exclude(&Reason::OtherFileSystem));
    assert_eq!(staying.descend(device(0, 30), device(0, 30)), Decision::Include);
}

#[test]
fn own_directories_are_out_even_as_a_source() {
    let own =
        OwnDirectory { path: "/src/repo".into(), file_id: (7, 42), holds: OwnContent::Repository };
    let options = SelectOptions { own_directories: vec![own], ..excludes(&["!repo"]) };
    let selection = compile(&options, "/src");
    let own = Facts { kind: DIRECTORY, size: 0, file_id: (7, 42) };
    let mut scope = selection.enter(0, b"", |_, _| None);
    let Decision::Exclude(reason) = scope.decide(b"bind-mounted", &own) else {
        panic!("the repository is in");
    };
    assert_eq!(reason.to_string(), "being the repository /src/repo itself");
    assert_eq!(selection.source(0, &own), Decision::Exclude(reason));
    let elsewhere = Facts { file_id: (8, 42), ..own };
    assert_eq!(scope.decide(b"repo", &elsewhere), Decision::Include);
}

#[test]
fn explanations() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("rules");
    std::fs::write(&file, "*.log\n/tmp/\n!keep.log\n").expect("rules are written");
    let options = SelectOptions {
        exclude_files: vec![file.clone()],
        exclude_caches: true,
        exclude_larger_than: Some(ByteSize(1000)),
        file_systems: FileSystems::parse(MOUNTS),
        ..excludes(&["/home/me/secret"])
    };
    let roots = ["/home".into(), "/home/me".into()];
    let selection = Selection::compile(&options, &roots).expect("rules compile");
    let root = device(8, 1);
    let mut world = World::default()
        .add("/home", DIRECTORY, root, b"")
        .add("/home/me", DIRECTORY, root, b"")
        .add("/home/me/a.log", FILE, root, b"x")
        .add("/home/me/keep.log", FILE, root, b"x")
        .add("/home/me/tmp", DIRECTORY, root, b"")
        .add("/home/me/tmp/keep.log", FILE, root, b"x")
        .add("/home/me/cache", DIRECTORY, root, b"")
        .add("/home/me/cache/CACHEDIR.TAG", FILE, root, CACHE_TAG_HEADER)
        .add("/home/me/cache/x", FILE, root, b"")
        .add("/home/me/big", FILE, root, &[0; 1001])
        .add("/home/me/proc", DIRECTORY, device(0, 21), b"")
        .add("/home/me/proc/1", DIRECTORY, device(0, 21), b"")
        .add("/home/me/fine", FILE, root, b"");
    let rules = file.display();
    let cases = [
        ("/home/me/fine", "included: no rule excludes it".into()),
        ("/home/me", "included: no rule excludes it".into()),
        ("/home/me/a.log", format!("excluded by pattern *.log ({rules}:1)")),
        ("/home/me/keep.log", format!("included again by pattern !keep.log ({rules}:3)")),
        (
            "/home/me/tmp/keep.log",
            format!(
                "excluded because its parent /home/me/tmp is excluded by pattern /tmp/ ({rules}:2); \
                 pattern !keep.log ({rules}:3) cannot include it again from there"
            ),
        ),
        (
            "/home/me/cache",
            "included, but its content is excluded by the file CACHEDIR.TAG beside it \
             (--exclude-caches)"
                .into(),
        ),
        ("/home/me/cache/CACHEDIR.TAG", "included: no rule excludes it".into()),
        (
            "/home/me/cache/x",
            "excluded because its parent /home/me/cache is excluded by the file CACHEDIR.TAG \
             beside it (--exclude-caches)"
                .into(),
        ),
        (
            "/home/me/big",
            "excluded by its size of more than 1000 bytes (--exclude-larger-than)".into(),
        ),
        (
            "/home/me/proc",
            "included, but its content is excluded by being a pseudo file system of type proc"
                .into(),
        ),
        (
            "/home/me/proc/1",
            "excluded because its parent /home/me/proc is excluded by being a pseudo file system \
             of type proc"
                .into(),
        ),
        ("/etc", "excluded: no source holds it (there is no such path now)".into()),
        ("/home/me/new/", "included: no rule excludes it (there is no such path now)".into()),
        (
            "/home/me/secret/x",
            "excluded because its parent /home/me/secret is excluded by pattern /home/me/secret \
             (--exclude) (there is no such path now)"
                .into(),
        ),
    ];
    for (path, expected) in cases {
        let explanation = selection.explain(Path::new(path), &mut world);
        assert_eq!(explanation.to_string(), format!("{path} is {expected}"));
    }
    let explanation = selection.explain(Path::new("/home/me/fine"), &mut world);
    assert_eq!(explanation.source, Some(Path::new("/home/me")));
}
