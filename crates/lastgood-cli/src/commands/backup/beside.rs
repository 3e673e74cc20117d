//! `lastgood backup --also-mirror`: one read of a directory, two places.

use std::path::{Path, PathBuf};

use lastgood::mirror::{self, Outcome, RunOptions, RunReport};
use lastgood::{system, this_host};

use super::super::mirror::Ended;
use super::{Args, Prepared, full, show_item};
use crate::app::App;
use crate::failure::Failure;

/// Backs up and mirrors. What goes wrong with one does not keep the other from being done.
pub(super) fn run(
    args: &Args,
    app: &App<'_>,
    target: &Path,
    sources: Vec<PathBuf>,
) -> Result<(), Failure> {
    let [source] = &sources[..] else {
        return Err(Failure::usage("a mirror is of one directory: name one path"));
    };
    if !source.is_dir() {
        return Err(Failure::usage("a mirror is of a directory, and this is none"));
    }
    let options = mirror_options(args, app, target, source)?;
    let is_first = !mirror::is_mirror(target);
    let (backup, mirror) = match args.prepare(app, sources, None) {
        Ok(prepared) => together(app, prepared, options)?,
        Err(failure) => (Err(failure), app.run(mirror::start_run(options))),
    };
    // The summary of the backup is the last message, as without a mirror.
    let mirror = mirror.and_then(|outcome| {
        app.out.info(format!("Mirror in {}:", target.display()));
        let ended = Ended { outcome: &outcome, target, is_first, dry_run: args.dry_run };
        let told = ended.show(app, "mirror_summary");
        app.out.info("");
        told
    });
    if let Err(failure) = &mirror {
        app.out.json("mirror_error", failure.fields(&Default::default()));
    }
    let backup = backup.and_then(|Backup { report, named, repo_path }| {
        app.out.info(format!("Repository in {}:", repo_path.display()));
        args.end(app, &report, &named, &repo_path)
    });
    match (backup, mirror.map_err(|failure| failure.of("the mirror"))) {
        (Ok(()), mirror) => mirror,
        (backup, Ok(())) => backup,
        (Err(backup), Err(mirror)) => Err(backup.of("the backup").and(mirror)),
    }
}

/// A backup that ended with a report.
struct Backup {
    report: lastgood::backup::BackupReport,
    named: Vec<PathBuf>,
    repo_path: PathBuf,
}

type Mirrored = Result<Outcome<RunReport>, Failure>;

fn together(
    app: &App<'_>,
    prepared: Prepared,
    mirror: RunOptions,
) -> Result<(Result<Backup, Failure>, Mirrored), Failure> {
    let Prepared { repo, repo_path, options } = prepared;
    let (named, location) = (options.sources.clone(), repo.location().to_owned());
    let verbosity = app.out.style.verbosity;
    let job = mirror::start_beside(repo, options, mirror);
    let both = app.run_with(job, |item| show_item(app, &item, verbosity))?;
    let backup = both.backup.map(|report| Backup { report, named, repo_path });
    let backup = backup.map_err(|error| full(app, &location, error.into()));
    Ok((backup, both.mirror.map_err(Failure::from)))
}

/// The rules are those of the backup: what it leaves out, the mirror has not either.
fn mirror_options(
    args: &Args,
    app: &App<'_>,
    target: &Path,
    source: &Path,
) -> Result<RunOptions, Failure> {
    let home = app.home()?;
    let mut select = args.select.options();
    let repository =
        app.named_repository().map_or_else(|| home.default_repository(), Path::to_owned);
    this_host::add_rules(&mut select, &home, &repository);
    Ok(RunOptions {
        source: source.to_owned(),
        target: target.to_owned(),
        state: home.state,
        select,
        is_approved: false,
        forgets_excluded: false,
        verifies_outgoing: true,
        scrub_days: mirror::SCRUB_DAYS,
        dry_run: args.dry_run,
        clock: system::world().clock,
    })
}
