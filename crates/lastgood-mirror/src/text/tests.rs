use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn every_field_comes_back_and_is_one_word_of_a_line(field: Vec<u8>) {
        let mut escaped = Vec::new();
        escape(&field, &mut escaped);
        prop_assert!(!escaped.is_empty());
        prop_assert!(!escaped.iter().any(|&byte| byte < b' ' || byte == 0x7f));
        prop_assert_eq!(unescape(&escaped), Some(field));
    }
}

#[test]
fn a_text_with_any_changed_or_missing_byte_is_refused() {
    let mut writer = Writer::new("test");
    writer.line(&[b"a", b"", b"-", b"tab\t"]);
    let (text, seal) = writer.finish();
    let reader = Reader::open("test", &text).unwrap();
    assert_eq!(reader.seal(), seal);
    let lines: Vec<_> = reader.lines().collect::<Result<_, _>>().unwrap();
    assert_eq!(lines, [(3, vec![b"a".to_vec(), Vec::new(), b"-".to_vec(), b"tab\t".to_vec()])]);
    for at in 0..text.len() {
        Reader::open("test", &text[..at]).unwrap_err();
        for bit in 0..8 {
            let mut bad = text.clone();
            bad[at] ^= 1 << bit;
            Reader::open("test", &bad).unwrap_err();
        }
    }
    assert_eq!(Reader::open("other", &text).unwrap_err(), TextError::Kind("other"));
}

#[test]
fn what_must_be_known_is_refused_by_name() {
    let sealed = |text: &str| format!("{text}seal\t{}\n", Seal(sha256(text.as_bytes())));
    let open = |text: &str| Reader::open("test", sealed(text).as_bytes()).map(drop);
    assert_eq!(open("lastgood-mirror\t1\ttest\nfeatures\t-\tquick\tx\n"), Ok(()));
    assert_eq!(
        open("lastgood-mirror\t1\ttest\nfeatures\tpatches\t-\t-\n"),
        Err(TextError::Feature("patches".to_owned()))
    );
    assert_eq!(
        open("lastgood-mirror\t2\ttest\nfeatures\t-\t-\t-\n"),
        Err(TextError::Feature("format 2".to_owned()))
    );
}
