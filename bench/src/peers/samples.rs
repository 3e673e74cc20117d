//! The samples of all runs on one commit, kept as JSON so that runs of parts add up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::foreground::Latency;
use super::measure::Cost;
use super::stats::Spread;
use super::workload::{Operation, State};

/// Everything that a report is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Results {
    /// What of the project was measured.
    pub commit: String,
    /// Whether the data were the small ones, of which no goal speaks.
    pub is_quick: bool,
    /// Names and values that describe the machine.
    pub machine: BTreeMap<String, String>,
    /// What each tool says of its version.
    pub versions: BTreeMap<String, String>,
    /// What each data set is, by its name.
    pub data: BTreeMap<String, Value>,
    pub samples: Vec<Sample>,
    /// What went wrong.
    pub failures: Vec<Failure>,
}

/// What a sample is one of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub data: String,
    pub state: State,
    pub tool: String,
}

/// One operation of one tool, once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub series: Series,
    pub round: u64,
    pub operation: Operation,
    pub cost: Cost,
    /// Of the repository afterwards, where the operation may have changed it.
    pub stored_bytes: Option<u64>,
    /// Of the program beside it, where there was one.
    pub latency: Option<Latency>,
}

/// An operation that failed, or did not restore what was backed up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub series: Series,
    pub operation: Operation,
    pub what: String,
}

/// What of a sample is looked at.
pub(super) type Measure = fn(&Sample) -> Option<f64>;

impl Results {
    /// Puts those of `newer` in the place of those of the same series; of another commit, or of
    /// data that differ, nothing stays.
    pub(super) fn merge(mut self, newer: Self) -> Self {
        let is_same = self.commit == newer.commit
            && self.is_quick == newer.is_quick
            && self.machine_kind() == newer.machine_kind()
            && newer.data.iter().all(|(name, is)| self.data.get(name).is_none_or(|was| was == is))
            && newer
                .versions
                .iter()
                .all(|(tool, is)| self.versions.get(tool).is_none_or(|was| was == is));
        if !is_same {
            println!("the samples of commit {} are replaced: they do not go together", self.commit);
            return newer;
        }
        let is_stale = |series: &Series| newer.samples.iter().any(|it| it.series == *series);
        self.samples.retain(|sample| !is_stale(&sample.series));
        self.failures.retain(|failure| !is_stale(&failure.series));
        self.samples.extend(newer.samples);
        self.failures.extend(newer.failures);
        self.data.extend(newer.data);
        self.versions.extend(newer.versions);
        self.machine = newer.machine;
        self
    }

