//! Data that a generator makes, always the same.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, ensure};

use super::{Maker, Tree, kernel};

/// A file that no compressor shortens, such as a film or an encrypted archive; later, one block in
/// a hundred of it is another one, spread evenly.
pub(super) fn random(maker: &Maker) -> anyhow::Result<String> {
    let blocks = if maker.is_quick { 4 << 10 } else { 32 << 10 };
    let mut state = Random(SEED);
    for (tree, is_later) in [(&maker.earlier, false), (&maker.later, true)] {
        fs::create_dir_all(tree)?;
        let path = tree.join("random");
        if is_later {
            fs::copy(maker.earlier.join("random"), &path)?;
            overwrite(&path, &mut state)?;
        } else {
            let mut file = BufWriter::new(File::create(&path)?);
            (0..blocks).try_for_each(|_| file.write_all(&state.block()))?;
        }
    }
    let mib = (blocks * BLOCK_BYTES) >> 20;
    Ok(format!("{mib} MiB that no compressor shortens; later one block of 64 KiB in 100 differs"))
}

/// Writes one block of 64 KiB in a hundred anew, in place.
///
/// # Errors
/// When the file cannot be written.
pub(in crate::peers) fn overwrite(path: &Path, state: &mut Random) -> anyhow::Result<()> {
    let file = File::options().write(true).open(path)?;
    for block in (0..file.metadata()?.len() / BLOCK_BYTES as u64).step_by(100) {
        file.write_all_at(&state.block(), block * BLOCK_BYTES as u64)?;
    }
    Ok(())
}

const BLOCK_BYTES: usize = 64 << 10;

/// Many small source files, in directories of about a hundred, as in the research on limits: their
/// sizes have a log-normal distribution with a mean of 7.2 KB, their text is that of the kernel.
/// Later, one directory in a hundred has all its files edited, and one file more.
pub(super) fn tiny(maker: &Maker) -> anyhow::Result<String> {
    let count = if maker.is_quick { 20_000 } else { 300_000 };
    let text = text(maker)?;
    let mut state = Random(SEED);
    let mut bytes = 0;
    for number in 0..count {
        let directory = number / FILES_EACH;
        let name = format!("{:02}/{directory:04}/file-{number:06}.c", directory / 64);
        let length = state.log_normal().min(text.len() / 2);
        let start = state.next() as usize % (text.len() - length);
        let content = &text[start..start + length];
        let (earlier, later) = (maker.earlier.join(&name), maker.later.join(&name));
        write(&earlier, content)?;
        bytes += length;
        if directory % 100 == 50 {
            write(&later, &edited(content, number))?;
        } else {
            make_parent(&later)?;
            fs::hard_link(&earlier, &later)?;
        }
    }
    for directory in (50..count / FILES_EACH).step_by(100) {
        let name = format!("{:02}/{directory:04}/new.c", directory / 64);
        write(&maker.later.join(name), &text[directory * 1000..][..7000])?;
    }
    Ok(format!(
        "{count} files, {} MB of kernel source cut into pieces of log-normal sizes; later one \
         directory in 100 has a line more in each file, and a new file",
        bytes / 1_000_000
    ))
}

const FILES_EACH: usize = 98;

/// A file with a line more in its middle.
fn edited(content: &[u8], number: usize) -> Vec<u8> {
    let line = format!("\n/* reviewed, change {number} */\n");
    let (head, tail) = content.split_at(content.len() / 2);
    [head, line.as_bytes(), tail].concat()
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    Ok(fs::create_dir_all(path.parent().context("it is in a directory")?)?)
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    make_parent(path)?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

/// A handful of small files, of which one is edited later: what a run costs when it has nothing
/// to do.
pub(super) fn few(maker: &Maker) -> anyhow::Result<String> {
    for number in 0..5 {
        let content = format!("note {number}\n").repeat(100);
        write(&maker.earlier.join(format!("note-{number}")), content.as_bytes())?;
        let edited = if number == 3 { edited(content.as_bytes(), number) } else { content.into() };
        write(&maker.later.join(format!("note-{number}")), &edited)?;
    }
    Ok("5 files of 700 bytes; later one has a line more".to_owned())
}

/// The text of the kernel, as one.
fn text(maker: &Maker) -> anyhow::Result<Vec<u8>> {
    let tree = maker.work.join("kernel");
    let (_, newest) = kernel::versions(maker.installed)?;
    kernel::extract(maker, &newest, &tree)?;
    let mut text = Vec::new();
    for name in Tree::of(&tree)?.files.iter().filter(|name| name.ends_with(".c")) {
        File::open(tree.join(name))?.read_to_end(&mut text)?;
    }
    ensure!(text.len() > 10_000_000, "the kernel has no source");
    crate::remove(&tree)?;
    Ok(text)
}

/// A generator whose numbers are good enough to be incompressible.
pub(in crate::peers) struct Random(pub u64);

pub(in crate::peers) const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    pub(in crate::peers) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(in crate::peers) fn block(&mut self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        for word in block.as_chunks_mut::<8>().0 {
            *word = self.next().to_le_bytes();
        }
        block
    }

    /// A length: half of all are below 3.4 KB, and their mean is 7.2 KB.
    fn log_normal(&mut self) -> usize {
        // The sum of twelve even ones is close to normal.
        let even = (0..12).map(|_| self.next() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
        (8.13 + 1.225 * even).exp() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_they_should_be() {
        let mut state = Random(SEED);
        let mut lengths: Vec<usize> = (0..20_000).map(|_| state.log_normal()).collect();
        lengths.sort_unstable();
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        assert!((6_800..7_600).contains(&mean), "{mean}");
        assert!((3_200..3_600).contains(&lengths[lengths.len() / 2]));
    }

    #[test]
    fn one_block_in_a_hundred_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![0; 201 * BLOCK_BYTES + 5]).unwrap();
        overwrite(&path, &mut Random(SEED)).unwrap();
        let content = fs::read(&path).unwrap();
        let changed = content.chunks(BLOCK_BYTES).filter(|block| block.iter().any(|it| *it != 0));
        assert_eq!(changed.count(), 3);
        assert_eq!(content.len(), 201 * BLOCK_BYTES + 5);
    }
}
