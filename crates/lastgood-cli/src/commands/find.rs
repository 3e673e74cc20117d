//! `lastgood find`.

use lastgood::browse::{self, FindOptions, Seen};
use lastgood::{Node, Timestamp};
use serde_json::json;

use super::entry::{self, LongArgs};
use super::pick;
use crate::app::App;
use crate::args::FilterArgs;
use crate::failure::Failure;
use crate::text;

/// Flags of `find`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, or ends of paths; `*`, `?` and `[…]` match within a name, `**` across directories
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    /// Ignore case
    #[arg(short, long)]
    ignore_case: bool,
    /// Look only into this snapshot; may be given several times
    #[arg(short, long = "snapshot", value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Only files (f), directories (d), links (l), others (o), or several of them
    #[arg(long = "type", value_name = "KINDS", value_parser = kinds)]
    kinds: Option<String>,
    /// Only what was modified at this time or later
    #[arg(short = 'O', long, value_name = "TIME", value_parser = text::parse_time)]
    oldest: Option<Timestamp>,
    /// Only what was modified at this time or earlier
    #[arg(short = 'N', long, value_name = "TIME", value_parser = text::parse_time)]
    newest: Option<Timestamp>,
    #[command(flatten)]
    long: LongArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let repo = app.open()?;
        let (mut records, damaged) = pick::many(app, &repo, &self.snapshots, &self.filter)?;
        records.reverse();
        let options = FindOptions {
            patterns: self.patterns.iter().map(|pattern| anywhere(pattern)).collect(),
            ignore_case: self.ignore_case,
            newest_before: self.newest,
            oldest_after: self.oldest,
        };
        let (mut matches, mut lost) = (0_u64, 0_u64);
        for record in &records {
            let mut is_first = true;
            let mut visit = |_, seen: Seen| {
                let listed = match seen {
                    Seen::Entry(listed) => listed,
                    Seen::Lost { path, error } => {
                        lost += 1;
                        app.show_lost(&path, "find", error, lost);
                        return Ok(());
                    }
                };
                if !self.is_wanted(&listed.entry.node) {
                    return Ok(());
                }
                matches += 1;
                let (snapshot, node) = (&record.snapshot, &listed.entry);
                app.out.json_with("match", || {
                    let mut fields = entry::json(snapshot, node, &listed.path);
                    fields.insert("snapshot_id".to_owned(), record.id.to_string().into());
                    let time = text::time_json(snapshot.started);
                    fields.insert("snapshot_time".to_owned(), time.into());
                    fields.into()
                });
                if std::mem::take(&mut is_first) {
                    let time = text::time(snapshot.started);
                    app.out.line(format!("in snapshot {} of {time}:", text::short(&record.id)));
                }
                let (head, tail) = entry::line(snapshot, node, self.long);
                let path = app.out.path(&listed.path);
                app.out.bytes_line(&[head.as_bytes(), &path, &app.out.path(&tail)]);
                app.out.exit_if_closed();
                Ok(())
            };
            browse::find(&repo, std::slice::from_ref(record), &options, &mut visit)?;
        }
        app.out
            .json("summary", json!({ "match_count": matches, "snapshots_count": records.len() }));
        if matches == 0 {
            let snapshots = text::count(records.len() as u64, "snapshot");
            app.out.note(format!("nothing found in {snapshots}"));
        }
        pick::whole(damaged).and_then(|()| entry::all_listed(lost))
    }

    fn is_wanted(&self, node: &Node) -> bool {
        let letter = match node {
            Node::File { .. } => 'f',
            Node::Directory { .. } => 'd',
            Node::Symlink { .. } => 'l',
            _ => 'o',
        };
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(letter))
    }
}

/// A pattern with a `/` in it means the end of a path unless it begins with one; neither `!` nor `#`
/// mean anything here.
fn anywhere(pattern: &str) -> String {
    let inner = pattern.strip_suffix('/').unwrap_or(pattern);
    if inner.contains('/') && !pattern.starts_with('/') {
        format!("**/{pattern}")
    } else if pattern.starts_with(['!', '#']) {
        format!("\\{pattern}")
    } else {
        pattern.to_owned()
    }
}

fn kinds(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.chars().all(|kind| "fdlo".contains(kind)) {
        true => Ok(text.to_owned()),
        false => Err("write f, d, l or o, or several of them".to_owned()),
    }
}
