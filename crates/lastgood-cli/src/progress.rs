//! Progress that tells the truth: a bar on a terminal, a line a minute without one, JSON events.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lastgood::{Control, Event, Job, Phase, Progress};
use serde_json::json;

use crate::clock::Stopwatch;
use crate::failure::Failure;
use crate::output::{Output, eprintln_quietly, path_bytes};
use crate::signals::Stoppable;
use crate::text;

/// Runs a job to its end, showing how far it is; events go to `on_event`.
///
/// `fps` is how often per second, where the user said so.
pub(crate) fn run<T: Send + 'static>(
    out: &Output,
    fps: Option<f64>,
    job: Job<T>,
    on_event: impl FnMut(Event),
) -> Result<T, Failure> {
    let control = job.control();
    let stoppable = Stoppable::new(control.clone());
    let result = std::thread::scope(|scope| {
        // Dropped after the job, which wakes the ticker and ends it.
        let (_running, ended) = channel::<()>();
        if let Some(shown) = Shown::choose(out, fps) {
            let bar = matches!(shown.how, How::Bar).then(|| new_bar(shown.interval));
            out.set_bar(bar.clone());
            let ticker = Ticker {
                out,
                control,
                bar,
                watch: Stopwatch::start(),
                rate: Rate::default(),
                has_total: false,
            };
            scope.spawn(move || ticker.run(shown, &ended));
        }
        job.wait(on_event)
    });
    out.set_bar(None);
    drop(stoppable);
    Ok(result?)
}

/// How progress is shown, and how often.
#[derive(Debug, Clone, Copy)]
struct Shown {
    how: How,
    interval: Duration,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Bar,
    Lines,
    Json,
}

impl Shown {
    fn choose(out: &Output, fps: Option<f64>) -> Option<Self> {
        let (how, default) = match () {
            () if out.style.quiet => return None,
            () if out.is_json() => (How::Json, 1.0),
            () if std::io::stderr().is_terminal() => (How::Bar, 10.0),
            () => (How::Lines, 1.0 / 60.0),
        };
        // Checked when the settings were read: above zero and finite.
        let seconds = (1.0 / fps.unwrap_or(default)).clamp(1.0 / 60.0, 86_400.0);
        Some(Self { how, interval: Duration::from_secs_f64(seconds) })
    }
}

/// Shows progress from a thread of its own until the job ends.
struct Ticker<'a> {
    out: &'a Output,
    control: Control,
    bar: Option<ProgressBar>,
    watch: Stopwatch,
    rate: Rate,
    /// Whether the bar has an end.
    has_total: bool,
}

impl Ticker<'_> {
    fn run(mut self, shown: Shown, ended: &Receiver<()>) {
        while ended.recv_timeout(shown.interval) == Err(RecvTimeoutError::Timeout) {
            let progress = self.control.progress();
            let elapsed = self.watch.elapsed().as_secs_f64();
            let view = View::new(&progress, elapsed, &mut self.rate);
            match shown.how {
                How::Bar => self.draw(&progress, &view),
                How::Lines => eprintln_quietly(&view.line(&progress)),
                How::Json => self.out.json("status", view.json(&progress)),
            }
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn draw(&mut self, progress: &Progress, view: &View) {
        let Some(bar) = &self.bar else { return };
        if let Some(share) = view.share {
            if !self.has_total {
                self.has_total = true;
                bar.set_style(style(BAR));
            }
            bar.set_position((share * BAR_STEPS as f64) as u64);
        }
        let current = progress.current.as_deref().map(path_bytes).unwrap_or_default();
        let text = view.text(progress, text::short_size);
        bar.set_message(format!("{} {text}  {}", view.percent(), text::escaped(current)));
    }
}

/// What can be said of one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct View {
    elapsed: f64,
    /// 0 to 1, never 1 before the job is over; `None` until the totals are known.
    share: Option<f64>,
    bytes_per_second: f64,
    remaining: Option<f64>,
}

impl View {
    fn new(progress: &Progress, elapsed: f64, rate: &mut Rate) -> Self {
        let bytes_per_second = rate.add(elapsed, progress.bytes_done);
        let share = share(progress);
        let left = progress.bytes_total.map(|total| total.saturating_sub(progress.bytes_done));
        let remaining = left.filter(|left| *left > 0 && bytes_per_second >= 1.0);
        let remaining = remaining.map(|left| left as f64 / bytes_per_second);
        Self { elapsed, share, bytes_per_second, remaining }
    }

    fn percent(&self) -> String {
        self.share.map_or(String::new(), |share| format!("{:.0}%", (share * 100.0).floor()))
    }

    fn text(&self, progress: &Progress, size: fn(u64) -> String) -> String {
        let of = |done: String, total: Option<String>| match total {
            Some(total) => format!("{done} / {total}"),
            None => done,
        };
        let files = progress.files_total.map(|total| total.to_string());
        let bytes = progress.bytes_total.map(size);
        let noun = if progress.phase == Phase::Checking { "packs" } else { "files" };
        let mut parts = vec![
            of(size(progress.bytes_done), bytes),
            format!("{} {noun}", of(progress.files_done.to_string(), files)),
            format!("{}/s", size(self.bytes_per_second as u64)),
        ];
        if let Some(remaining) = self.remaining {
            parts.push(format!("ETA {}", text::duration(remaining)));
        }
        if progress.problems > 0 {
            parts.push(text::count(progress.problems, "problem"));
        }
        parts.join(", ")
    }

