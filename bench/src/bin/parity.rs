//! Speed of parity on one core, in GB/s of data, and what it takes of making a pack.
//!
//! `parity`: no arguments. Runs are short and the best counts, so that others on the machine
//! disturb little.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lastgood_format::group::{Compression, FrameSize};
use lastgood_format::guard::{Redundancy, guard};
use lastgood_format::id::{RepositoryId, SessionId};
use lastgood_format::key::{Class, ClassSecret, RepositoryKeys, Secret};
use lastgood_format::pack::{BlobKind, FinishedPack, GroupPayload, PackBuilder, PackedBlob, mend};
use lastgood_format::parity::{ParityShare, Stripes};

fn main() {
    for (data, parity) in [(64, 1), (64, 2), (16, 2), (64, 3), (64, 4), (64, 8)] {
        let frames = PACK_BYTES / FRAME_BYTES;
        let stripes = Stripes { count: frames / data, parity, first_parity: frames };
        let mut bytes = noise(PACK_BYTES + stripes.count * parity * FRAME_BYTES);
        let mut protect = || {
            let mut shards: Vec<&mut [u8]> = bytes.chunks_exact_mut(FRAME_BYTES).collect();
            stripes.protect(&mut shards);
        };
        let cached = best(&mut || {}, &mut protect);
        let from_memory = best(&mut sweep_caches, &mut protect);
        println!(
            "{data}+{parity}: {:5.1} GB/s from memory, {:5.1} in cache",
            speed(PACK_BYTES, from_memory),
            speed(PACK_BYTES, cached)
        );
    }
    pack();
    for (bytes, redundancy) in [(237, Redundancy::Full), (5 << 20, Redundancy::Light)] {
        let content = noise(bytes);
        let took = best(&mut || {}, &mut || drop(black_box(guard(&content, redundancy))));
        println!("guarding {bytes} bytes, {redundancy:?}: {:.1} us", took.as_secs_f64() * 1e6);
    }
}

/// A pack of groups that do not compress: what is cheapest to make, so parity is most of it.
fn pack() {
    let keys = RepositoryKeys::new(Secret::new([1; 32]), RepositoryId::new([2; 16]));
    let session = SessionId::new([3; 16]);
    let secret = ClassSecret::create(&keys, Class::Data, session, Secret::new([4; 32]));
    let group = noise(1 << 20);
    let build = |share: ParityShare| -> (Duration, FinishedPack) {
        let sums = vec![0; PackBuilder::sums_bytes(FrameSize::ORDINARY, PACK_BYTES, share)];
        let memory = Box::new(vec![0; PACK_BYTES * 5 / 4]);
        let mut builder = PackBuilder::new(&secret, FrameSize::ORDINARY, memory).expecting(
            PACK_BYTES,
            share,
            Box::new(sums),
        );
        let start = now();
        for counter in 0..PACK_BYTES >> 20 {
            let blobs: Vec<PackedBlob> = group
                .chunks(32 << 10)
                .map(|chunk| PackedBlob {
                    id: keys.blob_id(BlobKind::Chunk, chunk),
                    kind: BlobKind::Chunk,
                    base: None,
                    bytes: chunk.len() as u32,
                })
                .collect();
            let payload = GroupPayload {
                payload: &group,
                raw_bytes: group.len() as u32,
                compression: Compression::Stored,
                level: 1,
                blobs: &blobs,
            };
            builder.add_group(&secret, &payload, counter as u64, &[0; 32]);
        }
        let pack = builder.finish(share, &secret, u64::MAX, &[0; 32]);
        (now() - start, pack)
    };
    let timed = |share| (0..RUN_COUNT).map(|_| build(share).0).min().unwrap_or_default();
    let (without, with) = (timed(ParityShare::NONE), timed(ParityShare::default()));
    println!(
        "a pack hashed and sealed: {:.1} ms, with parity {:.1} ms: {:.1} % more",
        without.as_secs_f64() * 1e3,
        with.as_secs_f64() * 1e3,
        (with.as_secs_f64() / without.as_secs_f64() - 1.0) * 100.0
    );

    let pack = build(ParityShare::default()).1;
    let mut bytes = pack.bytes.to_vec();
    bytes[1 << 20..(1 << 20) + (256 << 10)].fill(0);
    let took = best(&mut || {}, &mut || {
        let mended = mend(&bytes, pack.id);
        assert!(mended.is_ok_and(|mended| mended.shards > 60), "a hole of 256 KiB is mended");
    });
    println!("mending a hole of 256 KiB: {:.1} ms", took.as_secs_f64() * 1e3);
}

/// The shortest of many runs.
fn best(before: &mut dyn FnMut(), run: &mut dyn FnMut()) -> Duration {
    let timed = |_| {
        before();
        let start = now();
        run();
        now() - start
    };
    (0..RUN_COUNT).map(timed).min().unwrap_or_default()
}

fn sweep_caches() {
    black_box(vec![1_u8; 96 << 20]);
}

fn speed(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e9
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

const PACK_BYTES: usize = 16 << 20;
const FRAME_BYTES: usize = 4096;
const RUN_COUNT: usize = 20;
