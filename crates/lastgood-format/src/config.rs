//! The config: what is read first, before any key is at hand.
//! Spec: `docs/format/config.md`.

use crate::chunker::RecordedChunker;
use crate::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use crate::id::RepositoryId;
use crate::key::{KeyError, PublicKey, RepositoryKeys};
use crate::limits::SMALL_OBJECT_BYTES_MAX;

/// Identity and features of a repository. Written once, by `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Random name of the repository.
    pub repository: RepositoryId,
    /// Public half of the root's signing key.
    pub root: PublicKey,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// Features that a program must know to open the repository at all.
    pub required: Vec<String>,
    /// Features that a program must know to write, and may ignore to read.
    pub read_compatible: Vec<String>,
    /// Features that a program may ignore.
    pub optional: Vec<String>,
    /// Chunker of new snapshots unless a run says otherwise.
    pub chunker: RecordedChunker,
}

/// Something that a repository may have beyond what every program of format 1 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its name, as it is stored.
    pub name: &'static str,
    /// What a program that does not know it may do.
    pub set: FeatureSet,
    /// What it brings, for people.
    pub brings: &'static str,
}

/// The feature without which no chunk is stored as a change of another. Spec: pack §6
pub const DELTAS: &str = "deltas";

/// What a program may do with a repository that has a feature it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureSet {
    /// Nothing.
    Required,
    /// Read.
    ReadCompatible,
    /// Everything.
    Optional,
}

impl Feature {
    /// Every feature that this program knows.
    pub const KNOWN: &[Self] = &[
        Self {
            name: crate::revision::ROTATED_ROOTS,
            set: FeatureSet::Required,
            brings: "the root secret can be rotated (lastgood key rotate)",
        },
        Self {
            name: DELTAS,
            set: FeatureSet::Required,
            brings: "a chunk can be stored as a change of another",
        },
    ];

    /// The feature of a name, if this program knows it.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::KNOWN.iter().find(|feature| feature.name == name)
    }

    /// Whether this program knows a feature.
    #[must_use]
    pub fn is_known(name: &str) -> bool {
        Self::named(name).is_some()
    }

    /// # Errors
    /// [`ConfigError::UnknownFeature`] names the first that this program does not know.
    pub(crate) fn refuse_unknown(required: &[String]) -> Result<(), ConfigError> {
        match required.iter().find(|name| !Self::is_known(name)) {
            Some(feature) => Err(ConfigError::UnknownFeature(feature.clone())),
            None => Ok(()),
        }
    }
}

impl Config {
    /// The stored form, signed by the root.
    #[must_use]
    pub fn encode(&self, keys: &RepositoryKeys) -> Vec<u8> {
        let mut record = RecordWriter::default();
        record
            .field(1, &encode_names(&self.required))
            .field(2, &encode_names(&self.read_compatible))
            .field(3, &encode_names(&self.optional))
            .field(4, self.repository.as_bytes())
            .field(5, &self.root.0)
            .field(6, &self.created.to_le_bytes())
            .field(7, &self.chunker.0);
        let mut out = [&MAGIC[..], &record.finish()].concat();
        let signature = keys.root_signer().sign(CONTEXT, &[&out]);
        out.extend_from_slice(&signature);
        out
    }

    /// Parses the stored form, checks its features, and its signature against the root key inside.
    /// Once the root secret is known, [`History::keys`](crate::revision::History::keys) checks that
    /// key as well.
    ///
    /// # Errors
    /// [`ConfigError::UnknownFeature`] names a required feature this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(bytes, "config");
        let magic: [u8; 8] = reader.array()?;
        if magic[..6] != MAGIC[..6]
            || magic[7] != MAGIC[7]
            || bytes.len() as u64 > SMALL_OBJECT_BYTES_MAX
        {
            return Err(reader.invalid("this is not a lastgood repository").into());
        }
        if magic[6] != MAGIC[6] {
            return Err(DecodeError::TooNew { what: "config", version: magic[6], known: 1 }.into());
        }
        let length = reader.left().saturating_sub(64);
        let record = Record::parse(reader.take(length)?, "config")?;
        // Features come first: a later format may have changed the meaning of all that follows.
        let required = decode_names(record.reader(1)?)?;
        Feature::refuse_unknown(&required)?;
        let signature = reader.array()?;
        let config = Self {
            required,
            read_compatible: decode_names(record.reader(2)?)?,
            optional: decode_names(record.reader(3)?)?,
            repository: RepositoryId::new(record.array(4)?),
            root: PublicKey(record.array(5)?),
            created: i64::from_le_bytes(record.array(6)?),
            chunker: RecordedChunker(record.array(7)?),
        };
        let signed = bytes.get(..bytes.len().saturating_sub(64)).unwrap_or_default();
        config.root.verify(CONTEXT, &[signed], &signature).map_err(ConfigError::Key)?;
        Ok(config)
    }
}

/// Why a config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It names a required feature of a later release.
    #[error(
        "the repository requires the feature {0:?}, which this version of lastgood does not know"
    )]
    UnknownFeature(String),
    /// Its signature does not fit.
    #[error("the config was changed after it was written")]
    Key(#[source] KeyError),
    /// It is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

pub(crate) fn encode_names(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    out.varint(names.len() as u64);
    names.iter().for_each(|name| out.bytes(name.as_bytes()));
    out
}

pub(crate) fn decode_names(mut reader: Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = reader.count(1024, 1)?;
    let names = (0..count)
        .map(|_| {
            String::from_utf8(reader.bytes(255)?.to_vec())
                .map_err(|_| DecodeError::invalid("config", "the name of a feature is not UTF-8"))
        })
        .collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(names)
}

const MAGIC: [u8; 8] = *b"lgconf\x01\n";
const CONTEXT: &str = "config";

#[cfg(test)]
mod tests;
