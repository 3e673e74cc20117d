//! `lastgood check`.

use lastgood::check::{self, CheckOptions, CheckReport, ReadData};
use lastgood::select::ByteSize;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::failure::{Code, Failure};
use crate::text;

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read and verify every byte that is stored
    #[arg(long, conflicts_with = "read_data_subset")]
    read_data: bool,
    /// Read a part: N/T is part N of T, X% a random share, or a SIZE such as 10G at random
    #[arg(long, value_name = "N/T|X%|SIZE", value_parser = subset)]
    read_data_subset: Option<ReadData>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    threads: usize,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let read_data = match (self.read_data, self.read_data_subset) {
            (true, _) => ReadData::All,
            (false, Some(subset)) => subset,
            (false, None) => ReadData::No,
        };
        let repo = app.open()?;
        let options = CheckOptions { read_data, threads: self.threads };
        let report = app.run(check::start(repo, options))?;
        show(app, &report);
        if report.damage.is_empty() {
            return mendable(app, &report);
        }
        let count = text::count(report.damage.len() as u64, "damaged object");
        let failure = Failure::new(Code::Damaged, format!("the repository has {count}"));
        let hints = app.hints();
        Err(failure.hint(match report.affected.is_empty() {
            true => {
                "no file of a snapshot is affected; back up again to store anew what is missing"
                    .to_owned()
            }
            false => format!(
                "where there is a copy of the repository or the files, take what is lost from \
                 there: {}; or back up again while the originals are there, which stores anew what \
                 is missing; all that is not listed here can be restored",
                hints.command("repair --from COPY")
            ),
        }))
    }
}

/// Damage that costs nothing yet is damage.
fn mendable(app: &App<'_>, report: &CheckReport) -> Result<(), Failure> {
    if report.mendable.is_empty() {
        return Ok(());
    }
    let count = text::count(report.mendable.len() as u64, "damaged object");
    let failure = Failure::new(Code::Damaged, format!("the repository has {count}"));
    let repair = app.hints().command("repair");
    Err(failure.hint(format!("nothing is lost; store it whole again with: {repair}")))
}

fn show(app: &App<'_>, report: &CheckReport) {
    let out = app.out;
    for (snapshot, path) in &report.affected {
        let id = text::short(snapshot);
        out.line(match path.is_empty() {
            true => format!("damaged: snapshot {id}"),
            false => format!("damaged: snapshot {id}: {}", text::escaped(path)),
        });
    }
    if !out.is_json() {
        report.remarks.iter().for_each(|remark| out.note(remark));
    }
    let affected = report.affected.iter().map(|(snapshot, path)| {
        let mut fields = Map::new();
        fields.insert("snapshot_id".to_owned(), snapshot.to_string().into());
        text::put_path(&mut fields, "path", path);
        Value::from(fields)
    });
    out.json(
        "summary",
        json!({
            "snapshots_count": report.snapshots,
            "packs_count": report.packs,
            "blobs_count": report.blobs,
            "pack_bytes": report.pack_bytes,
            "packs_read": report.packs_read,
            "bytes_read": report.bytes_read,
            "packs_unneeded": report.packs_unneeded,
            "sessions_open": report.sessions_open,
            "error_count": report.damage.len(),
            "mendable": report.mendable,
            "affected": affected.collect::<Vec<_>>(),
            "remarks": report.remarks,
        }),
    );
    out.info(format!(
        "checked {}, {} in {}, {}",
        text::count(report.snapshots, "snapshot"),
        text::count(report.blobs, "blob"),
        text::count(report.packs, "pack"),
        text::size(report.pack_bytes)
    ));
    if report.packs_read > 0 {
        let packs = text::count(report.packs_read, "pack");
        out.info(format!("read and verified {packs}, {}", text::size(report.bytes_read)));
    }
    if report.sessions_open > 0 {
        let sessions = text::count(report.sessions_open, "run");
        out.info(format!("{sessions} running now, or interrupted: nothing of them is lost"));
    }
    if report.packs_unneeded > 0 {
        let packs = text::count(report.packs_unneeded, "pack");
        out.info(format!("{packs} not needed by any snapshot yet"));
    }
    if report.damage.is_empty() && report.mendable.is_empty() {
        let how = match report.packs_read {
            0 => "no damage found; with --read-data every byte is looked at",
            read if read + report.packs_unneeded < report.packs => {
                "no damage found in what was read"
            }
            _ => "no damage found",
        };
        out.info(how);
    }
}

fn subset(text: &str) -> Result<ReadData, String> {
    let bad =
        || "write N/T with 1 <= N <= T, a share such as 2.5%, or a size such as 10G".to_owned();
    if let Some((n, t)) = text.split_once('/') {
        let (n, t): (u64, u64) = (n.parse().map_err(|_| bad())?, t.parse().map_err(|_| bad())?);
        return if (1..=t).contains(&n) { Ok(ReadData::Part { n, t }) } else { Err(bad()) };
    }
    if let Some(share) = text.strip_suffix('%') {
        let share: f64 = share.parse().map_err(|_| bad())?;
        let is_share = share > 0.0 && share <= 100.0;
        return if is_share { Ok(ReadData::Share(share / 100.0)) } else { Err(bad()) };
    }
    text.parse::<ByteSize>().map(|size| ReadData::Bytes(size.0)).map_err(|_| bad())
}
