//! Values with a text form of their own.

use std::str::FromStr as _;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Type;
use crate::quantity::{Quantity, QuantityError};

/// What Go has for a null in a list or map.
pub(super) fn zero(kind: Type) -> Value {
    match kind {
        Type::Bool => Value::Bool(false),
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => json!(0),
        Type::Quantity => json!("0"),
        Type::Any | Type::Time | Type::MicroTime => Value::Null,
        Type::List(_) => json!([]),
        Type::Object | Type::Struct(_) | Type::Map(_) => json!({}),
    }
}

/// Base64 with padding; line breaks are dropped.
pub(super) fn bytes(text: &mut String) -> Result<(), String> {
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    let at = match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
        Ok(_) => return Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => at,
        Err(_) => text.len(),
    };
    Err(format!("illegal base64 data at input byte {at}"))
}

/// RFC 3339 to the second, or to the microsecond, in UTC.
pub(super) fn time(text: &mut String, micro: bool) -> Result<(), String> {
    let wrong = |text: &str| {
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
    };
    if !looks_like_rfc3339(text.as_bytes()) {
        return Err(wrong(text));
    }
    let timestamp = Timestamp::from_str(text).map_err(|_| wrong(text))?;
    let canonical = if micro { format!("{timestamp:.6}") } else { format!("{timestamp:.0}") };
    if *text != canonical {
        *text = canonical;
    }
    Ok(())
}

/// jiff reads more forms than RFC 3339 has.
fn looks_like_rfc3339(text: &[u8]) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if text.len() <= FORM.len() || !text.iter().zip(FORM).all(fits) {
        return false;
    }
    let mut rest = &text[FORM.len()..];
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        rest = &fraction[digits..];
    }
    match rest {
        [b'Z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|b| b.is_ascii_digit()),
        _ => false,
    }
}

/// A quantity's canonical text; numbers are taken too.
pub(super) fn quantity(value: &mut Value) -> Result<(), String> {
    let parsed = match &*value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => Err(QuantityError::Format),
    };
    let canonical = parsed.map_err(|e| e.to_string())?.to_string();
    if value.as_str() != Some(&canonical) {
        *value = Value::String(canonical);
    }
    Ok(())
}

/// A text, or a whole number of 32 bits.
pub(super) fn int_or_string(value: &Value) -> Result<(), String> {
    let what = match value {
        Value::String(_) => return Ok(()),
        Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => return Ok(()),
        Value::Number(n) => format!("number {n}"),
        Value::Bool(_) => "bool".to_owned(),
        Value::Array(_) => "array".to_owned(),
        _ => "object".to_owned(),
    };
    Err(format!("json: cannot unmarshal {what} into Go value of type int32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_and_nothing_more() {
        for (text, seconds, micros) in [
            ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000000Z"),
            ("2024-01-01T00:00:00.9999999Z", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.999999Z"),
            ("2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00.000000Z"),
        ] {
            let (mut a, mut b) = (text.to_owned(), text.to_owned());
            assert_eq!((time(&mut a, false), time(&mut b, true)), (Ok(()), Ok(())));
            assert_eq!((a.as_str(), b.as_str()), (seconds, micros));
        }
        for text in [
            "",
            "2024-01-01",
            "2024-01-01T00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00Z[UTC]",
        ] {
            assert!(time(&mut text.to_owned(), false).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_padded_base64() {
        let mut broken = "YWJj\nZGVm".to_owned();
        assert_eq!(bytes(&mut broken), Ok(()));
        assert_eq!(broken, "YWJjZGVm");
        for text in ["YQ", "YQ=", "Y Q=", "ä", "YQ=="] {
            assert_eq!(bytes(&mut text.to_owned()).is_ok(), text == "YQ==", "{text}");
        }
    }
}
