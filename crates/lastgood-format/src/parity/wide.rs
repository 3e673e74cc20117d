//! The hot loop of parity, compiled for each width of registers and chosen at run time.
#![expect(unsafe_code, reason = "calls what the CPU was asked for just before")]

use super::COLUMN;

/// [`super::add_batch`] with the widest registers of this CPU.
pub(super) fn add_batch(sums: &mut [u8], batch: &[&[u8]]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the CPU has AVX-512BW.
        return unsafe { with_avx512(sums, batch) };
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        return unsafe { with_avx2(sums, batch) };
    }
    portable(sums, batch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn with_avx512(sums: &mut [u8], batch: &[&[u8]]) {
    portable(sums, batch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(sums: &mut [u8], batch: &[&[u8]]) {
    portable(sums, batch);
}

/// With columns as long as the shards allow.
#[inline(always)]
fn portable(sums: &mut [u8], batch: &[&[u8]]) {
    let length = batch.first().map_or(0, |shard| shard.len());
    if length.is_multiple_of(CACHE_LINE) {
        super::add_batch::<CACHE_LINE>(sums, batch);
    } else {
        super::add_batch::<COLUMN>(sums, batch);
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
            let sums = |add: &dyn Fn(&mut [u8], &[&[u8]])| {
                let mut sums = vec![0x5a; length * count];
                add(&mut sums, &batch);
                sums
            };
            let expected = sums(&portable);
            assert_eq!(sums(&add_batch), expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has AVX2.
                assert_eq!(sums(&|sums, batch| unsafe { with_avx2(sums, batch) }), expected);
            }
        }
    }
}
