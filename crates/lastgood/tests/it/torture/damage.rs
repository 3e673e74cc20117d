//! The disk rots: every bit of every object, and holes, cuts, losses and mix-ups by a seed.
//!
//! What parity makes up for is mended, told, and repaired; of everything else no wrong byte passes
//! for a right one.

use std::collections::BTreeSet;
use std::sync::Arc;

use lastgood::check::{CheckOptions, CheckReport, ReadData};
use lastgood::repair::RepairOptions;
use lastgood::restore::RestoreOptions;
use lastgood::{Repository, SnapshotRecord};
use lastgood_backend::memory::{MemoryBackend, Objects};
use lastgood_backend::{Backend, ObjectName};
use lastgood_format::gc::{Lost, ReadSession, Relocation, RoundList};
use lastgood_format::guard::{Redundancy, content, guard};
use lastgood_format::id::{PackId, SessionId, SnapshotId};
use lastgood_format::object::{ObjectKind, name};
use lastgood_format::pack::{mend, verify_bytes};
use lastgood_testkit::campaign::{each_seed, seeds, tell};
use lastgood_testkit::chance::Chance;

use super::world::{Source, create, key_file, open};
use crate::place::Tree;

/// A repository of some 100 KiB with an object of every kind.
struct Rotting {
    source: Source,
    objects: Objects,
    last: SnapshotRecord,
    tree: Tree,
    /// An object that is damaged, and that a repair has stored whole beside it.
    mended: String,
}

impl Rotting {
    fn new() -> Self {
        let source = Source::new(7);
        let memory = MemoryBackend::new();
        let repo = create(Arc::new(memory.clone()), 1).unwrap();
        let first = source.backup(&repo).unwrap();
        let rotated = repo.rotate(&key_file(0), lastgood::WorkFactors::DEFAULT, "rotated");
        let repo = rotated.unwrap().repo;
        source.change();
        let last = source.backup(&repo).unwrap();
        repo.retire(&first, "a test forgets it", None).unwrap();
        repo.add_key(&key_file(1), lastgood::WorkFactors::DEFAULT, "second").unwrap();
        let tree = Tree::of(&source.path());
        let mended = name::snapshot(last.id);
        let mut this = Self { source, objects: Objects::new(), last, tree, mended };
        this.collect(&memory, &repo);
        let mended = ObjectName::new(&this.mended).unwrap();
        let damaged = Spot::Byte.damage(&memory.objects()[&mended], 100).unwrap();
        memory.overwrite(&mended, &damaged);
        this.objects = memory.objects();
        assert_eq!(this.repair(&memory, 2), [this.mended.clone()]);
        Self { objects: memory.objects(), ..this }
    }

    /// Of damaged objects, those that a repair has something to do for: what is stored whole beside
    /// them need not be.
    fn to_repair(&self, hit: &BTreeSet<String>) -> BTreeSet<String> {
        let beside = name::repaired(&self.mended);
        let mut names = hit.clone();
        names.remove(&self.mended);
        if names.remove(&beside) {
            names.insert(self.mended.clone());
        }
        names
    }

    /// What gc, readers and whoever accepts a loss leave.
    fn collect(&self, memory: &MemoryBackend, repo: &Repository) {
        let (keys, maintenance) = (repo.keys(), repo.keys().maintenance());
        let round = RoundList { round: 1, packs: Vec::new() };
        let reader = SessionId::new([9; 16]);
        let reading = ReadSession { id: reader, started: 1, snapshots: vec![self.last.id] };
        let relocation = Relocation { to: Vec::new(), moved: Vec::new() };
        let relocation = relocation.encode(keys, &maintenance);
        let lost = SnapshotId::new([9; 32]);
        let accepted = Lost { snapshot: lost, time: 1, accepted_by: "a test".to_owned() };
        for (object, content) in [
            (name::condemn(1), round.encode(ObjectKind::Condemn, keys, &maintenance)),
            (name::verdict(1), round.encode(ObjectKind::Verdict, keys, &maintenance)),
            (name::lost(lost), accepted.encode(keys, &maintenance)),
            (name::reader(reader), reading.encode(keys, &keys.writer(&[1; 16]))),
            (name::relocation(lastgood_format::object::object_id(&relocation)), relocation),
        ] {
            let name = ObjectName::new(&object).unwrap();
            memory.put(&name, &[&guard(&content, Redundancy::of(&object))]).unwrap();
        }
    }

