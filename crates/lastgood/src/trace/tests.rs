use std::fs;

use lastgood_backend::ErrorKind as BackendErrorKind;
use lastgood_backend::memory::MemoryBackend;
use lastgood_repo::format::chunker::ChunkerParams;
use lastgood_repo::format::key::Secret;
use lastgood_repo::format::slot::WorkFactors;
use lastgood_repo::{
    Gc, GcObserver, GcOptions, GcPhase, InitOptions, MaxUnused, RepoError, Settings,
};
use lastgood_testkit::faulty::{Calls, Failure, Faulty, Moment};

use super::*;
use crate::system;

/// A source, a repository that has an older state of it, and the trace of a run between them.
struct Traced {
    folder: tempfile::TempDir,
    memory: MemoryBackend,
    repo: Arc<Repository>,
}

impl Traced {
    /// Two snapshots, an excluded folder, and changes since.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = MemoryBackend::new();
        let init = InitOptions {
            credential: Credential::KeyFile(Secret::new([7; 32])),
            label: "test".to_owned(),
            work: WorkFactors::DEFAULT,
            chunker: ChunkerParams::Fixed { block: 16 << 10 },
        };
        let repo = Repository::create(
            Arc::new(memory.clone()),
            system::world(),
            &init,
            OpenOptions::default(),
        );
        let traced = Self { folder, memory, repo: Arc::new(repo.unwrap()) };
        fs::create_dir_all(traced.path("source/sub/deeper")).unwrap();
        fs::create_dir_all(traced.path("source/left-out")).unwrap();
        fs::create_dir_all(traced.path("traces")).unwrap();
        for number in 0..20 {
            let path = format!("source/sub/{number}");
            traced.write(&path, &noise(number, 3_000 * number));
        }
        traced.write("source/left-out/file", b"nobody wants this");
        for (number, changed) in ["source/sub/3", "source/sub/deeper/comes"].iter().enumerate() {
            backup::start(traced.repo.clone(), traced.options()).wait(drop).unwrap();
            traced.write(changed, &noise(100 + number, 150_000));
        }
        fs::remove_file(traced.path("source/sub/7")).unwrap();
        fs::hard_link(traced.path("source/sub/8"), traced.path("source/linked")).unwrap();
        traced
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn options(&self) -> BackupOptions {
        let mut options = BackupOptions::new(vec![self.path("source")], self.path("state"));
        options.select.excludes = vec!["left-out".to_owned()];
        options.tags = vec!["traced".to_owned()];
        // Small enough that several packs are put.
        options.settings =
            Settings { group_bytes: 32 << 10, pack_bytes: 64 << 10, ..Settings::default() };
        options.host = "here".to_owned();
        options
    }

    /// Backs up with a trace.
    fn record(&self, name: &str, backend: Arc<dyn Backend>) -> Result<BackupReport, Error> {
        self.record_with(name, backend, self.options())
    }

    fn record_with(
        &self,
        name: &str,
        backend: Arc<dyn Backend>,
        mut options: BackupOptions,
    ) -> Result<BackupReport, Error> {
        let cache = self.path(&format!("cache-{name}"));
        let repo = record(
            &self.path(&format!("traces/{name}")),
            &self.repo,
            backend,
            cache,
            &mut options,
        )?;
        backup::start(repo, options).wait(drop)
    }

    fn replay(&self, name: &str) -> Result<Replay, Error> {
        replay(&self.path(&format!("traces/{name}")), &self.repo)
    }