    /// The line for a log.
    fn line(&self, progress: &Progress) -> String {
        let percent = self.percent();
        let gap = if percent.is_empty() { "" } else { " " };
        let elapsed = text::duration(self.elapsed);
        let phase = phase_name(progress.phase);
        format!("[{elapsed}] {phase}: {percent}{gap}{}", self.text(progress, text::size))
    }

    fn json(&self, progress: &Progress) -> serde_json::Value {
        let mut fields = json!({
            "phase": phase_name(progress.phase),
            "seconds_elapsed": self.elapsed as u64,
            "files_done": progress.files_done,
            "bytes_done": progress.bytes_done,
            "error_count": progress.problems,
        });
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                fields[name] = value;
            }
        };
        put("percent_done", self.share.map(Into::into));
        put("total_files", progress.files_total.map(Into::into));
        put("total_bytes", progress.bytes_total.map(Into::into));
        put("seconds_remaining", self.remaining.map(|seconds| (seconds.ceil() as u64).into()));
        let current = progress.current.as_deref().map(path_bytes);
        put("current_files", current.map(|path| json!([String::from_utf8_lossy(path)])));
        fields
    }
}

/// How much of the job is done, by bytes where there are any.
fn share(progress: &Progress) -> Option<f64> {
    let (done, total) = match (progress.bytes_total?, progress.files_total) {
        (0, Some(files)) => (progress.files_done, files),
        (bytes, _) => (progress.bytes_done, bytes),
    };
    if progress.phase == Phase::Done {
        return Some(1.0);
    }
    if total == 0 {
        return Some(0.0);
    }
    Some((done as f64 / total as f64).min(SHARE_MAX_BEFORE_END))
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Reading => "reading",
        Phase::Committing => "committing",
        Phase::Planning => "planning",
        Phase::Writing => "writing",
        Phase::Verifying => "verifying",
        Phase::Checking => "checking",
        Phase::Done => "done",
    }
}

/// Bytes per second over the last [`RATE_SECONDS`].
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(f64, u64)>,
}

impl Rate {
    fn add(&mut self, elapsed: f64, bytes: u64) -> f64 {
        let is_old = |sample: &(f64, u64)| elapsed - sample.0 > RATE_SECONDS;
        while self.samples.len() > 1 && self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        let (since, before) = self.samples.front().copied().unwrap_or((0.0, 0));
        // Several samples a second say no more than one.
        if self.samples.back().is_none_or(|(at, _)| elapsed - at >= 0.5) {
            self.samples.push_back((elapsed, bytes));
        }
        bytes.saturating_sub(before) as f64 / (elapsed - since).max(0.001)
    }
}

fn new_bar(interval: Duration) -> ProgressBar {
    let hz = (1.0 / interval.as_secs_f64()).ceil().clamp(1.0, 60.0) as u8;
    let bar = ProgressBar::new(BAR_STEPS);
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(hz));
    bar.set_style(style(SPINNER));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

const BAR: &str = "[{elapsed}] [{bar:12}] {wide_msg}";
const SPINNER: &str = "[{elapsed}] {spinner} {wide_msg}";
const BAR_STEPS: u64 = 10_000;
const RATE_SECONDS: f64 = 15.0;
/// The end is what the job says it is, not what the counters say.
const SHARE_MAX_BEFORE_END: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, total: Option<u64>) -> Progress {
        Progress {
            phase: Phase::Reading,
            files_done: 1,
            files_total: total.map(|_| 4),
            bytes_done: done,
            bytes_total: total,
            ..Progress::default()
        }
    }

    #[test]
    fn the_end_is_never_announced_early() {
        let check = |progress: Progress, expected: Option<f64>| {
            assert_eq!(share(&progress), expected, "{progress:?}");
        };
        check(progress(5, None), None);
        check(progress(5, Some(10)), Some(0.5));
        check(progress(10, Some(10)), Some(0.99));
        check(progress(12, Some(10)), Some(0.99));
        check(progress(0, Some(0)), Some(0.25));
        check(Progress { phase: Phase::Done, ..progress(10, Some(10)) }, Some(1.0));
    }

    #[test]
    fn unknown_totals_claim_nothing() {
        let view = View::new(&progress(1 << 20, None), 2.0, &mut Rate::default());
        let line = view.line(&progress(1 << 20, None));
        assert_eq!(line, "[0:02] reading: 1.000 MiB, 1 files, 512.000 KiB/s");
        assert!(view.json(&progress(1, None)).get("percent_done").is_none());
    }

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let mut rate = Rate::default();
        let rates: Vec<f64> =
            (1..=60_u64).map(|second| rate.add(second as f64, second.min(30) * 1000)).collect();
        assert!((rates[20] - 1000.0).abs() < 1.0, "{rates:?}");
        assert!(rates[59] < 1.0, "{rates:?}");
    }
}