    fn kinds(&self) -> BTreeSet<&str> {
        self.objects.keys().map(|name| name.as_str().split('/').next().unwrap()).collect()
    }
}

/// Whether `damaged` is told from `whole`, and mended to it.
fn mends(name: &ObjectName, whole: &[u8], damaged: &[u8]) -> Result<(), String> {
    if let Some(id) = pack_id(name) {
        if verify_bytes(damaged) == Ok(id) {
            return Err(format!("{name} still verifies"));
        }
        return match mend(damaged, id) {
            Ok(mended) if mended.bytes == whole => Ok(()),
            Ok(_) => Err(format!("{name} is mended to another pack")),
            Err(error) => Err(format!("{name}: {error}")),
        };
    }
    let read = |bytes: &[u8]| content(bytes, u64::MAX, &|_| true);
    match (read(damaged), read(whole)) {
        (Ok(found), Ok(right)) if found.content != right.content => {
            Err(format!("{name} is mended to other content"))
        }
        (Ok(found), _) if found.damaged == 0 => Err(format!("{name} counts as whole")),
        (Ok(_), _) => Ok(()),
        (Err(error), _) => Err(format!("{name}: {error}")),
    }
}

fn pack_id(name: &ObjectName) -> Option<PackId> {
    let rest = name.as_str().strip_prefix(name::PACKS)?;
    rest.split_once('/').and_then(|(_, pack)| pack.parse().ok())
}

/// Damage at one place of an object, within what its parity makes up for.
#[derive(Debug, Clone, Copy)]
enum Spot {
    Bit(u32),
    Byte,
    Sector,
    End,
}

impl Spot {
    const ALL: [Self; 11] = [
        Self::Bit(0),
        Self::Bit(1),
        Self::Bit(2),
        Self::Bit(3),
        Self::Bit(4),
        Self::Bit(5),
        Self::Bit(6),
        Self::Bit(7),
        Self::Byte,
        Self::Sector,
        Self::End,
    ];

    /// Nothing when that changes nothing.
    fn damage(self, whole: &[u8], at: usize) -> Option<Vec<u8>> {
        let mut damaged = whole.to_vec();
        match self {
            Self::Bit(bit) => damaged[at] ^= 1 << bit,
            Self::Byte => damaged[at] = 0,
            Self::Sector => damaged[at..whole.len().min(at + SECTOR_BYTES)].fill(0),
            Self::End if whole.len() - at <= SECTOR_BYTES => damaged.truncate(at),
            Self::End => return None,
        }
        (damaged != whole).then_some(damaged)
    }
}

