//! How a run was started. Spec: `docs/format/trace.md`, section 4.

use std::path::PathBuf;

use lastgood_repo::Settings;
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::encoding::{DecodeError, Reader, Record, RecordWriter, Write};
use lastgood_repo::format::entry::Timestamp;
use lastgood_repo::format::id::SnapshotId;
use lastgood_repo::format::parity::ParityShare;

use super::exchange::{decode_path, decode_text, decode_time, encode_path, encode_time};
use crate::backup::{BackupOptions, Parent};
use crate::select::{ByteSize, OwnContent, OwnDirectory, SelectOptions};

/// What a run begins with, beside its repository and its source.
#[derive(Debug)]
pub(super) struct Start {
    /// When the trace was begun.
    pub(super) begun: Timestamp,
    /// Where the repository is, as messages say.
    pub(super) location: String,
    /// Name of the writer.
    pub(super) writer: [u8; 16],
    /// What this host remembers of the repository.
    pub(super) last_seen: Option<Vec<u8>>,
    /// What to back up, and how; `state` is not among it.
    pub(super) options: BackupOptions,
}

impl Start {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { begun, location, writer, last_seen, options } = self;
        let mut record = RecordWriter::default();
        record.field(1, &time(*begun)).field(2, location.as_bytes()).field(3, writer);
        if let Some(bytes) = last_seen {
            record.field(4, bytes);
        }
        record
            .field(5, &list(&options.sources, |path, out| encode_path(path, out)))
            .field(6, &select(&options.select));
        match options.parent {
            Parent::Auto => {}
            Parent::None => drop(record.field(7, &[])),
            Parent::Id(id) => drop(record.field(7, id.as_bytes())),
        }
        record
            .field(8, options.host.as_bytes())
            .field(9, &options.host_id)
            .field(10, options.user.as_bytes())
            .field(11, &list(&options.tags, |tag, out| out.bytes(tag.as_bytes())));
        if let Some(of_snapshot) = options.time {
            record.field(12, &time(of_snapshot));
        }
        if let Some(chunker) = options.chunker {
            record.field(13, &chunker.to_bytes());
        }
        record
            .field(14, &settings(&options.settings))
            .field(15, &[u8::from(options.force), u8::from(options.skip_if_unchanged)]);
        if let Some(seconds) = options.partial_every_seconds {
            record.integer(16, seconds.cast_unsigned());
        }
        record.field(17, options.program.as_bytes());
        record.finish()
    }

    /// Reads it; `state` is the folder of the options.
    pub(super) fn decode(bytes: &[u8], state: PathBuf) -> Result<Self, DecodeError> {
        let record = Record::parse(bytes, "how the run was started")?;
        let [force, skip_if_unchanged] = record.array(15)?.map(|flag: u8| flag != 0);
        let options = BackupOptions {
            select: decode_select(&mut record.reader(6)?)?,
            parent: match record.optional(7) {
                None => Parent::Auto,
                Some([]) => Parent::None,
                Some(_) => Parent::Id(SnapshotId::new(record.array(7)?)),
            },
            host: record.text(8)?,
            host_id: record.array(9)?,
            user: record.text(10)?,
            tags: decode_list(&mut record.reader(11)?, decode_text)?,
            time: record.optional(12).map(|_| decode_time(&mut record.reader(12)?)).transpose()?,
            chunker: record.optional_array(13)?.map(ChunkerParams::from_bytes).transpose()?,
            settings: decode_settings(&mut record.reader(14)?)?,
            threads: 1,
            force,
            skip_if_unchanged,
            partial_every_seconds: match record.optional(16) {
                Some(_) => Some(record.integer(16)?.cast_signed()),
                None => None,
            },
            program: record.text(17)?,
            ..BackupOptions::new(decode_list(&mut record.reader(5)?, decode_path)?, state)
        };
        Ok(Self {
            begun: decode_time(&mut record.reader(1)?)?,
            location: record.text(2)?,
            writer: record.array(3)?,
            last_seen: record.optional(4).map(<[u8]>::to_vec),
            options,
        })
    }
}

