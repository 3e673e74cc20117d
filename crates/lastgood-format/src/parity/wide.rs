//! The hot loop of parity, compiled for each width of registers and chosen at run time.
#![expect(unsafe_code, reason = "calls what the CPU was asked for just before")]

use super::COLUMN;

/// What is added to sums.
#[derive(Clone, Copy)]
pub(super) enum Shards<'a> {
    /// As [`super::add_batch`] does.
    Batch(&'a [&'a [u8]]),
    /// As [`super::add_next`] does.
    Next(&'a [u8]),
}

/// Adds with the widest registers of this CPU.
pub(super) fn add(sums: &mut [u8], shards: Shards<'_>) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the CPU has AVX-512BW.
        return unsafe { with_avx512(sums, shards) };
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        return unsafe { with_avx2(sums, shards) };
    }
    portable(sums, shards);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn with_avx512(sums: &mut [u8], shards: Shards<'_>) {
    portable(sums, shards);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(sums: &mut [u8], shards: Shards<'_>) {
    portable(sums, shards);
}

/// With columns as long as the shards allow.
#[inline(always)]
fn portable(sums: &mut [u8], shards: Shards<'_>) {
    let length = match shards {
        Shards::Batch(batch) => batch.first().map_or(0, |shard| shard.len()),
        Shards::Next(shard) => shard.len(),
    };
    match (shards, length.is_multiple_of(CACHE_LINE)) {
        (Shards::Batch(batch), true) => super::add_batch::<CACHE_LINE>(sums, batch),
        (Shards::Batch(batch), false) => super::add_batch::<COLUMN>(sums, batch),
        (Shards::Next(shard), true) => super::add_next::<CACHE_LINE>(sums, shard),
        (Shards::Next(shard), false) => super::add_next::<COLUMN>(sums, shard),
    }
}

/// Also the widest register there is.
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_registers_gives_the_same_sums() {
        for (length, count) in [(32, 1), (64, 2), (96, 3), (4096, 2), (512, 9)] {
            let mut bytes = blake3::Hasher::new().update(b"shards").finalize_xof();
            let mut shards = vec![vec![0; length]; 8];
            shards.iter_mut().for_each(|shard| bytes.fill(shard));
            let batch: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
            let sums = |add: &dyn Fn(&mut [u8], Shards<'_>)| {
                let mut sums = vec![0x5a; length * count];
                add(&mut sums, Shards::Batch(&batch));
                batch.iter().for_each(|shard| add(&mut sums, Shards::Next(shard)));
                sums
            };
            let expected = sums(&portable);
            assert_eq!(sums(&add), expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has AVX2.
                assert_eq!(sums(&|sums, shards| unsafe { with_avx2(sums, shards) }), expected);
            }
        }
    }
}