/// Every bit, every byte, every sector and every end, in slices: together all there is.
#[test]
fn every_bit_of_every_object_is_mended() {
    let rotting = Rotting::new();
    let kinds = [
        "condemn",
        "config",
        "index",
        "keys",
        "log",
        "lost",
        "outcomes",
        "packs",
        "readers",
        "relocations",
        "repaired",
        "retired",
        "revisions",
        "sessions",
        "snapshots",
        "verdict",
    ];
    assert_eq!(rotting.kinds(), BTreeSet::from(kinds));
    let slices = seeds(2);
    let mut objects = rotting.objects.clone();
    // Some of its parity is spent, and what a repair stored beside it has all of its own.
    objects.remove(&ObjectName::new(&rotting.mended).unwrap());
    let places = |slice: u64| {
        let places = objects
            .iter()
            .flat_map(|(name, whole)| (0..whole.len()).map(move |at| (name, whole, at)));
        places.zip(1_u64..).filter(move |(_, place)| place % SLICES == slice).map(|(it, _)| it)
    };
    let campaign = each_seed(slices.clone(), |slice, counts: &mut [u64; Spot::ALL.len()]| {
        let mut broken = Vec::new();
        for (name, whole, at) in places(slice) {
            for (spot, count) in Spot::ALL.iter().zip(&mut *counts) {
                let Some(damaged) = spot.damage(whole, at) else { continue };
                *count += 1;
                broken.extend(
                    mends(name, whole, &damaged)
                        .err()
                        .map(|why| format!("{spot:?} at {at}: {why}")),
                );
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    });
    let count = |spot: usize| campaign.figures.iter().map(|counts| counts[spot]).sum::<u64>();
    let bits: u64 = (0..8).map(count).sum();
    let [bytes, sectors, ends] = [8, 9, 10].map(count);
    let all: usize = objects.values().map(|bytes| bytes.len()).sum();
    tell(&format!(
        "damage, slices {slices:?} of {SLICES}, {} objects, {all} bytes: {bits} bits, {bytes} bytes, \
         {sectors} sectors, {ends} ends; slices with something unnoticed, wrong or not mended: {}",
        objects.len(),
        campaign.failed()
    ));
    campaign.end();
}

/// What becomes of a repository as a whole.
struct Fate {
    objects: Objects,
    /// Objects that must be found damaged and mended; nothing where more may be lost.
    mendable: Option<BTreeSet<String>>,
    what: String,
}

impl Rotting {
    fn fate(&self, seed: u64) -> Fate {
        let mut chance = Chance::new(seed);
        let mut objects = self.objects.clone();
        let names: Vec<ObjectName> = objects.keys().cloned().collect();
        let kind = seed % 6;
        let mut hit = BTreeSet::new();
        let count = if kind == 1 { names.len() } else { 1 + chance.below(4) };
        for number in 0..count {
            let name = if kind == 1 { &names[number] } else { chance.pick(&names) };
            let whole = self.objects[name].to_vec();
            let at = chance.below(whole.len());
            let damaged = match kind {
                0 | 1 => Spot::Bit(chance.below(8) as u32).damage(&whole, at),
                2 => Spot::Sector.damage(&whole, at),
                3 => {
                    let end = at + chance.below(whole.len() - at);
                    let mut damaged = whole.clone();
                    damaged[at..=end.min(whole.len() - 1)].fill_with(|| chance.number() as u8);
                    Some(damaged)
                }
                4 => Some(whole[..at].to_vec()),
                _ if chance.one_in(3) => {
                    objects.remove(name);
                    hit.insert(name.as_str().to_owned());
                    None
                }
                _ => Some(self.objects[chance.pick(&names)].to_vec()),
            };
            if let Some(damaged) = damaged.filter(|damaged| *damaged != whole) {
                objects.insert(name.clone(), damaged.into());
                hit.insert(name.as_str().to_owned());
            }
        }
        let what = format!("seed {seed}, kind {kind}, {hit:?}");
        Fate { objects, mendable: (kind < 3).then_some(hit), what }
    }

    /// The newest snapshot, restored; `Err` says that something is wrong with it.
    fn restore(&self, memory: &MemoryBackend, seed: u64) -> Result<Tree, String> {
        let repo = open(Arc::new(memory.clone()), seed, 0).map_err(|error| format!("{error:?}"))?;
        let target = self.source.beside(&format!("target-{seed}"));
        std::fs::remove_dir_all(&target).ok();
        let record = repo.load_snapshot(self.last.id).map_err(|error| format!("{error:?}"))?;
        let record = record.ok_or("it is not committed")?;
        let mut options = RestoreOptions::new(record, target.clone());
        options.host_id = [7; 16];
        let report = lastgood::restore::start(repo, options).wait(|_| {});
        let report = report.map_err(|error| format!("{error:?}"))?;
        if !report.damaged.is_empty() || report.problems.errors > 0 {
            return Err(format!("{:?}", report.problems));
        }
        let tree = Tree::of(&target);
        std::fs::remove_dir_all(&target).ok();
        Ok(tree)
    }

    fn check(memory: &MemoryBackend, seed: u64) -> Result<CheckReport, String> {
        let repo = open(Arc::new(memory.clone()), seed, 0).map_err(|error| format!("{error:?}"))?;
        let options = CheckOptions { read_data: ReadData::All, threads: 1 };
        lastgood::check::start(repo, options).wait(drop).map_err(|error| format!("{error:?}"))
    }

    /// All that is promised of one fate; returns whether everything came back.
    fn survive(&self, seed: u64) -> Result<bool, String> {
        let Fate { objects, mendable, what } = self.fate(seed);
        let ensure = |is_so: bool, why: &dyn Fn() -> String| {
            if is_so { Ok(()) } else { Err(format!("{what}: {}", why())) }
        };
        let memory = MemoryBackend::new();
        memory.replace(objects.clone());
        let restored = self.restore(&memory, seed);
        let is_right = restored.as_ref().is_ok_and(|tree| *tree == self.tree);
        ensure(is_right || restored.is_err(), &|| "wrong files pass for right ones".to_owned())?;
        let Some(mendable) = mendable else { return Ok(is_right) };
        ensure(is_right, &|| format!("not restored: {restored:?}"))?;
        let report = Self::check(&memory, seed)?;
        ensure(report.damage.is_empty(), &|| format!("damage: {:?}", report.damage))?;
        let to_repair = self.to_repair(&mendable);
        let told = BTreeSet::from_iter(report.mendable);
        // Packs that no live snapshot needs are no matter of check, but of repair.
        ensure(told.is_subset(&to_repair), &|| format!("told as damaged: {told:?}"))?;
        let repaired = BTreeSet::from_iter(self.repair(&memory, seed));
        ensure(repaired == to_repair, &|| format!("repaired: {repaired:?}"))?;
        for name in mendable {
            let name = ObjectName::new(&name).unwrap();
            memory.overwrite(&name, &vec![0xa5; objects[&name].len()]);
        }
        let restored = self.restore(&memory, seed);
        ensure(restored.as_ref() == Ok(&self.tree), &|| format!("after repair: {restored:?}"))?;
        Ok(true)
    }

    fn repair(&self, memory: &MemoryBackend, seed: u64) -> Vec<String> {
        let repo = open(Arc::new(memory.clone()), 1 << 20 | seed, 0).unwrap();
        let state = self.source.beside(&format!("state-{seed}"));
        let options = RepairOptions { threads: 1, ..RepairOptions::new(state) };
        let report = lastgood::repair::start(repo, options).wait(drop).unwrap().objects;
        assert_eq!([report.lost, report.damaged_packs].concat(), Vec::<String>::new());
        // What repairs made of an object is read with it.
        let own = self.objects.keys().filter(|name| !name.as_str().starts_with(name::REPAIRED));
        assert_eq!(report.objects_read, own.count() as u64, "a kind is left out");
        report.repaired
    }
}

#[test]
fn what_rots_is_mended_or_told() {
    let rotting = Rotting::new();
    let seeds = seeds(18);
    let campaign = each_seed(seeds.clone(), |seed, is_whole| {
        *is_whole = rotting.survive(seed)?;
        Ok(())
    });
    let whole = campaign.figures.iter().filter(|is_whole| **is_whole).count();
    tell(&format!(
        "damage, seeds {seeds:?}: {whole} restored whole, {} told; seeds with wrong bytes or less \
         than parity gives: {}",
        campaign.figures.len() - whole - campaign.failed(),
        campaign.failed()
    ));
    campaign.end();
}

const SECTOR_BYTES: usize = 4096;
/// Into which all places are dealt.
const SLICES: u64 = 1000;
