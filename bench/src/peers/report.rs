//! The report for people, which is made of the samples and nothing else.

use super::data::DATA_SETS;
use super::goals::{
    Goal, SECONDS, added_mib, anonymous_mib, cpu_seconds, limit_seconds, resident_mib, stored_mib,
};
use super::samples::{Measure, Results, Series};
use super::tool::{ALONE, TOOLS, Tool};
use super::workload::{Operation, State};

/// The whole report, in Markdown.
pub(super) fn report(results: &Results) -> String {
    let mut text = head(results);
    if !results.failures.is_empty() {
        text += &failures(results);
    }
    text += &goals(results);
    for state in State::ALL {
        for set in &DATA_SETS {
            if results.rounds(set.name, state) > 0 {
                text += &data_set(results, set.name, set.title, state);
            }
        }
    }
    text
}

fn head(results: &Results) -> String {
    let mut text = String::from(
        "# Benchmarks against other tools\n\n\
         <!-- Written by `cargo xtask bench` from its samples; do not edit. -->\n\n",
    );
    if results.is_quick {
        text += "**A quick run on small data, which says nothing about the goals.**\n\n";
    }
    text += "Each tool runs as its manual begins, with its own defaults, and encrypts if it can.\n\
             The tools take turns: a round of one tool does everything once with a new repository, \
             the next tool does the same, and the round after that begins with another tool.\n\
             A figure is the median of the rounds, with the least and the most in brackets.\n\
             Restored bytes are compared with the source after every restore.\n\
             Memory is that of all processes of the tool together, the most that was seen in any \
             round; anonymous memory is what no file backs.\n\n";
    text += "Not all is alike.\n\
             lastgood and bupstash open a repository with a key file, and the others derive a key \
             from a password, which takes tenths of a second.\n\
             bupstash has no check; it reads all data of its newest snapshot instead.\n\
             rdiff-backup and rsync store plain files; rsync keeps the newest state only.\n\
             The repository of lastgood holds parity, by which it can be mended.\n\n";
    text += "| | |\n|---|---|\n";
    for (name, value) in &results.machine {
        text += &format!("| {name} | {value} |\n");
    }
    text += &format!("| commit | {} |\n", results.commit);
    for tool in &TOOLS {
        if let Some(version) = results.versions.get(tool.name) {
            let remark = if tool.is_encrypting { "" } else { " (does not encrypt)" };
            text += &format!("| {} | {version}{remark} |\n", tool.name);
        }
    }
    text
}

fn failures(results: &Results) -> String {
    let mut text = String::from("\n## What failed\n\n");
    for failure in &results.failures {
        let Series { data, tool, .. } = &failure.series;
        let what = failure.what.lines().next().unwrap_or_default();
        text += &format!("- {tool}, {data}, {}: {what}\n", failure.operation.title());
    }
    text
}

fn goals(results: &Results) -> String {
    let goals = super::goals::goals();
    let judged: Vec<_> =
        goals.iter().filter_map(|goal| Some((goal, goal.judge(results)?))).collect();
    let met = judged.iter().filter(|(_, verdict)| verdict.is_met).count();
    let mut text =
        format!("\n## Goals\n\n{met} of {} goals that were measured are met", judged.len());
    let missing = goals.len() - judged.len();
    if missing > 0 {
        text += &format!(", {missing} were not measured");
    }
    text += ".\nThe limit is what the hardware of the research on limits allows for as much data.\n\n\
             | data | workload | goal | peer | ours | ratio | limit | ours / limit | met |\n\
             |---|---|---|---|---|---|---|---|---|\n";
    for (goal, verdict) in judged {
        let unit = if goal.is_of_time() { "s" } else { "MiB" };
        let peer = verdict.peer.map(|(tool, value)| format!("{tool} {} {unit}", number(value)));
        let limit = limit_of(results, goal);
        let line = [
            goal.data.to_owned(),
            goal.operation.title().to_owned(),
            goal.wording(),
            peer.unwrap_or_default(),
            format!("{} {unit}", number(verdict.ours)),
            verdict.ratio.map(|ratio| format!("{ratio:.2}×")).unwrap_or_default(),
            limit.map(|limit| format!("{} s", number(limit))).unwrap_or_default(),
            limit.map(|limit| format!("{:.1}×", verdict.ours / limit)).unwrap_or_default(),
            if verdict.is_met { "yes" } else { "**no**" }.to_owned(),
        ];
        text += &format!("| {} |\n", line.join(" | "));
    }
    text
}

fn limit_of(results: &Results, goal: &Goal) -> Option<f64> {
    limit_seconds(results, goal.data, goal.operation).filter(|_| goal.is_of_time())
}

