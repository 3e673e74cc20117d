use super::*;

#[test]
fn sizes_are_binary_and_exact() {
    let check = |text: &str, bytes: u64| assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
    check("0", 0);
    check("4096", 4096);
    check("4096b", 4096);
    check("10M", 10 << 20);
    check("10m", 10 << 20);
    check("1.5GiB", 3 << 29);
    check("0.1K", 102);
    check("2T", 2 << 40);
    check("18446744073709551615", u64::MAX);
    check("16777215.999999999999T", u64::MAX - 1);
    check("1.0000000000000000000000000000001K", 1024);
}

#[test]
fn other_sizes_are_refused() {
    for text in ["", "M", "-1", "1X", "1..5M", "1.", ".5M", "1.5.5", "10 M", "1e3", "١"] {
        let size: Result<ByteSize, _> = text.parse();
        assert_eq!(size, Err(ByteSizeError::Malformed(text.into())));
    }
    assert_eq!("10MB".parse::<ByteSize>(), Err(ByteSizeError::Ambiguous("10MB".into())));
    for text in ["18446744073709551616", "16777216T"] {
        assert_eq!(text.parse::<ByteSize>(), Err(ByteSizeError::TooLarge(text.into())));
    }
}