    fn exchanges(&self, name: &str) -> Vec<(Question, Answer)> {
        let path = self.path(&format!("traces/{name}"));
        let mut reader = TraceReader::open(&path, self.repo.keys()).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    /// Writes a trace of these exchanges.
    fn forge(&self, name: &str, exchanges: &[(Question, Answer)]) {
        let path = self.path(&format!("traces/{name}"));
        let Some(((Question::Start(start), _), rest)) = exchanges.split_first() else { panic!() };
        let mut writer =
            TraceWriter::create(&path, self.repo.keys(), &[1; 32], start.clone()).unwrap();
        rest.iter().for_each(|(question, answer)| writer.push(question, answer));
        writer.finish().unwrap();
    }
}

/// Bytes that do not compress.
fn noise(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[track_caller]
fn is_same(replay: &Replay, count: usize, how: &str) {
    match &replay.ended {
        Ended::Same(text) => assert!(text.starts_with(how), "{text}"),
        Ended::Differs(difference) => panic!("after {}: {difference}", replay.same),
        Ended::CutOff(question) => panic!("after {}: cut off before {question}", replay.same),
    }
    assert_eq!(replay.same, count as u64);
}

#[test]
fn a_run_goes_the_same_way_again_and_again() {
    let traced = Traced::new();
    let report = traced.record("run", Arc::new(traced.memory.clone())).unwrap();
    let after = traced.memory.objects();
    let id = report.snapshot.unwrap().id;
    let exchanges = traced.exchanges("run");
    let puts = |exchanges: &[(Question, Answer)]| {
        exchanges.iter().filter(|(question, _)| matches!(question, Question::Put(..))).count()
    };
    assert!(puts(&exchanges) >= 8, "several packs of each class");
    for _ in 0..3 {
        let replay = traced.replay("run").unwrap();
        is_same(&replay, exchanges.len(), &format!("snapshot {id}"));
    }
    assert_eq!(traced.memory.objects(), after, "a replay leaves the repository alone");
}

/// Packs that moved, and a partial snapshot whenever one can be: the
/// ways through a repository that lead over sets and tables.
#[test]
fn a_run_after_gc_goes_the_same_way_with_partial_snapshots() {
    let traced = Traced::new();
    let repo = &traced.repo;
    let live = repo.snapshots().unwrap().live;
    let oldest = live.iter().min_by_key(|record| record.snapshot.chain.sequence).unwrap();
    repo.retire(oldest, "a test", None).unwrap();
    let options = GcOptions {
        fence_after: i64::MIN,
        max_unused: MaxUnused::Bytes(0),
        settings: Settings::default(),
        writer_name: [3; 16],
        exclusive: false,
        threads: 1,
        keep_reserve: false,
    };
    let mut moved = 0;
    for _ in 0..3 {
        let mut gc = Gc::new(repo.clone(), options.clone());
        let plan = gc.plan(&Quiet).unwrap();
        gc.execute(&plan, &Quiet).unwrap();
        let objects = traced.memory.objects();
        moved = objects.keys().filter(|name| name.as_str().starts_with("relocations/")).count();
    }
    assert!(moved > 0, "something was repacked");
    let mut options = traced.options();
    options.partial_every_seconds = Some(0);
    let report = traced.record_with("run", Arc::new(traced.memory.clone()), options).unwrap();
    assert!(report.partials > 0);
    let exchanges = traced.exchanges("run");
    let moves = |(question, _): &(Question, Answer)| matches!(question, Question::Get(name, _) if name.starts_with("relocations/"));
    assert!(exchanges.iter().any(moves), "the baseline's packs were looked for where they are now");
    for _ in 0..3 {
        is_same(&traced.replay("run").unwrap(), exchanges.len(), "snapshot");
    }
}

/// Nobody listens.
struct Quiet;

impl GcObserver for Quiet {
    fn enter(&self, _: GcPhase, _: u64) {}
    fn step(&self, _: GcPhase, _: u64) {}
    fn proceed(&self) -> Result<(), RepoError> {
        Ok(())
    }
}

/// Every third call fails in turn: the replay fails in the same way, with the same words.
#[test]
fn a_run_that_failed_fails_again() {
    let traced = Traced::new();
    let before = traced.memory.objects();
    let (mut failed, mut paused) = (0, 0);
    for (number, kind) in (0..60).step_by(3).zip(
        [BackendErrorKind::NoSpace, BackendErrorKind::Denied, BackendErrorKind::Transient]
            .into_iter()
            .cycle(),
    ) {
        traced.memory.replace(before.clone());
        // What is cut off here was seen; that is not what this is about.
        fs::remove_dir_all(traced.path("state")).ok();
        let faulty = Arc::new(Faulty::new(Arc::new(traced.memory.clone())));
        faulty.fail(Failure { calls: Calls::One(number), moment: Moment::After, kind });
        let name = format!("fault-{number}");
        let result = traced.record(&name, faulty);
        failed += usize::from(result.is_err());
        let exchanges = traced.exchanges(&name);
        let pause = |(question, _): &(Question, Answer)| matches!(question, Question::Pause(_));
        paused += exchanges.iter().filter(|exchange| pause(exchange)).count();
        let how = match &result {
            Ok(report) => format!("snapshot {}", report.snapshot.as_ref().unwrap().id),
            Err(error) => error.to_string(),
        };
        is_same(&traced.replay(&name).unwrap(), exchanges.len(), &how);
    }
    assert!(failed >= 5 && paused >= 3, "{failed} runs failed, {paused} calls were tried again");
}

/// A recorded answer with a change in it, if it can have one that matters.
fn changed(answer: &Answer) -> Option<Answer> {
    Some(match answer {
        Answer::Time(time) => Answer::Time(Timestamp { seconds: time.seconds + 86_400, ..*time }),
        Answer::Bytes(bytes) => {
            let mut bytes = bytes.clone();
            let middle = bytes.len() / 2;
            *bytes.get_mut(middle)? ^= 1;
            Answer::Bytes(bytes)
        }
        Answer::Put(_) => Answer::Put(lastgood_backend::PutOutcome::Exists),
        Answer::Length(bytes) => Answer::Length(bytes + 1),
        Answer::Listed(objects) if objects.is_empty() => return None,
        Answer::Listed(_) => Answer::Listed(Vec::new()),
        Answer::Leading(stat) => Answer::Leading(Stat { mode: stat.mode ^ 1, ..*stat }),
        Answer::Done | Answer::Failed(_) | Answer::Strayed => return None,
    })
}

fn copy(exchanges: &[(Question, Answer)]) -> Vec<(Question, Answer)> {
    let copy = |(question, answer): &(Question, Answer)| {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        let mut reader = lastgood_repo::format::encoding::Reader::new(&bytes, "answer");
        (question.clone(), Answer::decode(&mut reader).unwrap())
    };
    exchanges.iter().map(copy).collect()
}

/// Whether another answer may have a run go the same way all the same: jitter of pauses that it did
/// not make, a clock that only says whether something is due, a name that was free or not, bytes
/// that parity mends or nobody needs, the copy of the config.
fn may_go_unnoticed(question: &Question) -> bool {
    match question {
        Question::Random(count) => *count == 8,
        Question::Now | Question::Put(..) => true,
        Question::GetRange(name, _) => name.starts_with("packs/"),
        Question::List(prefix) => prefix == "revisions/",
        _ => false,
    }
}

#[test]
fn a_change_of_one_answer_is_noticed() {
    let traced = Traced::new();
    traced.record("run", Arc::new(traced.memory.clone())).unwrap();
    let exchanges = traced.exchanges("run");
    let (mut noticed, mut unnoticed) = (0, 0);
    for number in 1..exchanges.len() {
        let Some(answer) = changed(&exchanges[number].1) else { continue };
        let mut forged = copy(&exchanges);
        forged[number].1 = answer;
        let name = format!("forged-{number}");
        traced.forge(&name, &forged);
        match traced.replay(&name).unwrap().ended {
            Ended::Differs(_) | Ended::CutOff(_) => noticed += 1,
            Ended::Same(_) => {
                let question = &exchanges[number].0;
                assert!(may_go_unnoticed(question), "{question}");
                unnoticed += 1;
            }
        }
    }
    assert!(noticed >= 40 && unnoticed >= 1, "{noticed} were noticed, {unnoticed} were not");
}

#[test]
fn a_changed_source_is_named() {
    let traced = Traced::new();
    traced.record("run", Arc::new(traced.memory.clone())).unwrap();
    traced.write("source/sub/12", b"something else");
    let Ended::Differs(difference) = traced.replay("run").unwrap().ended else { panic!() };
    let text = difference.to_string();
    assert!(text.contains("source/sub/12") && text.contains("no longer"), "{text}");
}

#[test]
fn a_trace_is_sealed_and_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let traced = Traced::new();
    traced.record("run", Arc::new(traced.memory.clone())).unwrap();
    let path = traced.path("traces/run");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&path).unwrap();
    let shows = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!shows(b"source") && !shows(b"snapshots/") && !shows(b"traced"));

    let other = Traced::new();
    let error = replay(&path, &other.repo).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let error = traced.record("run", Arc::new(traced.memory.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists, "a trace is never written over");
}

