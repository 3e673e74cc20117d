//! What a mirror has to survive, tried with lastgood and with others that keep one, side by side.
//!
//! Each case makes its own files, runs each tool on them, and looks at what is there then: no cell of
//! the table in `docs/mirror.md` is claimed, each is seen.

mod cases;
mod tool;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::cases::CASES;
use self::tool::{Programs, Tool};
use crate::peers::Installed;

/// What was seen of one tool in one case.
pub(crate) struct Seen {
    /// Whether it is as it should be; `None` when it could not be tried.
    is_right: Option<bool>,
    text: String,
}

impl Seen {
    pub(crate) fn new(is_right: bool, text: impl Into<String>) -> Self {
        Self { is_right: Some(is_right), text: text.into() }
    }

    fn untried(why: &anyhow::Error) -> Self {
        Self { is_right: None, text: format!("not tried: {why:#}") }
    }

    fn cell(&self) -> String {
        let word = match self.is_right {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let text = self.text.replace(['|', '\n'], " ");
        if text.is_empty() { word.to_owned() } else { format!("{word}: {text}") }
    }
}

/// Tries every case with every tool, or those with a word in what they are, and writes the table.
///
/// # Errors
/// When the tools cannot be installed, or the table cannot be written.
pub fn run(
    root: &Path,
    lastgood: &Path,
    scratch: Option<PathBuf>,
    only: Option<&str>,
) -> anyhow::Result<()> {
    let page = root.join("docs/mirror.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let scratch = scratch.unwrap_or_else(|| root.join("target/acceptance"));
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let scratch = scratch.canonicalize()?;
    let installed = Installed::new(&scratch);
    installed.mirrors()?;
    let programs = Programs::new(&installed, lastgood, &scratch);
    let mut table = String::new();
    let mut heads = Vec::new();
    for tool in Tool::ALL {
        heads.push(format!("{} {}", tool.name(), programs.version(tool)?));
    }
    writeln!(table, "| | {} |", heads.join(" | "))?;
    writeln!(table, "|---|{}", "---|".repeat(Tool::ALL.len()))?;
    for case in CASES {
        let known = text.lines().find(|line| line.starts_with(&format!("| {} |", case.what)));
        // A row that is not tried again stays what it was.
        if let (Some(only), Some(known)) = (only, known)
            && !case.what.contains(only)
        {
            writeln!(table, "{known}")?;
            continue;
        }
        let mut cells = Vec::new();
        for tool in Tool::ALL {
            let folder = scratch.join("case");
            crate::remove(&folder)?;
            fs::create_dir(&folder)?;
            let seen = programs
                .place(tool, &folder)
                .and_then(|place| (case.try_it)(&place))
                .unwrap_or_else(|why| Seen::untried(&why));
            // Where it was tried is nobody's matter.
            let cell = seen.cell().replace(&*folder.to_string_lossy(), "…");
            println!("{}: {}: {cell}", case.what, tool.name());
            cells.push(cell);
            crate::remove(&folder)?;
        }
        writeln!(table, "| {} | {} |", case.what, cells.join(" | "))?;
    }
    fs::write(&page, with_table(&text, &table)?).with_context(|| page.display().to_string())
}

/// The page with another table between its two marks.
fn with_table(page: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("docs/mirror.md has no place for it")?;
    let (_, after) = rest.split_once(END).context("docs/mirror.md has no end of it")?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

const BEGIN: &str = "<!-- written by cargo xtask mirror-acceptance -->";
const END: &str = "<!-- end -->";
