//! What continuous integration runs, in the order in which it is cheapest to fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};

/// Runs everything; stops at the first step that fails.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let cargo = |arguments: &[&str]| step(Command::new(env!("CARGO")).args(arguments), root);
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])?;
    crate::tidy::run(root)?;
    if has_nextest(root) {
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])?;
        cargo(&["test", "--workspace", "--locked", "--doc"])?;
    } else {
        cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])?;
    }
    // With mistakes that tests plant, to see that they would be found.
    crate::torture::run(root, &["--seeded-bugs".to_owned()])?;
    decoder(root)
}

fn has_nextest(root: &Path) -> bool {
    let mut command = Command::new(env!("CARGO"));
    command.args(["nextest", "--version"]).current_dir(root);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn step(command: &mut Command, root: &Path) -> anyhow::Result<()> {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let shown = arguments.collect::<Vec<_>>().join(" ");
    println!("\n== {} {shown}", command.get_program().to_string_lossy());
    let status = command.current_dir(root).status().with_context(|| shown.clone())?;
    ensure!(status.success(), "{shown} fails");
    Ok(())
}

/// A second implementation, written from the specification alone, must agree: it makes the same
/// chunker vectors and restores every golden repository to what is expected.
///
/// The interpreter is `LASTGOOD_PYTHON`, with the packages of `tools/requirements.txt`. Only
/// where `CI` is not set may it be missing.
fn decoder(root: &Path) -> anyhow::Result<()> {
    let python = std::env::var_os("LASTGOOD_PYTHON").unwrap_or_else(|| "python3".into());
    let python = |arguments: &[&Path]| {
        Command::new(&python).args(arguments).current_dir(root).output().context("python")
    };
    let needs = "import argon2, blake3, cryptography, zstandard";
    let ready = python(&[Path::new("-c"), Path::new(needs)]);
    if !ready.is_ok_and(|output| output.status.success()) {
        ensure!(std::env::var_os("CI").is_none(), "the decoder needs tools/requirements.txt");
        println!("decoder: skipped, since the packages of tools/requirements.txt are missing");
        return Ok(());
    }
    println!("\n== the independent decoder");
    let vectors = root.join("docs/format/vectors");
    let made = succeeded(python(&[&vectors.join("chunker.py")])?, "chunker.py")?;
    let stored = fs::read(vectors.join("chunker.txt")).context("chunker.txt")?;
    ensure!(made.stdout == stored, "chunker.py makes other vectors than chunker.txt holds");
    println!("decoder: the chunker's vectors are those of a second implementation");

    for golden in golden(&root.join("fixtures"))? {
        let target = std::env::temp_dir().join(format!("lastgood-decoder-{}", std::process::id()));
        let shown = golden.strip_prefix(root).unwrap_or(&golden).display().to_string();
        let code =
            fs::read_to_string(golden.join("recovery-code")).with_context(|| shown.clone())?;
        let restored = python(&[
            &root.join("tools/decode.py"),
            &golden.join("repository"),
            Path::new(code.trim()),
            Path::new("latest"),
            &target,
        ])
        .and_then(|output| succeeded(output, &shown))
        .and_then(|_| same_trees(&golden.join("expected"), &content(&target)?));
        if target.exists() {
            fs::remove_dir_all(&target).with_context(|| target.display().to_string())?;
        }
        restored.with_context(|| format!("{shown} is not restored as it should be"))?;
        println!("decoder: {shown} is restored bit by bit");
    }
    Ok(())
}

fn succeeded(output: Output, what: &str) -> anyhow::Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    bail!("{what} fails: {}", String::from_utf8_lossy(&output.stderr))
}

/// Folders `fixtures/<format>/<writer>` that hold a repository, its recovery code and the tree
/// that it must restore to.
fn golden(fixtures: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for format in folders(fixtures)? {
        for writer in folders(&format)? {
            if ["repository", "recovery-code", "expected"].iter().all(|it| writer.join(it).exists())
            {
                found.push(writer);
            }
        }
    }
    Ok(found)
}

fn folders(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

/// The directory that a decoder's whole paths lead to: the first that holds not just one other.
fn content(target: &Path) -> anyhow::Result<PathBuf> {
    let mut content = target.to_owned();
    loop {
        let entries: Vec<_> = fs::read_dir(&content)?.collect::<Result<_, _>>()?;
        match entries.as_slice() {
            [only] if only.file_type()?.is_dir() => content = only.path(),
            _ => return Ok(content),
        }
    }
}

/// Contents only: a checkout keeps neither owners nor times.
fn same_trees(expected: &Path, restored: &Path) -> anyhow::Result<()> {
    // A fixture may be expected to hold what another one holds, by a link.
    let expected = expected.canonicalize().with_context(|| expected.display().to_string())?;
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--no-dereference"]).args([expected.as_path(), restored]);
    let output = diff.output().context("diff does not run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
