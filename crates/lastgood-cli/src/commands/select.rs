//! The flags that say what of a source is backed up: those of `backup` and `explain`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use lastgood::select::{ByteSize, SelectOptions};

/// What is left out.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "What is left out")]
pub(crate) struct SelectArgs {
    /// Leave out what matches this gitignore pattern; may be given several times
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, ignoring case
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Leave out what the patterns in this file match, one a line as in .gitignore
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that hold a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out the content of directories that hold FILE, or a FILE that starts with HEADER
    #[arg(long, value_name = "FILE[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files of more than SIZE bytes (K, M, G, T: powers of 1024)
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<ByteSize>,
    /// Stay on the file system of each source
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl SelectArgs {
    /// The rules for the library.
    pub(crate) fn options(&self) -> SelectOptions {
        let markers = self.exclude_if_present.iter().cloned();
        SelectOptions {
            exclude_files: self.exclude_file.clone(),
            excludes: self.exclude.clone(),
            iexcludes: self.iexclude.clone(),
            exclude_caches: self.exclude_caches,
            exclude_if_present: markers.map(OsStringExt::into_vec).collect(),
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
            ..SelectOptions::default()
        }
    }
}
