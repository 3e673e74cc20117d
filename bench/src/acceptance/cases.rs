//! The cases.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;

use super::Seen;
use super::tool::{How, Place, Tool, last_line};

/// Something that a mirror has to survive.
pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) try_it: fn(&Place<'_>) -> anyhow::Result<Seen>,
}

pub(super) const CASES: &[Case] = &[
    Case { what: "what cannot be read is not deleted", try_it: unreadable },
    Case {
        what: "killed half-way through 3,000 changes: what was before comes back at once",
        try_it: cut,
    },
    Case { what: "a version in the middle is removed, the others stay", try_it: middle },
    Case { what: "20 MB that are renamed cost nothing", try_it: renamed },
    Case { what: "what somebody edits in the copy is set right, and kept", try_it: edited },
    Case { what: "rot of the copy, with size and time as before, heals by itself", try_it: rotten },
    Case { what: "rot does not become history in silence", try_it: rotten_history },
    Case { what: "a clock that goes back stops nothing", try_it: clock },
    Case { what: "two runs at one moment are two versions", try_it: same_moment },
    Case { what: "an emptied source does not empty the copy unasked", try_it: emptied },
    Case {
        what: "directories that their owner may not write to do not lock it out",
        try_it: closed,
    },
    Case { what: "files, directories and links take each other's places", try_it: kinds },
    Case { what: "what was created later is not there before", try_it: created },
    Case { what: "the permissions that a file had come back", try_it: permissions },
    Case {
        what: "4 bytes of 256 MiB change: the history grows by less than 1 MiB",
        try_it: small_edit,
    },
];

type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// What lies below a directory: modes and contents.
fn tree(root: &Path) -> anyhow::Result<Tree> {
    let mut found = Tree::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            let content = if metadata.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path)?
            };
            let mode = if metadata.is_symlink() { 0 } else { metadata.permissions().mode() };
            found.insert(path.strip_prefix(root)?.to_owned(), (mode, content));
        }
    }
    Ok(found)
}

fn source(place: &Place<'_>) -> anyhow::Result<Tree> {
    tree(&place.source(""))
}

