use super::*;

#[test]
fn text_and_bytes_round_trip_and_strangers_are_refused() {
    let id = SessionId::new(*b"0123456789abcdef");
    let text = id.to_string();
    assert_eq!(text, "30313233343536373839616263646566");
    assert_eq!(text.parse::<SessionId>(), Ok(id));
    for bad in ["", "30", &text[1..], &text.to_uppercase().replace("30", "3A"), &format!("{text}0")]
    {
        assert!(bad.parse::<SessionId>().is_err(), "{bad}");
    }
}
