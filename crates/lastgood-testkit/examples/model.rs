//! Searches all bounds of the model of commit and gc, and prints what each search found.
//!
//! `cargo xtask model` runs it; with words, only the searches whose names hold one of them.

#![expect(clippy::print_stdout, reason = "a command that reports to people")]

use std::process::ExitCode;

use lastgood_testkit::gc_model::cases::CASES;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_meant = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mut wrong = 0;
    println!("{:<48} {:>10}  found", "search", "states");
    for case in CASES.iter().filter(|case| is_meant(case.name)) {
        let search = case.search();
        let found = search.violation.as_ref().map_or("nothing lost", |(what, _)| *what);
        let steps = search.violation.as_ref().map(|(_, trace)| trace.len());
        let steps = steps.map(|steps| format!(", after {steps} steps")).unwrap_or_default();
        println!("{:<48} {:>10}  {found}{steps}", case.name, search.state_count);
        if let Err(message) = case.judge(&search) {
            println!("{message}");
            wrong += 1;
        }
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
