use super::*;

#[test]
fn a_path_that_does_not_exist_yet_counts_as_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    assert!(same_device(dir.path(), &deep).unwrap());
    assert_eq!(space(&deep).unwrap().total, space(dir.path()).unwrap().total);
    assert!(space(dir.path()).unwrap().available > 0);
    assert_eq!(nearest_existing(&deep), dir.path());
    assert_eq!(nearest_existing(Path::new("no such thing")), Path::new("."));
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(nearest_existing(&dir.path().join("file/below")), dir.path().join("file"));
}

#[test]
fn other_file_systems_are_told_apart() {
    assert!(!same_device(Path::new("/proc"), Path::new("/")).unwrap());
    assert_eq!(file_system_name(Path::new("/proc")).unwrap(), Some("proc"));
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let limit = raise_open_file_limit().unwrap();
    assert_eq!(raise_open_file_limit().unwrap(), limit);
    assert!(limit >= 256);
}
