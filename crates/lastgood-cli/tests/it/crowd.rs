//! Sixteen writers beside a loop of forget and gc, real processes all of them: every snapshot that
//! was committed and not forgotten comes back bit by bit. `cargo xtask torture crowd` makes it as
//! long as wished.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lastgood_testkit::campaign::tell;
use serde_json::Value;

use crate::world::{Files, World};

/// What everybody together did.
#[derive(Default)]
struct Crowd {
    /// Committed and not forgotten, with what must come back.
    kept: Mutex<Vec<(String, Files)>>,
    committed: AtomicU64,
    /// Runs that gc ended.
    ended: AtomicU64,
    forgotten: AtomicU64,
    collected: AtomicU64,
    is_over: AtomicBool,
}

impl Crowd {
    /// Changes some files and backs up, again and again.
    fn write(&self, world: &World, writer: u64) {
        let folder = format!("source-{writer}");
        let (source, host) = (world.text(&folder), format!("host-{writer}"));
        let mut files = Files::new();
        for round in 0.. {
            for number in 0..if round == 0 { FILES } else { 1 + round % 3 } {
                let name = format!("{}", (round * 5 + number) % FILES);
                // Some content is that of other writers, too.
                let seed = if number == 0 { round % 7 } else { writer << 32 | round << 8 | number };
                world.write_content(&format!("{folder}/{name}"), BYTES, seed + 1);
                files.insert(name, seed + 1);
            }
            let run = world.run(&["backup", "--json", "--host", &host, &source]);
            match committed(&run.out) {
                Some(id) if run.code == Some(0) => {
                    self.committed.fetch_add(1, Ordering::Relaxed);
                    self.kept.lock().unwrap().push((id, files.clone()));
                }
                _ => {
                    let is_fenced = run.err.contains("was fenced by gc");
                    assert!(is_fenced, "writer {writer}, round {round}: {run:?}");
                    self.ended.fetch_add(1, Ordering::Relaxed);
                }
            }
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Forgets some of what there is, and collects, again and again.
    fn collect(&self, world: &World) {
        for round in 0_u64.. {
            let doomed = {
                let mut kept = self.kept.lock().unwrap();
                // The newest stay, so that something is there to restore in the end.
                let old = kept.len().saturating_sub(FORGOTTEN_BEYOND);
                let step = (round % 3 + 1) as usize;
                let all: Vec<usize> = (0..old).step_by(step).collect();
                all.into_iter().rev().map(|at| kept.remove(at).0).collect::<Vec<_>>()
            };
            if !doomed.is_empty() {
                let ids = doomed.iter().map(String::as_str);
                world.run(&["forget"].into_iter().chain(ids).collect::<Vec<_>>()).code(0);
                self.forgotten.fetch_add(doomed.len() as u64, Ordering::Relaxed);
            }
            let flags: &[&str] = match round % 6 {
                0 => &["--max-unused", "0"],
                3 => &["--fence-after", "0"],
                _ => &[],
            };
            world.run(&[&["gc"], flags].concat()).code(0);
            self.collected.fetch_add(1, Ordering::Relaxed);
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// The snapshot that a run says it committed.
fn committed(out: &str) -> Option<String> {
    let lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut summaries = lines.filter(|line| line["message_type"] == "summary");
    summaries.find_map(|summary| summary["snapshot_id"].as_str().map(str::to_owned))
}

#[test]
fn sixteen_writers_beside_gc_lose_nothing() {
    let seconds = std::env::var("LASTGOOD_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = seconds.unwrap_or(8);
    let world = World::new();
    world.write("first/file", b"first");
    world.run(&["backup", &world.text("first")]).code(0);
    let crowd = Crowd::default();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (crowd, world) = (&crowd, &world);
            scope.spawn(move || crowd.write(world, writer));
        }
        scope.spawn(|| crowd.collect(&world));
        #[expect(clippy::disallowed_methods, reason = "a campaign is as long as was asked for")]
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        crowd.is_over.store(true, Ordering::Relaxed);
    });
    world.run(&["gc", "--max-unused", "0"]).code(0);
    world.run(&["check", "--read-data"]).code(0);
    let kept = crowd.kept.into_inner().unwrap();
    for (id, files) in &kept {
        world.restores(id, files, BYTES).unwrap();
    }
    let count = |counter: AtomicU64| counter.into_inner();
    let (committed, forgotten) = (count(crowd.committed), count(crowd.forgotten));
    tell(&format!(
        "crowd: {WRITERS} writers for {seconds} s: {committed} commits, {} runs ended by gc, \
         {forgotten} forgotten, {} gcs; {} restored and compared; lost committed snapshots: 0",
        count(crowd.ended),
        count(crowd.collected),
        kept.len(),
    ));
    assert_eq!(kept.len() as u64, committed - forgotten);
    assert!(committed > 0, "somebody committed");
}

const WRITERS: u64 = 16;
const FILES: u64 = 12;
const BYTES: usize = 60_000;
/// So many snapshots are not forgotten.
const FORGOTTEN_BEYOND: usize = 24;