    /// The machine without the day.
    fn machine_kind(&self) -> impl PartialEq + use<'_> {
        self.machine.iter().filter(|(name, _)| *name != DATE).collect::<Vec<_>>()
    }

    /// The spread of a measure of a series.
    pub(super) fn spread(
        &self,
        series: &Series,
        operation: Operation,
        measure: Measure,
    ) -> Option<Spread> {
        let samples = self.samples.iter().filter(|sample| sample.series == *series);
        Spread::of(samples.filter(|sample| sample.operation == operation).filter_map(measure))
    }

    /// The most rounds that were made of a data set.
    pub(super) fn rounds(&self, data: &str, state: State) -> u64 {
        let of = |series: &Series| series.data == data && series.state == state;
        let samples = self.samples.iter().filter(|sample| of(&sample.series));
        samples.map(|sample| sample.round).max().unwrap_or(0)
    }

    /// Reads what an earlier run has written; `None` if there was none.
    ///
    /// # Errors
    /// When it cannot be read, or is no such file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| shown.to_string())?;
        let value: Value = serde_json::from_str(&text).with_context(|| shown.to_string())?;
        Self::decode(&value).map(Some).with_context(|| format!("{shown} holds no such samples"))
    }

    /// Writes them, one sample per line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let encoded = self.encode();
        let fields = encoded.as_object().context("it is an object")?;
        let mut text = String::from("{\n");
        for (index, (name, value)) in fields.iter().enumerate() {
            let value = match value.as_array() {
                Some(lines) if !lines.is_empty() => {
                    let lines = lines.iter().map(Value::to_string).collect::<Vec<_>>();
                    format!("[\n{}\n]", lines.join(",\n"))
                }
                _ => value.to_string(),
            };
            let comma = if index + 1 < fields.len() { "," } else { "" };
            text += &format!("\"{name}\": {value}{comma}\n");
        }
        fs::write(path, text + "}\n").with_context(|| path.display().to_string())
    }

    fn encode(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "commit": self.commit,
            "quick": self.is_quick,
            "machine": self.machine,
            "versions": self.versions,
            "data": self.data,
            "samples": self.samples.iter().map(Sample::encode).collect::<Vec<_>>(),
            "failures": self.failures.iter().map(Failure::encode).collect::<Vec<_>>(),
        })
    }

    fn decode(value: &Value) -> anyhow::Result<Self> {
        ensure!(value["schema"] == SCHEMA, "its schema is not {SCHEMA}");
        let texts = |name| -> anyhow::Result<BTreeMap<String, String>> {
            let fields = object(value, name)?.iter();
            fields.map(|(name, it)| Ok((name.clone(), string(it)?))).collect()
        };
        Ok(Self {
            commit: string(&value["commit"])?,
            is_quick: value["quick"].as_bool().context("quick")?,
            machine: texts("machine")?,
            versions: texts("versions")?,
            data: object(value, "data")?.clone().into_iter().collect(),
            samples: array(value, "samples")?
                .iter()
                .map(Sample::decode)
                .collect::<Result<_, _>>()?,
            failures: array(value, "failures")?
                .iter()
                .map(Failure::decode)
                .collect::<Result<_, _>>()?,
        })
    }
}

const SCHEMA: u64 = 2;

/// The field of the machine that says when it was.
pub(super) const DATE: &str = "date";

fn object<'a>(value: &'a Value, name: &'static str) -> anyhow::Result<&'a Map<String, Value>> {
    value[name].as_object().context(name)
}

fn array<'a>(value: &'a Value, name: &'static str) -> anyhow::Result<&'a [Value]> {
    Ok(value[name].as_array().context(name)?)
}

fn string(value: &Value) -> anyhow::Result<String> {
    Ok(value.as_str().with_context(|| format!("{value} is no text"))?.to_owned())
}

fn operation(value: &Value) -> anyhow::Result<Operation> {
    let name = string(&value["operation"])?;
    Operation::named(&name).with_context(|| format!("{name} is no operation"))
}

fn latency(value: &Value) -> Option<Latency> {
    let pair = |it: &Value| Some([it[0].as_f64()?, it[1].as_f64()?]);
    Some(Latency { write: pair(&value[0])?, read: pair(&value[1])? })
}

impl Series {
    fn decode(value: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            data: string(&value["data"])?,
            state: State::named(&string(&value["state"])?).context("state")?,
            tool: string(&value["tool"])?,
        })
    }
}

impl Sample {
    fn encode(&self) -> Value {
        json!({
            "data": self.series.data,
            "state": self.series.state.name(),
            "round": self.round,
            "tool": self.series.tool,
            "operation": self.operation.name(),
            "seconds": self.cost.seconds,
            "cpu_seconds": self.cost.cpu_seconds,
            "resident_bytes": self.cost.resident_bytes,
            "anonymous_bytes": self.cost.anonymous_bytes,
            "stored_bytes": self.stored_bytes,
            "latency": self.latency.map(|Latency { write, read }| [write, read]),
        })
    }

