//! The hot loop of parity, compiled for each width of registers and chosen at run time.
#![expect(unsafe_code, reason = "calls what the CPU was asked for just before")]

use super::COLUMN;

/// A loop over shards, compiled for columns of `WIDTH` bytes. All of it must be inlined into its
/// caller, which may use wider registers.
pub(super) trait Kernel {
    /// Length of the shards.
    fn length(&self) -> usize;
    fn run<const WIDTH: usize>(self);
}

/// Runs a loop with the widest registers of this CPU, in columns as long as the shards allow.
pub(super) fn run(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        // SAFETY: the CPU has AVX-512BW.
        return unsafe { with_avx512(kernel) };
    } else if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        return unsafe { with_avx2(kernel) };
    }
    portable(kernel);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bw")]
fn with_avx512(kernel: impl Kernel) {
    portable(kernel);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(kernel: impl Kernel) {
    portable(kernel);
}

#[inline(always)]
fn portable(kernel: impl Kernel) {
    if kernel.length().is_multiple_of(CACHE_LINE) {
        kernel.run::<CACHE_LINE>();
    } else {
        kernel.run::<COLUMN>();
    }
}

/// Also the widest register there is.
const CACHE_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::{AddBatch, AddMultiple, Order};
    use super::*;

    /// The same loops with each width of registers.
    macro_rules! same {
        ($bytes:expr, |$out:ident| $kernel:expr) => {{
            let run = |with: &dyn Fn(&mut [u8])| {
                let mut bytes = $bytes;
                with(&mut bytes);
                bytes
            };
            let expected = run(&|$out| portable($kernel));
            assert_eq!(run(&|$out| super::run($kernel)), expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has AVX2.
                assert_eq!(run(&|$out| unsafe { with_avx2($kernel) }), expected);
            }
        }};
    }

    #[test]
    fn every_width_of_registers_gives_the_same() {
        for (length, count) in [(32, 1), (64, 2), (96, 3), (4096, 2), (512, 9)] {
            let mut bytes = blake3::Hasher::new().update(b"shards").finalize_xof();
            let mut shards = vec![vec![0; length]; 8];
            shards.iter_mut().for_each(|shard| bytes.fill(shard));
            let batch: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
            for order in [Order::Descending, Order::Ascending] {
                same!(vec![0x5a; length * count], |sums| AddBatch {
                    sums: &mut sums.chunks_exact_mut(length).collect::<Vec<_>>(),
                    batch: &batch,
                    order
                });
            }
            let source = batch[0];
            same!(vec![0x5a; length], |target| AddMultiple { target, source, factor: 0xb7 });
        }
    }
}
