use super::*;

#[test]
fn accounts_are_found_both_ways() {
    let accounts = Accounts::parse(
        b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nann:x:1000:1000::/:\nann:x:1001:1::\n",
        b"root:x:0:\nwheel:x:10:ann,bob\nlast:x:4294967294:",
    );
    assert_eq!(accounts.user_name(0), Some(&b"root"[..]));
    assert_eq!(accounts.user_id(b"toor"), Some(0));
    assert_eq!(accounts.user_id(b"ann"), Some(1000));
    assert_eq!(accounts.user_name(1001), Some(&b"ann"[..]));
    assert_eq!(accounts.user_name(7), None);
    assert_eq!(accounts.group_name(10), Some(&b"wheel"[..]));
    assert_eq!(accounts.group_id(b"last"), Some(4_294_967_294));
    assert_eq!(accounts.group_id(b"ann"), None);
}

#[test]
fn lines_that_are_not_understood_are_passed_over() {
    let file = b"\n:\n::\n# a:b:1\nnone:x\nbad:x:nine\nneg:x:-1\nbig:x:4294967296\n:x:5\n+::9::\n\xff\xfe:x:3:\nok:x:4";
    let accounts = Accounts::parse(file, file);
    assert_eq!(accounts.user_name(3), Some(&b"\xff\xfe"[..]));
    assert_eq!(accounts.user_id(b"ok"), Some(4));
    for id in [0, 1, 5, 9] {
        assert_eq!(accounts.user_name(id), None);
    }
}

#[test]
fn this_host_has_a_name_and_a_root() {
    assert!(!host_name().is_empty());
    assert_eq!(Accounts::read().unwrap().user_name(0), Some(&b"root"[..]));
}