    fn decode(value: &Value) -> anyhow::Result<Self> {
        let number = |name: &'static str| value[name].as_f64().context(name);
        let bytes = |name: &'static str| value[name].as_u64().context(name);
        Ok(Self {
            series: Series::decode(value)?,
            round: bytes("round")?,
            operation: operation(value)?,
            cost: Cost {
                seconds: number("seconds")?,
                cpu_seconds: number("cpu_seconds")?,
                resident_bytes: bytes("resident_bytes")?,
                anonymous_bytes: bytes("anonymous_bytes")?,
            },
            stored_bytes: value["stored_bytes"].as_u64(),
            latency: latency(&value["latency"]),
        })
    }
}

impl Failure {
    fn encode(&self) -> Value {
        json!({
            "data": self.series.data,
            "state": self.series.state.name(),
            "tool": self.series.tool,
            "operation": self.operation.name(),
            "what": self.what,
        })
    }

    fn decode(value: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            series: Series::decode(value)?,
            operation: operation(value)?,
            what: string(&value["what"])?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::peers) fn series(data: &str, tool: &str) -> Series {
        Series { data: data.to_owned(), state: State::Warm, tool: tool.to_owned() }
    }

    pub(in crate::peers) fn sample(
        data: &str,
        tool: &str,
        operation: Operation,
        seconds: f64,
        stored_bytes: u64,
    ) -> Sample {
        let cost = Cost {
            seconds,
            cpu_seconds: 2.0 * seconds,
            resident_bytes: 60 << 20,
            anonymous_bytes: 50 << 20,
        };
        let stored_bytes = Some(stored_bytes);
        let series = series(data, tool);
        Sample { series, round: 1, operation, cost, stored_bytes, latency: None }
    }

    pub(in crate::peers) fn results(samples: Vec<Sample>) -> Results {
        let texts = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
        Results {
            commit: "abc".to_owned(),
            is_quick: false,
            machine: texts(DATE, "2026-11-21"),
            versions: texts("restic", "restic 0.18.0"),
            data: BTreeMap::new(),
            samples,
            failures: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.json");
        assert_eq!(Results::read(&path).unwrap(), None);
        let mut written = results(vec![
            sample("kernel", "restic", Operation::Initial, 1.5, 7),
            Sample {
                stored_bytes: None,
                latency: Some(Latency { write: [1.5, 2.0], read: [0.25, 7.0] }),
                ..sample("tiny", "borg", Operation::RestoreInPlace, 0.25, 0)
            },
        ]);
        written.data.insert("kernel".to_owned(), json!({"what": "a tree", "bytes": 7}));
        written.failures.push(Failure {
            series: series("tiny", "borg"),
            operation: Operation::Check,
            what: "it \"fails\"".to_owned(),
        });
        written.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), Some(written));

        fs::write(&path, "{\"schema\": 3}").unwrap();
        let refused = format!("{:#}", Results::read(&path).unwrap_err());
        assert!(refused.ends_with("holds no such samples: its schema is not 2"), "{refused}");
    }

    #[test]
    fn runs_of_parts_add_up_on_one_commit_only() {
        let initial = |data, tool, seconds| sample(data, tool, Operation::Initial, seconds, 1);
        let first = results(vec![initial("a", "x", 1.0), initial("a", "y", 2.0)]);
        let mut second = results(vec![initial("a", "y", 3.0), initial("b", "x", 4.0)]);
        second.machine.insert(DATE.to_owned(), "2026-11-22".to_owned());
        let both = first.clone().merge(second.clone());
        let seconds: Vec<f64> = both.samples.iter().map(|sample| sample.cost.seconds).collect();
        assert_eq!(seconds, [1.0, 3.0, 4.0]);
        assert_eq!(both.machine, second.machine);

        second.commit = "def".to_owned();
        assert_eq!(first.clone().merge(second.clone()), second);
        second.commit = "abc".to_owned();
        second.versions.insert("restic".to_owned(), "restic 0.19.0".to_owned());
        assert_eq!(first.merge(second.clone()), second);
    }
}