/// Whether what a day had comes back, and else what is wrong.
fn comes_back(
    place: &Place<'_>,
    (number, day): (usize, i64),
    later: &[i64],
    expected: &Tree,
) -> (bool, String) {
    match place.restore(number, day, later).and_then(|back| tree(&back)) {
        Err(error) => (false, format!("{error:#}")),
        Ok(found) if found == *expected => (true, String::new()),
        Ok(found) => {
            let differs = |path: &&PathBuf| found.get(*path) != expected.get(*path);
            let first = expected.keys().chain(found.keys()).find(differs);
            (
                false,
                format!(
                    "{} is not as it was",
                    first.map_or("it".into(), |it| it.display().to_string())
                ),
            )
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn unreadable(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("plain", b"plain")?;
    place.write("closed", b"closed")?;
    place.write("directory/file", b"file")?;
    place.run_well(1)?;
    for name in ["closed", "directory"] {
        chown(place.source(name), Some(65_534), Some(65_534))?;
        set_mode(&place.source(name), 0)?;
    }
    let output = place.run(How { day: 2, is_bound: true, ..How::default() })?;
    let kept = |name: &str| place.newest(name).exists();
    let kept = [kept("closed"), kept("directory/file")];
    let told = match output.status.code() {
        Some(0) => "exit 0".to_owned(),
        code => format!("exit {}", code.unwrap_or(-1)),
    };
    Ok(match kept {
        [true, true] => Seen::new(true, told),
        _ => Seen::new(
            false,
            format!(
                "{} of 2 removed from the copy, {told}",
                kept.iter().filter(|it| !**it).count()
            ),
        ),
    })
}

fn cut(place: &Place<'_>) -> anyhow::Result<Seen> {
    let change = |text: &str| {
        (0..3000).try_for_each(|number| {
            place.write(&format!("{}/{number}", number % 10), format!("{text} {number}").as_bytes())
        })
    };
    change("first")?;
    place.run_well(1)?;
    let first = source(place)?;
    change("second, which is longer")?;
    place.run_well(2)?;
    let second = source(place)?;
    change("the third")?;
    let began = Instant::now();
    place.run_well(3)?;
    let lasts = began.elapsed().as_millis();
    let third = source(place)?;
    change("and a fourth one")?;
    place.run(How { day: 4, killed_after: Some(lasts / 2), is_meant: true, ..How::default() })?;
    let mirrored = tree(&place.newest(""))?;
    let now = source(place)?;
    let new = now
        .iter()
        .filter(|(path, state)| state.1.starts_with(b"and") && mirrored.get(*path) == Some(*state))
        .count();
    let mixed = if new > 0 && new < 3000 {
        format!("; the copy has {new} of 3000 new files, the others old")
    } else {
        String::new()
    };
    let mut wrong = Vec::new();
    let all = [(1, &first, &[2, 3, 4][..]), (2, &second, &[3, 4]), (3, &third, &[4])];
    for (number, (day, expected, later)) in all.into_iter().enumerate() {
        let (is_right, why) = comes_back(place, (number, day), later, expected);
        if !is_right {
            wrong.push(why);
        }
    }
    let by_hand = matches!(place.tool, Tool::Rsync | Tool::Rclone);
    let how = if by_hand { "by hand only" } else { "by its restore" };
    Ok(match wrong.first() {
        None => Seen::new(mixed.is_empty(), format!("{how}{mixed}")),
        Some(why) => {
            Seen::new(false, format!("{} of 3 versions do not: {why}{mixed}", wrong.len()))
        }
    })
}

fn middle(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"first")?;
    place.write("b", b"first of b")?;
    place.run_well(1)?;
    let first = source(place)?;
    place.write("a", b"the second")?;
    place.run_well(2)?;
    place.write("a", b"third of all")?;
    place.write("b", b"b as well")?;
    place.run_well(3)?;
    let third = source(place)?;
    let target = place.target().to_string_lossy().into_owned();
    match place.tool {
        Tool::Lastgood => {
            let listed = place.other(&["--json", "mirror", "versions", &target])?;
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            let names: Vec<serde_json::Value> =
                text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            let name =
                names.get(1).and_then(|it| it["name"].as_str()).context("no second version")?;
            place.other(&["mirror", "drop", &target, name])?;
        }
        // It only removes what is older than a moment.
        Tool::Rdiff => {
            let output = place.other(&[
                "--force",
                "--current-time",
                "1797776000",
                "remove",
                "increments",
                "--older-than",
                "1790259200",
                &target,
            ])?;
            if !output.status.success() {
                return Ok(Seen::new(
                    false,
                    format!("no command for that: {}", last_line(&output)),
                ));
            }
        }
        // The folder of the run after it holds what the version was.
        Tool::Rsync | Tool::Rclone => fs::remove_dir_all(place.target().join("old/3"))?,
    }
    let (is_right, why) = comes_back(place, (0, 1), &[2], &first);
    if !is_right {
        return Ok(Seen::new(false, format!("the first is lost with it: {why}")));
    }
    let number = if place.tool == Tool::Lastgood { 1 } else { 2 };
    let (is_right, why) = comes_back(place, (number, 3), &[], &third);
    Ok(Seen::new(is_right, why))
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

fn growth(before: u64, after: u64) -> String {
    format!("{:.1} MB more", after.saturating_sub(before) as f64 / 1e6)
}

fn renamed(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("film", &noise(20_000_000))?;
    place.run_well(1)?;
    let before = place.size()?;
    fs::create_dir(place.source("moved"))?;
    fs::rename(place.source("film"), place.source("moved/film"))?;
    place.run_well(2)?;
    let after = place.size()?;
    Ok(Seen::new(after.saturating_sub(before) < 1_000_000, growth(before, after)))
}

fn edited(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"as it is")?;
    place.run_well(1)?;
    fs::write(place.newest("a"), b"an edit by somebody")?;
    place.run_well(2)?;
    let is_set = fs::read(place.newest("a"))? == b"as it is";
    let found = tree(&place.target())?;
    let is_kept = found.values().any(|(_, bytes)| bytes == b"an edit by somebody");
    Ok(match (is_set, is_kept) {
        (true, true) => Seen::new(true, ""),
        (true, false) => Seen::new(false, "set right, but the edit is lost"),
        (false, _) => Seen::new(false, "the edit stays in the copy"),
    })
}

/// Other bytes of the same length and time.
fn rot(path: &Path) -> anyhow::Result<()> {
    let modified = fs::metadata(path)?.modified()?;
    let mut bytes = fs::read(path)?;
    bytes[0] ^= 1;
    fs::write(path, bytes)?;
    Ok(fs::File::options().write(true).open(path)?.set_modified(modified)?)
}

fn rotten(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"as it is")?;
    place.run_well(1)?;
    rot(&place.newest("a"))?;
    // Long enough for what is done once in a while.
    for day in 2..=40 {
        place.run(How { day, ..How::default() })?;
        if fs::read(place.newest("a"))? == b"as it is" {
            return Ok(Seen::new(true, format!("by run {day} of one a day")));
        }
    }
    Ok(Seen::new(false, "not in 39 runs, one a day"))
}

fn rotten_history(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"as it is")?;
    place.run_well(1)?;
    let first = source(place)?;
    rot(&place.newest("a"))?;
    place.write("a", b"and it changes")?;
    let output = place.run(How { day: 2, ..How::default() })?;
    let told = !output.status.success();
    let (is_right, _) = comes_back(place, (0, 1), &[2], &first);
    let exit = output.status.code().unwrap_or(-1);
    Ok(match (is_right, told) {
        (true, _) => Seen::new(true, "it came back whole"),
        (false, true) => Seen::new(true, format!("told, exit {exit}")),
        (false, false) => Seen::new(false, "the rotten bytes are the old version, exit 0"),
    })
}

