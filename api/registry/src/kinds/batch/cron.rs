//! Whether a text is a cron schedule. When it is next due is for the controller to say.

/// A field of a schedule: what it is called and what numbers and names it takes.
struct Field {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, names: &[] },
    Field { low: 0, high: 23, names: &[] },
    Field { low: 1, high: 31, names: &[] },
    Field {
        low: 1,
        high: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if let Some(word) = schedule.strip_prefix('@') {
        return match word {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ if word.strip_prefix("every ").is_some_and(|d| is_duration(d.trim())) => Ok(()),
            _ => Err(format!("unrecognized descriptor: {schedule}")),
        };
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: {parts:?}", parts.len()));
    }
    parts.iter().zip(&FIELDS).try_for_each(|(part, field)| part.split(',').try_for_each(|r| range(r, field)))
}

fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    unit.len() < text.len()
        && unit.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
        && text.ends_with(['s', 'm', 'h'])
}

fn range(text: &str, field: &Field) -> Result<(), String> {
    let (span, step) = text.split_once('/').map_or((text, None), |(span, step)| (span, Some(step)));
    if step.is_some_and(|s| s.contains('/')) {
        return Err(format!("too many slashes: {text}"));
    }
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (field.low, field.high),
        Some((_, high)) if high.contains('-') => return Err(format!("too many hyphens: {text}")),
        Some((low, high)) => (value(low, field)?, value(high, field)?),
        None => {
            let low = value(span, field)?;
            (low, if step.is_some() { field.high } else { low })
        }
    };
    if low < field.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", field.low));
    }
    if high > field.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", field.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    match step.map(number).transpose()? {
        Some(0) => Err(format!("step of range should be a positive number: {text}")),
        _ => Ok(()),
    }
}

fn value(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    match field.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(field.low + u32::try_from(at).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse::<u32>().map_err(|_| format!("failed to parse int from {text}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-6,22 1 jan-mar mon", "@daily", "@every 1h30m", "0 0 ? * 0", "5/15 * * * *"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, want) in [
            ("* * * *", "expected exactly 5 fields, found 4: [\"*\", \"*\", \"*\", \"*\"]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: invalid syntax"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("@soon", "unrecognized descriptor: @soon"),
        ] {
            assert_eq!(check(bad), Err(want.to_owned()), "{bad}");
        }
    }
}
