//! How bytes, times and paths look to people and to programs.

use std::fmt::Write as _;

use jiff::Timestamp as JiffTimestamp;
use jiff::tz::TimeZone;
use lastgood::Timestamp;
use serde_json::{Map, Value};

/// `1.234 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.3} {}", UNITS[unit])
}

/// `1.2 MiB`: for where there is little room.
pub(crate) fn short_size(bytes: u64) -> String {
    let text = size(bytes);
    match (text.split_once('.'), text.rsplit_once(' ')) {
        (Some((whole, fraction)), Some((_, unit))) => {
            format!("{whole}.{} {unit}", fraction.get(..1).unwrap_or_default())
        }
        _ => text,
    }
}

/// `0:07`, `12:34` or `1:02:03`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// `1 file`, `2 files`: a count with its noun, which takes an `s`, or `ies` for its `y`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

/// RFC 3339 in UTC with nanoseconds; `@SECONDS.NANOS` for a time outside the years it can say.
pub(crate) fn time_json(time: Timestamp) -> String {
    match civil(time) {
        Some(timestamp) => timestamp.to_string(),
        None => format!("@{}.{:09}", time.seconds, time.nanos),
    }
}

/// Local time to the second.
pub(crate) fn time(time: Timestamp) -> String {
    match civil(time) {
        Some(timestamp) => {
            timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => format!("@{}", time.seconds),
    }
}

fn civil(time: Timestamp) -> Option<JiffTimestamp> {
    // Nanoseconds count upwards from the second, before 1970 as well.
    let start = JiffTimestamp::from_second(time.seconds).ok()?;
    let time = start.checked_add(jiff::SignedDuration::from_nanos(i64::from(time.nanos))).ok()?;
    (0..=9999).contains(&time.to_zoned(TimeZone::UTC).year()).then_some(time)
}

/// Reads a time as people write it: RFC 3339, a local date and time, a local date, or `now`.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let bad = |_| format!("{text:?} is no time: write 2026-11-21 18:30:00, 2026-11-21 or RFC 3339");
    let timestamp = match text.parse::<JiffTimestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => {
            let civil: jiff::civil::DateTime = text.parse().map_err(bad)?;
            civil.to_zoned(TimeZone::system()).map_err(bad)?.timestamp()
        }
    };
    let nanos = timestamp.subsec_nanosecond();
    let seconds = timestamp.as_second();
    Ok(if nanos < 0 {
        Timestamp { seconds: seconds - 1, nanos: (nanos + 1_000_000_000).unsigned_abs() }
    } else {
        Timestamp { seconds, nanos: nanos.unsigned_abs() }
    })
}

/// Reads the moment after the `@` of a snapshot's name: a time, the end of a day, or `3d` ago (hours,
/// days, weeks, months, years).
pub(crate) fn parse_moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    use jiff::Span;
    let span = |count: i64, unit: &str| match unit {
        "h" => Span::new().try_hours(count).ok(),
        "d" => Span::new().try_days(count).ok(),
        "w" => Span::new().try_weeks(count).ok(),
        "m" => Span::new().try_months(count).ok(),
        "y" => Span::new().try_years(count).ok(),
        _ => None,
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    if let Some(span) = count.parse().ok().and_then(|count| span(count, unit)) {
        let then = civil(now)?.to_zoned(TimeZone::system()).checked_sub(span).ok()?;
        return Some(Timestamp { seconds: then.timestamp().as_second(), nanos: now.nanos });
    }
    let is_day = text.len() == "2026-11-21".len() && text.parse::<jiff::civil::Date>().is_ok();
    let end = if is_day { format!("{text} 23:59:59.999999999") } else { text.to_owned() };
    parse_time(&end).ok()
}

/// Adds `name` with the text of a path to `fields`, and `name_bytes` with the exact bytes in hex
/// when they are not UTF-8.
pub(crate) fn put_path(fields: &mut Map<String, Value>, name: &str, path: &[u8]) {
    match std::str::from_utf8(path) {
        Ok(text) => {
            fields.insert(name.to_owned(), text.into());
        }
        Err(_) => {
            fields.insert(name.to_owned(), String::from_utf8_lossy(path).into());
            fields.insert(format!("{name}_bytes"), hex(path).into());
        }
    }
}

/// Adds `paths`, and `paths_bytes` with all of them in hex as soon as one is not UTF-8.
pub(crate) fn put_paths<'a>(
    fields: &mut Map<String, Value>,
    paths: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let texts = paths.clone().map(|path| Value::from(String::from_utf8_lossy(path)));
    fields.insert("paths".to_owned(), texts.collect::<Vec<_>>().into());
    if paths.clone().any(|path| std::str::from_utf8(path).is_err()) {
        let bytes = paths.map(|path| Value::from(hex(path)));
        fields.insert("paths_bytes".to_owned(), bytes.collect::<Vec<_>>().into());
    }
}

/// Base 64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = group >> (18 - 6 * digit) & 63;
            let is_padding = digit > chunk.len();
            text.push(if is_padding { '=' } else { char::from(DIGITS[value as usize]) });
        }
    }
    text
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string works");
        text
    })
}

/// The first eight digits of an id.
pub(crate) fn short(id: &impl ToString) -> String {
    let mut text = id.to_string();
    text.truncate(8);
    text
}

/// Bytes for a terminal: what could steer it is shown as an escape.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_invisible(c) {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a string works");
        }
    }
    text
}

/// Characters that reorder or hide their neighbours.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,~".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `drwxr-xr-x`.
pub(crate) fn mode(kind: char, mode: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, set, unset) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => unset,
            (true, true) => set,
        });
    }
    text
}

#[cfg(test)]
mod tests;