fn time(time: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    encode_time(time, &mut out);
    out
}

fn list<T>(items: &[T], encode: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    push_list(items, encode, &mut out);
    out
}

fn push_list<T>(items: &[T], encode: impl Fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.varint(items.len() as u64);
    items.iter().for_each(|item| encode(item, out));
}

fn decode_list<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(usize::MAX, 1)?;
    (0..count).map(|_| decode(reader)).collect()
}

/// The rules, but for what is mounted, which is looked up again.
fn select(rules: &SelectOptions) -> Vec<u8> {
    let mut out = Vec::new();
    push_list(&rules.exclude_files, |path, out| encode_path(path, out), &mut out);
    for patterns in [&rules.excludes, &rules.iexcludes] {
        push_list(patterns, |pattern, out| out.bytes(pattern.as_bytes()), &mut out);
    }
    push_list(&rules.exclude_if_present, |marker, out| out.bytes(marker), &mut out);
    let larger_than: Vec<u64> = rules.exclude_larger_than.iter().map(|size| size.0).collect();
    push_list(&larger_than, |bytes, out| out.varint(*bytes), &mut out);
    out.extend([u8::from(rules.exclude_caches), u8::from(rules.one_file_system)]);
    push_list(&rules.named_devices, |device, out| out.varint(*device), &mut out);
    let own = |own: &OwnDirectory, out: &mut Vec<u8>| {
        encode_path(&own.path, out);
        out.varint(own.file_id.0);
        out.varint(own.file_id.1);
        out.push(u8::from(own.holds == OwnContent::Cache));
    };
    push_list(&rules.own_directories, own, &mut out);
    out
}

fn decode_select(reader: &mut Reader<'_>) -> Result<SelectOptions, DecodeError> {
    Ok(SelectOptions {
        exclude_files: decode_list(reader, decode_path)?,
        excludes: decode_list(reader, decode_text)?,
        iexcludes: decode_list(reader, decode_text)?,
        exclude_if_present: decode_list(reader, |reader| {
            Ok(reader.bytes(reader.left())?.to_vec())
        })?,
        exclude_larger_than: decode_list(reader, |reader| reader.varint())?
            .first()
            .copied()
            .map(ByteSize),
        exclude_caches: reader.u8()? != 0,
        one_file_system: reader.u8()? != 0,
        named_devices: decode_list(reader, |reader| reader.varint())?,
        own_directories: decode_list(reader, |reader| {
            let path = decode_path(reader)?;
            let file_id = (reader.varint()?, reader.varint()?);
            let holds = if reader.u8()? == 0 { OwnContent::Repository } else { OwnContent::Cache };
            Ok(OwnDirectory { path, file_id, holds })
        })?,
        ..SelectOptions::default()
    })
}

fn settings(settings: &Settings) -> Vec<u8> {
    let mut out = Vec::new();
    let level: Vec<i32> = settings.level.into_iter().collect();
    push_list(&level, |level, out| out.zigzag((*level).into()), &mut out);
    out.varint(settings.group_bytes as u64);
    out.varint(settings.pack_bytes as u64);
    out.extend(<[u8; 2]>::from(settings.parity.shards()));
    out
}

fn decode_settings(reader: &mut Reader<'_>) -> Result<Settings, DecodeError> {
    let level = decode_list(reader, |reader| reader.zigzag())?.first().copied();
    let level = level.map(i32::try_from).transpose();
    Ok(Settings {
        level: level.map_err(|_| reader.invalid("there is no such level"))?,
        group_bytes: reader.varint_max(usize::MAX)?,
        pack_bytes: reader.varint_max(usize::MAX)?,
        parity: match reader.array()? {
            [_, 0] => ParityShare::NONE,
            [data, parity] => ParityShare::new(data, parity)
                .ok_or_else(|| reader.invalid("there is no such share of parity"))?,
        },
        uploads: 0,
    })
}
