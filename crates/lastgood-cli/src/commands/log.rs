//! `lastgood log`.

use lastgood::log::{self, Ending, LogRecord};
use lastgood::{Timestamp, system};
use serde_json::json;

use crate::app::App;
use crate::failure::{Code, Failure};
use crate::table::{Align, Table};
use crate::text;

/// Flags of `log`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fail when a record is damaged, missing, or not the one that should be there
    #[arg(long)]
    verify: bool,
    /// Only what was done by these verbs
    #[arg(long, value_name = "VERB[,VERB]", value_delimiter = ',')]
    verb: Vec<String>,
    /// Only what began at this time or later, such as 2026-11-01 or 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what began before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let (since, until) = (moment(self.since.as_deref())?, moment(self.until.as_deref())?);
        let repo = app.open()?;
        let log = log::read(&repo)?;
        let mut records = log.records;
        let count = records.len() as u64;
        records.retain(|record| {
            (self.verb.is_empty() || self.verb.contains(&record.verb))
                && since.is_none_or(|since| record.began >= since)
                && until.is_none_or(|until| record.began < until)
        });
        let first = records.len().saturating_sub(self.latest.unwrap_or(usize::MAX));
        let mut table = Table::new(&[
            ("Time", Align::Left),
            ("What", Align::Left),
            ("Result", Align::Left),
            ("Host", Align::Left),
            ("User", Align::Left),
            ("Snapshots", Align::Left),
            ("Counts", Align::Left),
        ]);
        for record in &records[first..] {
            app.out.json("log_record", json(record));
            table.row(row(record));
        }
        app.out.lines(table.lines());
        let problems: Vec<String> = log
            .problems
            .into_iter()
            .map(|error| Failure::from(lastgood::Error::from(error)).text())
            .collect();
        problems.iter().for_each(|problem| app.out.warn(problem));
        let summary = json!({
            "records_count": records.len() - first,
            "records_read": count,
            "problems": problems,
        });
        app.out.json("summary", summary);
        match problems.len() as u64 {
            0 if self.verify => app.out.info(format!("verified {}", text::count(count, "record"))),
            bad if bad > 0 && self.verify => {
                let message = format!("the log has {}", text::count(bad, "problem"));
                return Err(Failure::new(Code::Damaged, message));
            }
            _ => {}
        }
        Ok(())
    }
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let now = system::world().clock.now();
    let parse = |text: &str| {
        text::parse_moment(text, now).ok_or_else(|| {
            Failure::usage(format!("{text:?} is not a time, as in 2026-11-01 or 3d"))
        })
    };
    text.map(parse).transpose()
}

fn result(ending: Ending) -> String {
    match ending {
        Ending::Done => "done".to_owned(),
        Ending::Incomplete => "incomplete".to_owned(),
        Ending::Failed => "failed".to_owned(),
        Ending::Cancelled => "cancelled".to_owned(),
        Ending::Other(number) => format!("other-{number}"),
    }
}

fn json(record: &LogRecord) -> serde_json::Value {
    let counts: serde_json::Map<_, _> =
        record.counts.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
    json!({
        "writer_id": record.writer.to_string(),
        "sequence": record.sequence,
        "began": text::time_json(record.began),
        "ended": text::time_json(record.ended),
        "verb": record.verb,
        "result": result(record.ending),
        "hostname": record.host,
        "username": record.user,
        "program_version": record.program,
        "snapshot_ids": record.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "counts": counts,
        "note": record.note,
    })
}

fn row(record: &LogRecord) -> Vec<String> {
    let snapshots: Vec<String> = record.snapshots.iter().take(SHOWN).map(text::short).collect();
    let more = record.snapshots.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut counts: Vec<String> = record
        .counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| match name.starts_with("bytes") {
            true => format!("{name} {}", text::size(*count)),
            false => format!("{name} {count}"),
        })
        .collect();
    counts.extend((!record.note.is_empty()).then(|| record.note.clone()));
    let escaped = |text: &str| text::escaped(text.as_bytes());
    vec![
        text::time(record.began),
        escaped(&record.verb),
        result(record.ending),
        escaped(&record.host),
        escaped(&record.user),
        format!("{}{more}", snapshots.join(" ")),
        escaped(&counts.join(", ")),
    ]
}

const SHOWN: usize = 2;