/// A run that was killed leaves the front of a trace.
#[test]
fn a_trace_may_be_cut_anywhere_and_a_flipped_bit_is_refused() {
    let traced = Traced::new();
    traced.record("run", Arc::new(traced.memory.clone())).unwrap();
    let path = traced.path("traces/run");
    let bytes = fs::read(&path).unwrap();
    let count = traced.exchanges("run").len() as u64;
    for eighth in 1..8 {
        fs::write(&path, &bytes[..bytes.len() * eighth / 8]).unwrap();
        match traced.replay("run") {
            Ok(Replay { ended: Ended::CutOff(_), same }) => assert!(same < count),
            other => panic!("{other:?}"),
        }
        let mut flipped = bytes.clone();
        flipped[bytes.len() * eighth / 8] ^= 4;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(traced.replay("run").unwrap_err().kind(), ErrorKind::Damaged);
    }
}

#[test]
fn what_cannot_be_made_again_is_refused() {
    let traced = Traced::new();
    let record = |file: &str, options: &mut BackupOptions| {
        let (file, cache) = (traced.path(file), traced.path("cache"));
        record(&file, &traced.repo, Arc::new(traced.memory.clone()), cache, options).unwrap_err()
    };
    let error = record("source/sub/trace", &mut traced.options());
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!traced.path("source/sub/trace").exists());
    let from = crate::backup::StreamFrom::Command(vec!["true".into()]);
    let mut stream = traced.options();
    stream.stream = Some(crate::backup::Stream { path: "stdin".into(), from });
    assert_eq!(record("trace", &mut stream).kind(), ErrorKind::Invalid);
}
