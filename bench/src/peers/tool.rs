//! The tools: what they are called with. Words in braces are filled in, see [`Places`].
//!
//! Each is used as its manual begins: its own defaults of compression, cache and encryption.
//! A command runs in the source, and a restore in the target, which is there and empty.

use std::path::Path;

use super::workload::Operation;

/// A program and its arguments.
pub(super) type Line = &'static [&'static str];

/// A tool that makes backups.
pub(super) struct Tool {
    pub name: &'static str,
    /// Whether what it stores is encrypted; only such a tool is compared with.
    pub is_encrypting: bool,
    pub version: Line,
    pub environment: &'static [(&'static str, &'static str)],
    /// Makes an empty repository; not measured.
    pub init: &'static [Line],
    /// What each operation runs; one that is missing the tool does not have.
    pub operations: &'static [(Operation, &'static [Line])],
    /// Prints the snapshots as JSON, for tools that only take them by their ids; the first and
    /// the last are `{first}` and `{last}`.
    pub snapshots: Option<Line>,
    /// Exit codes that mean that it did its work and warned of something.
    pub warnings: &'static [i32],
    /// Where the restore of one file puts it, below the target.
    pub one_file: &'static str,
}

impl Tool {
    /// The commands of an operation.
    pub(super) fn lines(&self, operation: Operation) -> Option<&'static [Line]> {
        self.operations.iter().find(|(it, _)| *it == operation).map(|(_, lines)| *lines)
    }

    /// The project's own.
    pub(super) fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

/// The name of the tool that all are compared with.
pub(super) const OURS: &str = "lastgood";

/// In the place of a tool where none runs.
pub(super) const ALONE: &str = "no backup";

/// Where the standard output of the restore of one file goes, below the target.
pub(super) const PRINTED: &str = "printed";

/// What the words in braces stand for.
pub(super) struct Places<'a>(pub Vec<(&'static str, &'a Path)>);

impl Places<'_> {
    /// `text` with every word in braces filled in.
    ///
    /// # Panics
    /// When there is a brace left, which is a mistake in the tables.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (word, path) in &self.0 {
            text = text.replace(&format!("{{{word}}}"), &path.to_string_lossy());
        }
        assert!(!text.contains('{'), "{text} has a word that nothing is known of");
        text
    }
}

