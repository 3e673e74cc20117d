//! Sorting more byte strings than fit in memory: sorted runs in a file without a name, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Takes byte strings in any order and gives them back sorted, equal ones each.
#[derive(Debug)]
pub(super) struct Sorter {
    /// Where a file is made when memory does not do.
    folder: PathBuf,
    /// Strings that are in no run yet, one after the other.
    bytes: Vec<u8>,
    /// Where each starts.
    starts: Vec<u32>,
    file: Option<File>,
    file_bytes: u64,
    /// Where each run starts in the file.
    runs: Vec<u64>,
    memory_bytes: usize,
}

impl Sorter {
    /// Sorts in `memory_bytes` at most, and beyond that by a file in `folder`.
    pub(super) const fn new(folder: PathBuf, memory_bytes: usize) -> Self {
        Self {
            folder,
            bytes: Vec::new(),
            starts: Vec::new(),
            file: None,
            file_bytes: 0,
            runs: Vec::new(),
            memory_bytes,
        }
    }

    /// Adds the concatenation of `parts`.
    ///
    /// # Errors
    /// When a run cannot be written.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if !self.starts.is_empty()
            && self.bytes.len() + length + (self.starts.len() + 1) * STRING_BYTES
                > self.memory_bytes
        {
            self.spill()?;
        }
        self.starts.push(self.bytes.len() as u32);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        Ok(())
    }

    /// Writes what is in memory as a sorted run: lengths and strings.
    fn spill(&mut self) -> io::Result<()> {
        let mut run = Vec::with_capacity(RUN_BUFFER_BYTES + (1 << 10));
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        self.runs.push(self.file_bytes);
        for string in Sorted::of(&self.bytes, &self.starts) {
            run.extend_from_slice(&(string.len() as u32).to_le_bytes());
            run.extend_from_slice(string);
            if run.len() >= RUN_BUFFER_BYTES {
                file.write_all_at(&run, self.file_bytes)?;
                self.file_bytes += run.len() as u64;
                run.clear();
            }
        }
        file.write_all_at(&run, self.file_bytes)?;
        self.file_bytes += run.len() as u64;
        self.bytes.clear();
        self.starts.clear();
        Ok(())
    }

    /// Visits all strings in order.
    ///
    /// # Errors
    /// When a run cannot be written or read, and what `visit` returns.
    pub(super) fn visit<E: From<io::Error>>(
        mut self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.runs.is_empty() {
            return Sorted::of(&self.bytes, &self.starts).try_for_each(visit);
        }
        self.spill()?;
        (self.bytes, self.starts) = (Vec::new(), Vec::new());
        let Some(file) = self.file else { return Ok(()) };
        let ends = self.runs.iter().skip(1).copied().chain([self.file_bytes]);
        let mut runs: Vec<Run<'_>> = self
            .runs
            .iter()
            .zip(ends)
            .map(|(&at, end)| Run { file: &file, at, end, buffer: Vec::new(), taken: 0 })
            .collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next()?.map(|string| Reverse((string, number))));
        }
        while let Some(Reverse((string, number))) = heads.pop() {
            visit(&string)?;
            heads.extend(runs[number].next()?.map(|string| Reverse((string, number))));
        }
        Ok(())
    }
}

/// The strings in memory, in order.
struct Sorted<'a> {
    bytes: &'a [u8],
    /// Start and end of each.
    places: std::vec::IntoIter<(u32, u32)>,
}

impl<'a> Sorted<'a> {
    fn of(bytes: &'a [u8], starts: &[u32]) -> Self {
        let ends = starts.iter().skip(1).copied().chain([bytes.len() as u32]);
        let mut places: Vec<(u32, u32)> = starts.iter().copied().zip(ends).collect();
        places.sort_unstable_by_key(|&place| Self::at(bytes, place));
        Self { bytes, places: places.into_iter() }
    }

    fn at(bytes: &'a [u8], (start, end): (u32, u32)) -> &'a [u8] {
        &bytes[start as usize..end as usize]
    }
}

impl<'a> Iterator for Sorted<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.places.next().map(|place| Self::at(self.bytes, place))
    }
}

/// A sorted run that is read on.
struct Run<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl Run<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let (length, _) = self.buffer[self.taken..].split_first_chunk().expect("four bytes");
        let length = u32::from_le_bytes(*length) as usize;
        self.taken += 4;
        if !self.fill(length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let string = self.buffer[self.taken..self.taken + length].to_vec();
        self.taken += length;
        Ok(Some(string))
    }

    /// Has `count` bytes in the buffer; tells whether there are as many.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        let rest = self.buffer.len() - self.taken;
        if rest >= count {
            return Ok(true);
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let wanted = (self.end - self.at).min(count.max(RUN_BUFFER_BYTES) as u64) as usize;
        self.buffer.resize(rest + wanted, 0);
        self.file.read_exact_at(&mut self.buffer[rest..], self.at)?;
        self.at += wanted as u64;
        Ok(self.buffer.len() >= count)
    }
}

/// What a string takes beside its bytes while it is sorted.
const STRING_BYTES: usize = 12;
/// What is read or written of a run at once: a thousand runs are merged in 16 MiB.
const RUN_BUFFER_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_went_in_comes_out_sorted(
            strings in vec(vec(any::<u8>(), 0..60), 0..300),
            memory_bytes in prop_oneof![Just(0_usize), 1..2000_usize, Just(1 << 20)],
        ) {
            let mut sorter = Sorter::new(std::env::temp_dir(), memory_bytes);
            for string in &strings {
                let (head, tail) = string.split_at(string.len() / 2);
                sorter.push(&[head, tail]).unwrap();
            }
            let mut found = Vec::new();
            sorter.visit(|string| { found.push(string.to_vec()); io::Result::Ok(()) }).unwrap();
            let mut expected = strings;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn strings_longer_than_a_buffer_come_out_whole() {
        let mut sorter = Sorter::new(std::env::temp_dir(), 100_000);
        let string = |n: u8| vec![n; 3 * RUN_BUFFER_BYTES + usize::from(n)];
        for n in (0..40).rev() {
            sorter.push(&[&string(n)]).unwrap();
        }
        let mut next = 0;
        sorter
            .visit(|found| {
                assert_eq!(found, string(next));
                next += 1;
                io::Result::Ok(())
            })
            .unwrap();
        assert_eq!(next, 40);
    }
}
