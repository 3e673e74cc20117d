use super::*;

#[test]
fn sizes_and_durations_are_short() {
    assert_eq!(size(0), "0 B");
    assert_eq!(size(1023), "1023 B");
    assert_eq!(size(1024), "1.000 KiB");
    assert_eq!(size(1_500_000), "1.431 MiB");
    assert_eq!(size(u64::MAX), "16.000 EiB");
    assert_eq!(short_size(1_500_000), "1.4 MiB");
    assert_eq!(short_size(12), "12 B");
    assert_eq!(duration(7.4), "0:07");
    assert_eq!(duration(3723.0), "1:02:03");
    assert_eq!(count(1, "entry"), "1 entry");
    assert_eq!(count(2, "entry"), "2 entries");
    assert_eq!(count(0, "file"), "0 files");
}

#[test]
fn times_keep_their_nanoseconds_on_both_sides_of_1970() {
    let check = |seconds, nanos, text: &str| {
        let time = Timestamp { seconds, nanos };
        assert_eq!(time_json(time), text);
        if !text.starts_with('@') {
            assert_eq!(parse_time(text), Ok(time));
        }
    };
    check(0, 0, "1970-01-01T00:00:00Z");
    check(-1, 999_999_999, "1969-12-31T23:59:59.999999999Z");
    check(1_000_000_000, 1, "2001-09-09T01:46:40.000000001Z");
    check(i64::MAX, 5, "@9223372036854775807.000000005");
    assert!(parse_time("yesterday-ish").is_err());
}

#[test]
fn paths_that_are_not_utf8_come_with_their_bytes() {
    let mut fields = Map::new();
    put_path(&mut fields, "path", b"a\xffb");
    assert_eq!(fields["path"], "a\u{fffd}b");
    assert_eq!(fields["path_bytes"], "61ff62");
    put_path(&mut fields, "other", "ü".as_bytes());
    assert!(!fields.contains_key("other_bytes"));
}

#[test]
fn nothing_steers_the_terminal() {
    assert_eq!(escaped(b"a\x1b[2Jb\xff\n"), "a\\u{1b}[2Jb\\xff\\n");
    assert_eq!(escaped("grün".as_bytes()), "grün");
}

#[test]
fn modes_look_as_in_ls() {
    assert_eq!(mode('-', 0o644), "-rw-r--r--");
    assert_eq!(mode('d', 0o1777), "drwxrwxrwt");
    assert_eq!(mode('-', 0o6744), "-rwsr-Sr--");
}

#[test]
fn words_are_quoted_when_they_must_be() {
    assert_eq!(quoted("/a/b"), "/a/b");
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted(""), "''");
}

#[test]
fn moments_are_days_or_so_long_ago() {
    let now = Timestamp { seconds: 1_800_000_000, nanos: 5 };
    assert_eq!(parse_moment("2h", now), Some(Timestamp { seconds: 1_799_992_800, nanos: 5 }));
    let day = parse_moment("2026-11-21", now).unwrap();
    assert_eq!(Ok(day), parse_time("2026-11-21 23:59:59.999999999"));
    assert!(parse_moment("1m", now).unwrap() < parse_moment("1w", now).unwrap());
    assert_eq!(parse_moment("3x", now), None);
    assert_eq!(parse_moment("", now), None);
}

#[test]
fn base64_is_padded() {
    let texts = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="];
    for (length, text) in texts.iter().enumerate() {
        assert_eq!(base64(&b"foob"[..length]), *text);
    }
}
