use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::chunker::ChunkerParams;
use crate::key::Secret;
use crate::revision::History;
use crate::samples::{keys, other_keys, refuses_damage};

fn config() -> Config {
    let keys = keys();
    Config {
        repository: keys.repository(),
        root: keys.root_signer().public(),
        created: 1_795_000_000,
        required: Vec::new(),
        read_compatible: vec!["written-another-way".into()],
        optional: vec!["nice-to-have".into()],
        chunker: ChunkerParams::Fixed { block: 65_536 }.into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn configs_read_back(
        created in any::<i64>(),
        read_compatible in vec(".{0,20}", 0..4),
        optional in vec(".{0,20}", 0..4),
    ) {
        let config = Config { created, read_compatible, optional, ..config() };
        let bytes = config.encode(&keys());
        let decoded = Config::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &config);
        prop_assert_eq!(decoded.encode(&keys()), bytes);
        let history = History::new(decoded);
        prop_assert!(history.keys(keys().root().clone()).is_ok());
        prop_assert_eq!(history.keys(Secret::new([1; 32])).err(), Some(KeyError::WrongKey));
    }
}

#[test]
fn damaged_configs_are_refused() {
    refuses_damage(&config().encode(&keys()), |bytes| Config::decode(bytes).is_ok());
}

#[test]
fn unknown_required_features_are_refused_by_name() {
    let required = vec!["time-travel".into()];
    let bytes = Config { required, ..config() }.encode(&keys());
    let error = Config::decode(&bytes).unwrap_err();
    assert_eq!(error, ConfigError::UnknownFeature("time-travel".into()));
    assert!(error.to_string().contains("time-travel"), "{error}");
    // To write is another matter than to read.
    assert_eq!(History::new(config()).unknown_to_writers(), Some("written-another-way"));
}

#[test]
fn a_later_version_says_so() {
    let mut bytes = config().encode(&keys());
    bytes[6] = 2;
    let too_new = DecodeError::TooNew { what: "config", version: 2, known: 1 };
    assert_eq!(Config::decode(&bytes), Err(ConfigError::Decode(too_new)));
}

#[test]
fn a_config_signed_by_another_root_is_refused() {
    let forged = Config { root: keys().root_signer().public(), ..config() }.encode(&other_keys());
    assert_eq!(Config::decode(&forged), Err(ConfigError::Key(KeyError::Signature)));
}
