//! JSON with duplicate fields noted. Nesting is limited by serde_json (128 levels), trailing data and invalid UTF-8 are
//! errors.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{ParseError, Parsed};

/// No more duplicates than this are named.
const DUPLICATES_MAX: usize = 100;

/// Reads JSON.
///
/// # Errors
/// If it is no JSON; says where.
pub fn parse_json(bytes: &[u8]) -> Result<Parsed, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError("unexpected end of JSON input".to_owned()));
    }
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = ValueSeed { duplicates: &mut duplicates, whole_floats: false };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|e| ParseError(e.to_string()))?;
    Ok(Parsed { value, duplicates: duplicates.into_iter().map(|path| format!("duplicate field \"{path}\"")).collect() })
}

/// Makes a [`Value`] and collects the paths of duplicates, innermost name first known: the levels above add theirs in
/// front while they return, so that objects without duplicates pay nothing.
pub(super) struct ValueSeed<'d> {
    pub(super) duplicates: &'d mut Vec<String>,
    /// Whether `1.0` is read as `1`, as YAML's way to JSON does.
    pub(super) whole_floats: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ValueSeed<'_> {
    fn nested(&mut self) -> ValueSeed<'_> {
        ValueSeed { duplicates: self.duplicates, whole_floats: self.whole_floats }
    }

    fn prefix(&mut self, from: usize, name: fmt::Arguments<'_>) {
        for path in &mut self.duplicates[from..] {
            let dot = if path.starts_with('[') { "" } else { "." };
            *path = format!("{name}{dot}{path}");
        }
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.whole_floats && value.fract() == 0.0 && value.abs() < EXACT {
            return Ok(Value::from(value as i64));
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let before = self.duplicates.len();
            let Some(value) = list.next_element_seed(self.nested())? else { return Ok(Value::Array(values)) };
            if self.duplicates.len() > before {
                self.prefix(before, format_args!("[{}]", values.len()));
            }
            values.push(value);
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let before = self.duplicates.len();
            let value = map.next_value_seed(self.nested())?;
            if self.duplicates.len() > before {
                self.prefix(before, format_args!("{key}"));
            }
            if values.contains_key(&key) && self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(key.clone());
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_named_and_the_last_counts() {
        let text = br#"{"a":1,"a":2,"b":[{"c":1},{"c":1,"c":2}],"d":{"e":{"f":1,"f":1,"f":3}},"g":[[{"h":1,"h":2}]]}"#;
        let parsed = parse_json(text).unwrap();
        assert_eq!(parsed.value, json!({"a": 2, "b": [{"c": 1}, {"c": 2}], "d": {"e": {"f": 3}}, "g": [[{"h": 2}]]}));
        let names = ["a", "b[1].c", "d.e.f", "d.e.f", "g[0][0].h"];
        assert_eq!(parsed.duplicates, names.map(|name| format!("duplicate field \"{name}\"")));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in
            ["", " ", "{", "{}x", "{\"a\":}", "{'a':1}", "nul", "1e999", deep.as_str(), "{\"a\":1,}", "\u{feff}{}"]
        {
            assert!(parse_json(text.as_bytes()).is_err(), "{text:.20}");
        }
        assert!(parse_json(b"{\"a\":\"\xff\"}").is_err());
        assert!(parse_json(b"{\"a\":\"\\ud800\"}").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}\",:0-9a-e. \\-]{0,40}") {
            match (parse_json(text.as_bytes()), serde_json::from_str::<Value>(&text)) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.value, theirs),
                (ours, theirs) => prop_assert_eq!(ours.is_err(), theirs.is_err()),
            }
        }
    }
}
