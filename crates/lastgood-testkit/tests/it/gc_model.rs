use lastgood_testkit::campaign::tell;
use lastgood_testkit::gc_model::cases::{CASES, Case};

fn check(is_meant: impl Fn(&Case) -> bool) {
    let mut wrong = Vec::new();
    for case in CASES.iter().filter(|case| !case.is_long && is_meant(case)) {
        let search = case.search();
        if let (true, Some((what, trace))) = (case.is_mutated(), &search.violation) {
            tell(&format!("seeded bug {}: {what}, after {} steps", case.name, trace.len()));
        }
        wrong.extend(case.judge(&search).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_protocol_loses_nothing() {
    check(|case| !case.is_mutated());
}

#[test]
fn the_eight_known_mistakes_are_found() {
    let is_known = |case: &Case| case.name.starts_with('M') && case.is_mutated();
    assert_eq!(CASES.iter().filter(|case| is_known(case)).count(), 8);
    check(is_known);
}

#[test]
fn mistakes_in_what_was_added_are_found() {
    check(|case| case.is_mutated() && !case.name.starts_with('M'));
}

#[test]
fn the_search_knows_every_state_of_the_first_one() {
    // The figure of an independent program, in another language, for the same bounds.
    let case = CASES.iter().find(|case| case.name.starts_with("2 writers, 1 collector"));
    assert_eq!(case.unwrap().search().state_count, 901_685);
}