fn data_set(results: &Results, name: &str, title: &str, state: State) -> String {
    let mut text = format!("\n## {}{}\n\n", capital(title), state.title());
    if let Some(facts) = results.data.get(name) {
        let what = facts["what"].as_str().unwrap_or_default();
        let mib = facts["bytes"].as_u64().unwrap_or_default() >> 20;
        text += &format!(
            "{}.\n{} entries, {mib} MiB; {} changes; rounds: {}.\n\n",
            capital(what),
            facts["entries"],
            facts["changes"],
            results.rounds(name, state),
        );
    }
    let series = |tool: &Tool| Series { data: name.to_owned(), state, tool: tool.name.to_owned() };
    let has_run = |tool: &&Tool| {
        let series = series(tool);
        results.samples.iter().any(|sample| sample.series == series)
    };
    let tools: Vec<(&Tool, Series)> =
        TOOLS.iter().filter(has_run).map(|it| (it, series(it))).collect();

    let spread = |measure: Measure, is_most: bool| {
        move |series: &Series, operation| {
            let spread = results.spread(series, operation, measure)?;
            Some(if is_most {
                number(spread.most)
            } else if spread.least < spread.most {
                format!(
                    "{} ({}–{})",
                    number(spread.median),
                    number(spread.least),
                    number(spread.most)
                )
            } else {
                number(spread.median)
            })
        }
    };
    if state == State::Busy {
        text += &latencies(results, name, &tools);
    }
    text += &table("seconds", &tools, spread(SECONDS, false));
    text += &table("processor seconds", &tools, spread(cpu_seconds, false));
    text += &table("MiB anonymous (resident)", &tools, |series, operation| {
        let most = |measure| Some(number(results.spread(series, operation, measure)?.most));
        Some(format!("{} ({})", most(anonymous_mib)?, most(resident_mib)?))
    });
    text += &table("MiB in the repository", &tools, |series, operation| {
        let stored = results.spread(series, operation, stored_mib)?.median;
        Some(match added_mib(results, series).filter(|_| operation == Operation::Changed) {
            Some(added) => format!("{} (+ {})", number(stored), number(added)),
            None => number(stored),
        })
    });
    text
}

/// How a program that people wait for fares beside each tool, and alone.
fn latencies(results: &Results, name: &str, tools: &[(&Tool, Series)]) -> String {
    let alone = Series { data: name.to_owned(), state: State::Busy, tool: ALONE.to_owned() };
    let measures: [(&str, [Measure; 2]); 2] = [
        ("write", [|it| Some(it.latency?.write[0]), |it| Some(it.latency?.write[1])]),
        ("read", [|it| Some(it.latency?.read[0]), |it| Some(it.latency?.read[1])]),
    ];
    let mut text = String::from(
        "The program stores a record of 4 KiB durably, then another 4 ms later, and reads one of \
         4 KiB anywhere in a file of 1 GiB as often.\n\
         The figures are what half of its calls take at most, and what 99 in 100 do; the median of \
         the rounds of either.\n\n",
    );
    for (what, measures) in measures {
        let shown = |series: &Series, operation| {
            let [half, most] = measures.map(|it| results.spread(series, operation, it));
            Some(format!("{}, {}", number(half?.median), number(most?.median)))
        };
        let beside = shown(&alone, Operation::Initial).unwrap_or_default();
        let title = format!("milliseconds of a {what}; {beside} without a backup");
        text += &table(&title, tools, shown);
    }
    text
}

/// One row for each operation of which `cell` knows something.
fn table(
    what: &str,
    tools: &[(&Tool, Series)],
    cell: impl Fn(&Series, Operation) -> Option<String>,
) -> String {
    let mut text = format!("| {what} |");
    tools.iter().for_each(|(tool, _)| text += &format!(" {} |", tool.name));
    text += &format!("\n|---|{}\n", "---|".repeat(tools.len()));
    for operation in Operation::all() {
        let cells: Vec<_> = tools.iter().map(|(_, series)| cell(series, operation)).collect();
        if cells.iter().any(Option::is_some) {
            let cells: Vec<_> =
                cells.into_iter().map(|cell| cell.unwrap_or("–".to_owned())).collect();
            text += &format!("| {} | {} |\n", operation.title(), cells.join(" | "));
        }
    }
    text + "\n"
}

/// Three digits that count, and no more after the point than are of use.
fn number(value: f64) -> String {
    match value.abs() {
        ..0.0995 => format!("{value:.3}"),
        ..9.95 => format!("{value:.2}"),
        ..99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::Failure;
    use super::super::samples::tests::{results, sample, series};
    use super::super::tool::OURS;
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_may_be() {
        let expected = [(0.01234, "0.012"), (0.1, "0.10"), (9.949, "9.95"), (9.96, "10.0")];
        for (value, text) in expected.into_iter().chain([(99.4, "99.4"), (1234.6, "1235")]) {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_report_says_which_goals_are_met_and_what_failed() {
        let mut results = results(vec![
            sample("kernel", OURS, Operation::Initial, 2.0, 200 << 20),
            sample("kernel", OURS, Operation::Initial, 4.0, 200 << 20),
            sample("kernel", "restic", Operation::Initial, 12.0, 250 << 20),
            sample("kernel", "bupstash", Operation::Initial, 4.5, 216 << 20),
        ]);
        results.data.insert(
            "kernel".to_owned(),
            json!({"what": "a tree", "bytes": 1229_u64 << 20, "entries": 84_000, "changes": 5}),
        );
        results.failures.push(Failure {
            series: series("kernel", "restic"),
            operation: Operation::Restore,
            what: "Makefile is not restored\nmore".to_owned(),
        });
        let text = report(&results);
        let unmeasured = super::super::goals::goals().len() - 4;
        let counted =
            format!("3 of 4 goals that were measured are met, {unmeasured} were not measured.");
        let lines = [
            "- restic, kernel, restore in full: Makefile is not restored",
            &counted,
            "| kernel | initial backup | ≥ 1.6× faster than bupstash | bupstash 4.50 s | 3.00 s | \
             1.50× | 2.10 s | 1.4× | **no** |",
            "| kernel | initial backup | repository ≤ 215 MiB | bupstash 216 MiB | 200 MiB | 1.08× \
             |  |  | yes |",
            "84000 entries, 1229 MiB; 5 changes; rounds: 1.",
            "| seconds | lastgood | restic | bupstash |",
            "| initial backup | 3.00 (2.00–4.00) | 12.0 | 4.50 |",
            "| initial backup | 50.0 (60.0) | 50.0 (60.0) | 50.0 (60.0) |",
        ];
        for line in lines {
            assert!(text.lines().any(|it| it == line), "{line}\nis not in\n{text}");
        }
    }
}