/// All tools, in the order in which the first round runs them.
pub(super) const TOOLS: [Tool; 9] = [
    Tool {
        name: OURS,
        is_encrypting: true,
        version: &["{lastgood}", "--version"],
        environment: &[("LASTGOOD_REPOSITORY", "{repo}"), ("LASTGOOD_KEY_FILE", "{home}/key")],
        init: &[&["{lastgood}", "init"]],
        operations: &[
            (Operation::Initial, &[&["{lastgood}", "backup", "--quiet", "{source}"]]),
            (Operation::Unchanged, &[&["{lastgood}", "backup", "--quiet", "{source}"]]),
            (Operation::Changed, &[&["{lastgood}", "backup", "--quiet", "{source}"]]),
            (
                Operation::Restore,
                &[&["{lastgood}", "restore", "--quiet", "latest", "--target", "{target}"]],
            ),
            (Operation::RestoreFile, &[&["{lastgood}", "cat", "latest:{source}/{file}"]]),
            (
                Operation::RestoreInPlace,
                &[&[
                    "{lastgood}",
                    "restore",
                    "--quiet",
                    "--overwrite=if-changed",
                    "latest",
                    "--target",
                    "{target}",
                ]],
            ),
            (Operation::List, &[&["{lastgood}", "ls", "--recursive", "latest"]]),
            (Operation::Find, &[&["{lastgood}", "find", "{name}"]]),
            (Operation::Diff, &[&["{lastgood}", "diff", "latest~2", "latest"]]),
            (Operation::Check, &[&["{lastgood}", "check", "--read-data"]]),
            (Operation::Forget, &[&["{lastgood}", "forget", "--keep-last", "1", "--gc"]]),
        ],
        snapshots: None,
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "lastgood-mirror",
        is_encrypting: false,
        version: &["{lastgood}", "--version"],
        environment: &[],
        init: &[],
        operations: &[
            (
                Operation::Initial,
                &[&["{lastgood}", "--quiet", "mirror", "run", "{source}", "--to", "{repo}"]],
            ),
            (
                Operation::Unchanged,
                &[&["{lastgood}", "--quiet", "mirror", "run", "{source}", "--to", "{repo}"]],
            ),
            (
                Operation::Changed,
                &[&[
                    "{lastgood}",
                    "--quiet",
                    "mirror",
                    "run",
                    "{source}",
                    "--to",
                    "{repo}",
                    "--approve",
                ]],
            ),
            (
                Operation::Restore,
                &[&[
                    "{lastgood}",
                    "--quiet",
                    "mirror",
                    "restore",
                    "{repo}",
                    "--target",
                    "{target}",
                ]],
            ),
            (
                Operation::RestoreInPlace,
                &[&[
                    "{lastgood}",
                    "--quiet",
                    "mirror",
                    "restore",
                    "{repo}",
                    "--target",
                    "{target}",
                ]],
            ),
            (Operation::Diff, &[&["{lastgood}", "mirror", "diff", "{repo}", "latest~1", "latest"]]),
            (Operation::Check, &[&["{lastgood}", "--quiet", "mirror", "verify", "{repo}"]]),
            (
                Operation::Forget,
                &[&["{lastgood}", "--quiet", "mirror", "rotate", "{repo}", "--keep-last", "1"]],
            ),
        ],
        snapshots: None,
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "restic",
        is_encrypting: true,
        version: &["{apt}/usr/bin/restic", "version"],
        environment: &[("RESTIC_REPOSITORY", "{repo}"), ("RESTIC_PASSWORD", "benchmark")],
        init: &[&["{apt}/usr/bin/restic", "init"]],
        operations: &[
            (Operation::Initial, &[&["{apt}/usr/bin/restic", "backup", "{source}"]]),
            (Operation::Unchanged, &[&["{apt}/usr/bin/restic", "backup", "{source}"]]),
            (Operation::Changed, &[&["{apt}/usr/bin/restic", "backup", "{source}"]]),
            (
                Operation::Restore,
                &[&["{apt}/usr/bin/restic", "restore", "latest:{source}", "--target", "{target}"]],
            ),
            (
                Operation::RestoreFile,
                &[&["{apt}/usr/bin/restic", "dump", "latest", "{source}/{file}"]],
            ),
            (
                Operation::RestoreInPlace,
                &[&[
                    "{apt}/usr/bin/restic",
                    "restore",
                    "--overwrite=if-changed",
                    "latest:{source}",
                    "--target",
                    "{target}",
                ]],
            ),
            (Operation::List, &[&["{apt}/usr/bin/restic", "ls", "latest"]]),
            (Operation::Find, &[&["{apt}/usr/bin/restic", "find", "{name}"]]),
            (Operation::Diff, &[&["{apt}/usr/bin/restic", "diff", "{first}", "{last}"]]),
            (Operation::Check, &[&["{apt}/usr/bin/restic", "check", "--read-data"]]),
            (
                Operation::Forget,
                &[&["{apt}/usr/bin/restic", "forget", "--keep-last", "1", "--prune"]],
            ),
        ],
        snapshots: Some(&["{apt}/usr/bin/restic", "snapshots", "--json"]),
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "borg",
        is_encrypting: true,
        version: &["{venv}/bin/borg", "--version"],
        environment: &[
            ("BORG_REPO", "{repo}"),
            ("BORG_PASSPHRASE", "benchmark"),
            ("BORG_BASE_DIR", "{home}"),
        ],
        init: &[&["{venv}/bin/borg", "init", "--encryption=repokey"]],
        operations: &[
            (Operation::Initial, &[&["{venv}/bin/borg", "create", "::first", "."]]),
            (Operation::Unchanged, &[&["{venv}/bin/borg", "create", "::again", "."]]),
            (Operation::Changed, &[&["{venv}/bin/borg", "create", "::last", "."]]),
            (Operation::Restore, &[&["{venv}/bin/borg", "extract", "::last"]]),
            (
                Operation::RestoreFile,
                &[&["{venv}/bin/borg", "extract", "--stdout", "::last", "{file}"]],
            ),
            (Operation::RestoreInPlace, &[&["{venv}/bin/borg", "extract", "::last"]]),
            (Operation::List, &[&["{venv}/bin/borg", "list", "::last"]]),
            (Operation::Diff, &[&["{venv}/bin/borg", "diff", "::first", "last"]]),
            (Operation::Check, &[&["{venv}/bin/borg", "check", "--verify-data"]]),
            (
                Operation::Forget,
                &[&["{venv}/bin/borg", "prune", "--keep-last=1"], &["{venv}/bin/borg", "compact"]],
            ),
        ],
        snapshots: None,
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "rustic",
        is_encrypting: true,
        version: &["{cargo}/bin/rustic", "--version"],
        environment: &[("RUSTIC_REPOSITORY", "{repo}"), ("RUSTIC_PASSWORD", "benchmark")],
        init: &[&["{cargo}/bin/rustic", "init"]],
        operations: &[
            (Operation::Initial, &[&["{cargo}/bin/rustic", "backup", "{source}"]]),
            (Operation::Unchanged, &[&["{cargo}/bin/rustic", "backup", "{source}"]]),
            (Operation::Changed, &[&["{cargo}/bin/rustic", "backup", "{source}"]]),
            (
                Operation::Restore,
                &[&["{cargo}/bin/rustic", "restore", "latest:{source}", "{target}"]],
            ),
            (Operation::RestoreFile, &[&["{cargo}/bin/rustic", "dump", "latest:{source}/{file}"]]),
            (
                Operation::RestoreInPlace,
                &[&["{cargo}/bin/rustic", "restore", "latest:{source}", "{target}"]],
            ),
            (Operation::List, &[&["{cargo}/bin/rustic", "ls", "--recursive", "latest"]]),
            (Operation::Find, &[&["{cargo}/bin/rustic", "find", "--glob", "**/{name}"]]),
            (Operation::Diff, &[&["{cargo}/bin/rustic", "diff", "latest~2", "latest"]]),
            (Operation::Check, &[&["{cargo}/bin/rustic", "check", "--read-data"]]),
            (
                Operation::Forget,
                &[&[
                    "{cargo}/bin/rustic",
                    "forget",
                    "--keep-last=1",
                    "--prune",
                    "--instant-delete",
                ]],
            ),
        ],
        snapshots: None,
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "bupstash",
        is_encrypting: true,
        version: &["{cargo}/bin/bupstash", "version"],
        environment: &[
            ("BUPSTASH_REPOSITORY", "{repo}"),
            ("BUPSTASH_KEY", "{home}/key"),
            ("LD_LIBRARY_PATH", "{libraries}"),
        ],
        init: &[
            &["{cargo}/bin/bupstash", "init"],
            &["{cargo}/bin/bupstash", "new-key", "-o", "{home}/key"],
        ],
        operations: &[
            (Operation::Initial, &[&["{cargo}/bin/bupstash", "put", "run=first", "{source}"]]),
            (Operation::Unchanged, &[&["{cargo}/bin/bupstash", "put", "run=again", "{source}"]]),
            (Operation::Changed, &[&["{cargo}/bin/bupstash", "put", "run=last", "{source}"]]),
            (
                Operation::Restore,
                &[&["{cargo}/bin/bupstash", "restore", "--into", "{target}", "run=last"]],
            ),
            (
                Operation::RestoreFile,
                &[&["{cargo}/bin/bupstash", "get", "--pick", "{file}", "run=last"]],
            ),
            (
                Operation::RestoreInPlace,
                &[&["{cargo}/bin/bupstash", "restore", "--into", "{target}", "run=last"]],
            ),
            (Operation::List, &[&["{cargo}/bin/bupstash", "list-contents", "run=last"]]),
            (Operation::Diff, &[&["{cargo}/bin/bupstash", "diff", "run=first", "::", "run=last"]]),
            // It has no check; this reads all data of the newest snapshot, and prints it.
            (Operation::Check, &[&["{cargo}/bin/bupstash", "get", "run=last"]]),
            (
                Operation::Forget,
                &[
                    &["{cargo}/bin/bupstash", "rm", "--allow-many", "run=first", "or", "run=again"],
                    &["{cargo}/bin/bupstash", "gc"],
                ],
            ),
        ],
        snapshots: None,
        warnings: &[],
        one_file: PRINTED,
    },
    Tool {
        name: "rdiff-backup",
        is_encrypting: false,
        version: &["{venv}/bin/rdiff-backup", "--version"],
        environment: &[("LD_LIBRARY_PATH", "{libraries}")],
        init: &[&["mkdir", "{repo}"]],
        // It refuses two backups within a second, so their times are told to it.
        operations: &[
            (
                Operation::Initial,
                &[&[
                    "{venv}/bin/rdiff-backup",
                    "--current-time=1000000000",
                    "backup",
                    "{source}",
                    "{repo}",
                ]],
            ),
            (
                Operation::Unchanged,
                &[&[
                    "{venv}/bin/rdiff-backup",
                    "--current-time=1000086400",
                    "backup",
                    "{source}",
                    "{repo}",
                ]],
            ),
            (
                Operation::Changed,
                &[&[
                    "{venv}/bin/rdiff-backup",
                    "--current-time=1000172800",
                    "backup",
                    "{source}",
                    "{repo}",
                ]],
            ),
            (
                Operation::Restore,
                &[&["{venv}/bin/rdiff-backup", "--force", "restore", "{repo}", "{target}"]],
            ),
            (
                Operation::RestoreFile,
                &[&["{venv}/bin/rdiff-backup", "restore", "{repo}/{file}", "{target}/restored"]],
            ),
            (
                Operation::RestoreInPlace,
                &[&["{venv}/bin/rdiff-backup", "--force", "restore", "{repo}", "{target}"]],
            ),
            (Operation::List, &[&["{venv}/bin/rdiff-backup", "list", "files", "{repo}"]]),
            (
                Operation::Diff,
                &[&["{venv}/bin/rdiff-backup", "list", "files", "--changed-since=2B", "{repo}"]],
            ),
            (Operation::Check, &[&["{venv}/bin/rdiff-backup", "verify", "{repo}"]]),
            (
                Operation::Forget,
                &[&[
                    "{venv}/bin/rdiff-backup",
                    "--force",
                    "remove",
                    "increments",
                    "--older-than=0B",
                    "{repo}",
                ]],
            ),
        ],
        snapshots: None,
        warnings: &[2],
        one_file: "restored",
    },
    Tool {
        name: "rsync",
        is_encrypting: false,
        version: &["{apt}/usr/bin/rsync", "--version"],
        environment: &[("LD_LIBRARY_PATH", "{libraries}")],
        init: &[&["mkdir", "{repo}"]],
        operations: &[
            (
                Operation::Initial,
                &[&["{apt}/usr/bin/rsync", "-a", "--delete", "{source}/", "{repo}/"]],
            ),
            (
                Operation::Unchanged,
                &[&["{apt}/usr/bin/rsync", "-a", "--delete", "{source}/", "{repo}/"]],
            ),
            (
                Operation::Changed,
                &[&["{apt}/usr/bin/rsync", "-a", "--delete", "{source}/", "{repo}/"]],
            ),
            (Operation::Restore, &[&["{apt}/usr/bin/rsync", "-a", "{repo}/", "{target}/"]]),
            (
                Operation::RestoreFile,
                &[&["{apt}/usr/bin/rsync", "-a", "{repo}/{file}", "{target}/restored"]],
            ),
            (
                Operation::RestoreInPlace,
                &[&["{apt}/usr/bin/rsync", "-a", "--delete", "{repo}/", "{target}/"]],
            ),
            (Operation::List, &[&["{apt}/usr/bin/rsync", "-r", "--list-only", "{repo}/"]]),
        ],
        snapshots: None,
        warnings: &[],
        one_file: "restored",
    },
    Tool {
        name: "rsync-backup-dir",
        is_encrypting: false,
        version: &["{apt}/usr/bin/rsync", "--version"],
        environment: &[("LD_LIBRARY_PATH", "{libraries}")],
        init: &[&["mkdir", "{repo}"]],
        operations: &[
            (Operation::Initial, &[RSYNC_KEEPING]),
            (Operation::Unchanged, &[RSYNC_KEEPING]),
            (Operation::Changed, &[RSYNC_KEEPING]),
            (Operation::Restore, &[&["{apt}/usr/bin/rsync", "-a", "{repo}/latest/", "{target}/"]]),
            (
                Operation::RestoreFile,
                &[&["{apt}/usr/bin/rsync", "-a", "{repo}/latest/{file}", "{target}/restored"]],
            ),
            (
                Operation::RestoreInPlace,
                &[&["{apt}/usr/bin/rsync", "-a", "--delete", "{repo}/latest/", "{target}/"]],
            ),
        ],
        snapshots: None,
        warnings: &[],
        one_file: "restored",
    },
];

/// Keeps what is replaced or removed.
const RSYNC_KEEPING: Line = &[
    "{apt}/usr/bin/rsync",
    "-a",
    "--delete",
    "--backup",
    "--backup-dir={repo}/old",
    "{source}/",
    "{repo}/latest/",
];