fn clock(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"first")?;
    place.run_well(5)?;
    place.write("a", b"the second")?;
    let output = place.run(How { day: 4, ..How::default() })?;
    let is_done = fs::read(place.newest("a"))? == b"the second";
    Ok(Seen::new(is_done, if is_done { String::new() } else { last_line(&output) }))
}

fn same_moment(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"first")?;
    place.run_well(1)?;
    let first = source(place)?;
    place.write("a", b"the second")?;
    place.run_well(2)?;
    let second = source(place)?;
    place.write("a", b"third of all")?;
    let output = place.run(How { day: 2, ..How::default() })?;
    if fs::read(place.newest("a"))? != b"third of all" {
        return Ok(Seen::new(false, format!("refused: {}", last_line(&output))));
    }
    let versions = [((0, 1), &[2][..], &first), ((1, 2), &[], &second)];
    for (which, later, expected) in versions {
        // Of two runs in one folder nobody can tell which is which.
        let later = if which.0 == 1 && place.tool != Tool::Lastgood { &[2][..] } else { later };
        let (is_right, why) = comes_back(place, which, later, expected);
        if !is_right {
            return Ok(Seen::new(false, format!("version {} of 3: {why}", which.0 + 1)));
        }
    }
    Ok(Seen::new(true, ""))
}

fn emptied(place: &Place<'_>) -> anyhow::Result<Seen> {
    (0..200).try_for_each(|number| place.write(&number.to_string(), b"content"))?;
    place.run_well(1)?;
    crate::remove(&place.source(""))?;
    fs::create_dir(place.source(""))?;
    let output = place.run(How { day: 2, ..How::default() })?;
    let left = (0..200).filter(|number| place.newest(&number.to_string()).exists()).count();
    let exit = output.status.code().unwrap_or(-1);
    Ok(Seen::new(left == 200, format!("{left} of 200 files left, exit {exit}")))
}

