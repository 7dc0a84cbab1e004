//! YAML read as Kubernetes reads it: on its way to JSON, by the rules of YAML 1.1 (`yes` is true, `012` is ten), one
//! document, aliases within limits.

use serde::de::DeserializeSeed as _;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Error, Options};

use super::json::ValueSeed;
use super::{ParseError, Parsed};

/// No object is larger than this, so neither is what aliases make of it.
const NODES_MAX: usize = 250_000;
/// As JSON.
const DEPTH_MAX: usize = 128;

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_events: 3 * NODES_MAX,
            max_depth: DEPTH_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
    }
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, Error> {
    serde_saphyr::with_deserializer_from_str_with_options(text, options(duplicate_keys), |deserializer| {
        ValueSeed { duplicates: &mut Vec::new(), whole_floats: true }.deserialize(deserializer)
    })
}

/// Reads YAML.
///
/// # Errors
/// If it is no YAML, more than one document, or beyond the limits; says where.
pub fn parse_yaml(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError("yaml: invalid UTF-8".to_owned()))?;
    let failed = |error: Error| {
        let place = error.location().map(|at| format!("line {}: ", at.line())).unwrap_or_default();
        ParseError(format!("yaml: {place}{}", plain(&error)))
    };
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok(value.into()),
        // The first duplicate ends that reading; go on with the last value, and name this one.
        Err(error) if is_duplicate(&error) => {
            let value = read(text, DuplicateKeyPolicy::LastWins).map_err(failed)?;
            Ok(Parsed { value, duplicates: vec![failed(error).to_string()] })
        }
        Err(error) => Err(failed(error)),
    }
}

fn is_duplicate(error: &Error) -> bool {
    matches!(error.without_snippet(), Error::DuplicateMappingKey { .. })
}

/// The error's kind in a few words; its own text may quote the document.
fn plain(error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("key {key:?} already set in map"),
            None => "key already set in map".to_owned(),
        },
        Error::Budget { .. } => "the document is larger or deeper than allowed".to_owned(),
        Error::MultipleDocuments { .. } => "more than one document".to_owned(),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_read_as_kubernetes_reads_them() {
        for (text, value) in [
            ("true", json!(true)),
            ("yes", json!(true)),
            ("On", json!(true)),
            ("no", json!(false)),
            ("OFF", json!(false)),
            ("\"yes\"", json!("yes")),
            ("~", json!(null)),
            ("null", json!(null)),
            ("", json!(null)),
            ("012", json!(10)),
            ("0x1F", json!(31)),
            ("1.0", json!(1)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000)),
            ("-7", json!(-7)),
            ("100m", json!("100m")),
            ("1.2.3", json!("1.2.3")),
            ("2024-01-01", json!("2024-01-01")),
            ("2024-01-01T00:00:00Z", json!("2024-01-01T00:00:00Z")),
            ("'012'", json!("012")),
            ("a b", json!("a b")),
            ("|\n  x\n  y\n", json!("x\ny\n")),
        ] {
            let parsed = parse_yaml(format!("a: {text}\n").as_bytes());
            assert_eq!(parsed.unwrap().value, json!({"a": value}), "{text}");
        }
    }

    #[test]
    fn structure_aliases_and_merges() {
        let text = "base: &b {x: 1}\nother:\n  <<: *b\n  y: [*b, 2]\n1: one\n";
        let value = json!({"base": {"x": 1}, "other": {"x": 1, "y": [{"x": 1}, 2]}, "1": "one"});
        assert_eq!(parse_yaml(text.as_bytes()).unwrap().value, value);
        assert_eq!(parse_yaml(br#"{"a": [1, {"b": null}]}"#).unwrap().value, json!({"a": [1, {"b": null}]}));
        let parsed = parse_yaml(b"a: 1\nb: 2\na: 3\n").unwrap();
        assert_eq!(parsed.value, json!({"a": 3, "b": 2}));
        assert!(parsed.duplicates[0].contains("line 3") && parsed.duplicates[0].contains("already set in map"));
    }

    #[test]
    fn bombs_and_broken_documents_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(",")));
        }
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for text in
            [bomb.as_str(), deep.as_str(), "a: [", "a: b: c", "a:\n\tb: 1", "a: 1\n---\nb: 2\n", "a: *none", "a: 'x"]
        {
            match parse_yaml(text.as_bytes()) {
                Ok(parsed) => panic!("{text:.30} read as {:.60}", parsed.value.to_string()),
                Err(error) => assert!(error.to_string().starts_with("yaml: "), "{error}"),
            }
        }
        assert!(parse_yaml(b"a: \xff").is_err());
    }
}
