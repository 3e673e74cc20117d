use lastgood_testkit::campaign::{attempt, each_seed, first_failure};

/// Two of ten seeds fail, one of them by a panic.
fn run(seed: u64, figures: &mut u64) -> Result<(), String> {
    *figures += seed;
    match seed {
        3 => Err("three is not liked\nfor many reasons".to_owned()),
        7 => panic!("seven is worse"),
        _ => Ok(()),
    }
}

#[test]
fn no_seed_ends_the_others_and_all_that_failed_are_named() {
    let campaign = each_seed(0..10, run);
    assert_eq!(campaign.figures.len(), 10);
    assert_eq!((campaign.figures.iter().sum::<u64>(), campaign.failed()), (45, 2));
    let told = attempt(|| {
        campaign.end();
        Ok(())
    });
    let expected = "2 seeds failed: [3, 7]\nseed 3: three is not liked\nfor many reasons";
    assert_eq!(told, Err(format!("panicked: {expected}")));
    each_seed(0..3, run).end();
}

#[test]
fn the_first_failure_ends_a_search() {
    // To run all of them takes longer than anybody waits.
    let found = first_failure(7..u64::MAX, |seed| run(seed, &mut 0));
    assert_eq!(found, Some((7, "panicked: seven is worse".to_owned())));
    assert_eq!(first_failure(8..20, |seed| run(seed, &mut 0)), None);
}
