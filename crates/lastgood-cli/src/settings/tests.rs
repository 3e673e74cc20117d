use super::*;

fn global(args: &[&str]) -> Global {
    let args = ["lastgood"].iter().chain(args).chain(&["version"]).map(OsString::from);
    crate::args::parse(args, &[]).unwrap().global
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment(variables.iter().map(|(key, value)| (key.into(), value.into())).collect())
}

#[test]
fn a_flag_beats_every_variable() {
    let check =
        |args: &[&str], variables: &[(&str, &str)], expected: Result<Option<KeySource>, &str>| {
            let found = key(&global(args), &environment(variables));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(part)) => {
                    let text = format!("{error:?}");
                    assert!(text.contains(part), "{text}");
                }
                (found, expected) => panic!("{args:?} {variables:?}: {found:?}, not {expected:?}"),
            }
        };
    let file = |path: &str| Ok(Some(KeySource::PasswordFile(path.into())));
    check(&[], &[], Ok(None));
    check(&["-p", "a"], &[("LASTGOOD_KEY_FILE", "k"), ("LASTGOOD_PASSWORD", "p")], file("a"));
    check(&[], &[("LASTGOOD_PASSWORD_FILE", "b")], file("b"));
    check(&["-p", "a", "--key-file", "k"], &[], Err("both given"));
    check(&[], &[("LASTGOOD_PASSWORD", "p"), ("LASTGOOD_PASSWORD_FD", "3")], Err("both given"));
    check(&[], &[("LASTGOOD_PASSWORD", "")], Err("set but empty"));
    check(&[], &[("LASTGOOD_PASSWORD_FD", "three")], Err("no number"));
}

#[test]
fn the_repository_is_named_once() {
    let found = |args: &[&str], variables: &[(&str, &str)]| {
        repository(&global(args), &environment(variables))
    };
    assert_eq!(found(&[], &[]).unwrap(), None);
    assert_eq!(found(&["-r", "/a"], &[("LASTGOOD_REPOSITORY", "/b")]).unwrap(), Some("/a".into()));
    assert_eq!(found(&[], &[("LASTGOOD_REPOSITORY", "/b")]).unwrap(), Some("/b".into()));
    found(&[], &[("LASTGOOD_REPOSITORY", "")]).unwrap_err();
    found(&["-r", "/a", "--repository-file", "/f"], &[]).unwrap_err();
}

#[test]
fn folders_follow_the_specification() {
    let of = |variables: &[(&str, &str)]| home(&global(&[]), &environment(variables)).unwrap();
    let plain = of(&[("HOME", "/home/a")]);
    assert_eq!(plain.data, Path::new("/home/a/.local/share/lastgood"));
    assert_eq!(plain.cache, Path::new("/home/a/.cache/lastgood"));
    assert_eq!(plain.state, Path::new("/home/a/.local/state/lastgood"));
    let moved = of(&[("HOME", "/home/a"), ("XDG_DATA_HOME", "/d"), ("XDG_CACHE_HOME", "relative")]);
    assert_eq!(moved.data, Path::new("/d/lastgood"));
    assert_eq!(moved.cache, plain.cache);
}