fn closed(place: &Place<'_>) -> anyhow::Result<Seen> {
    let bound = |day| place.run(How { day, is_bound: true, is_meant: true, ..How::default() });
    place.write("directory/file", b"first")?;
    set_mode(&place.source("directory"), 0o555)?;
    bound(1)?;
    let second = place.source("directory/file");
    set_mode(&place.source("directory"), 0o755)?;
    fs::remove_file(second)?;
    place.write("directory/other", b"other")?;
    set_mode(&place.source("directory"), 0o555)?;
    let output = bound(2)?;
    let is_right =
        place.newest("directory/other").exists() && !place.newest("directory/file").exists();
    Ok(Seen::new(is_right && output.status.success(), last_line(&output)))
}

fn kinds(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"a file")?;
    place.write("b/file", b"in a directory")?;
    place.run_well(1)?;
    let first = source(place)?;
    fs::remove_file(place.source("a"))?;
    place.write("a/now/deep", b"a directory")?;
    crate::remove(&place.source("b"))?;
    std::os::unix::fs::symlink("a", place.source("b"))?;
    let output = place.run(How { day: 2, is_meant: true, ..How::default() })?;
    let newest = tree(&place.newest(""))?;
    let is_newest = source(place)?.iter().all(|(path, state)| newest.get(path) == Some(state));
    if !is_newest {
        return Ok(Seen::new(
            false,
            format!("the copy is not as the source: {}", last_line(&output)),
        ));
    }
    let (is_right, why) = comes_back(place, (0, 1), &[2], &first);
    Ok(Seen::new(is_right, why))
}

fn created(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("a", b"first")?;
    place.run_well(1)?;
    let first = source(place)?;
    place.write("born", b"later")?;
    place.run_well(2)?;
    let (is_right, why) = comes_back(place, (0, 1), &[2], &first);
    Ok(Seen::new(is_right, why))
}

fn permissions(place: &Place<'_>) -> anyhow::Result<Seen> {
    place.write("script", b"#!/bin/sh")?;
    set_mode(&place.source("script"), 0o755)?;
    place.run_well(1)?;
    let first = source(place)?;
    set_mode(&place.source("script"), 0o600)?;
    place.run_well(2)?;
    let (is_right, why) = comes_back(place, (0, 1), &[2], &first);
    Ok(Seen::new(is_right, why))
}

/// On XFS, where bytes can be shared.
fn small_edit(place: &Place<'_>) -> anyhow::Result<Seen> {
    let image = place.folder.join("image");
    fs::File::create(&image)?.set_len(2 << 30)?;
    let call = |program: &str, arguments: &[&Path]| -> anyhow::Result<()> {
        let output = std::process::Command::new(program).args(arguments).output()?;
        anyhow::ensure!(output.status.success(), "{program}: {}", last_line(&output));
        Ok(())
    };
    let target = place.folder.join("target");
    call("mkfs.xfs", &[Path::new("-q"), &image])?;
    call("mount", &[Path::new("-o"), Path::new("loop"), &image, &target])?;
    let seen = edit_on(place);
    call("umount", &[&target])?;
    seen
}

fn edit_on(place: &Place<'_>) -> anyhow::Result<Seen> {
    let free = || -> anyhow::Result<u64> {
        std::process::Command::new("sync").arg("-f").arg(place.folder.join("target")).status()?;
        let output = std::process::Command::new("df")
            .args(["-B1", "--output=avail"])
            .arg(place.folder.join("target"))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().last().and_then(|it| it.parse().ok()).context("df says no number")
    };
    let mut bytes = noise(256 << 20);
    place.write("disk", &bytes)?;
    place.run_well(1)?;
    let first = source(place)?;
    let before = free()?;
    bytes[100_000_000..100_000_004].copy_from_slice(b"edit");
    place.write("disk", &bytes)?;
    let began = Instant::now();
    place.run_well(2)?;
    let seconds = began.elapsed().as_secs_f64();
    let grown = before.saturating_sub(free()?);
    let (is_back, why) = comes_back(place, (0, 1), &[2], &first);
    let text = format!("{}, {seconds:.1} s {why}", growth(0, grown));
    Ok(Seen::new(is_back && grown < 1 << 20, text.trim()))
}
