//! The messages that JSON does not have as objects: times, quantities, raw JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Number, Value, json};

use super::reader::Reader;
use super::writer::Writer;
use super::{DecodeError, named};
use crate::decode::parse_json;
use crate::schema::Type;

/// The structure that [`crate::schema::Form`] calls a schema.
pub(super) const JSON_SCHEMA: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Go's zero time, 0001-01-01T00:00:00Z, which is null in JSON and an empty message here.
const ZERO_TIME_SECONDS: i64 = -62_135_596_800;
const MICROS: i64 = 1_000_000;

/// What a map holds for a key that comes without a value.
pub(super) fn zero(kind: Type) -> Value {
    match kind {
        Type::Bool => Value::Bool(false),
        Type::String | Type::Bytes => Value::String(String::new()),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => json!(0),
        Type::Quantity => json!("0"),
        Type::Any | Type::Object | Type::Time | Type::MicroTime => Value::Null,
        Type::List(_) => json!([]),
        Type::Struct(_) | Type::Map(_) => json!({}),
    }
}

pub(super) fn read_double(bits: u64, name: &str) -> Result<Value, DecodeError> {
    let number = f64::from_bits(bits);
    // JSON writes whole numbers without a point.
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return Ok((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number).ok_or_else(|| DecodeError::Value("no finite number", named(name)))
}

pub(super) fn read_bytes(raw: &[u8]) -> Value {
    STANDARD.encode(raw).into()
}

pub(super) fn bytes_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Nothing for Go's zero time.
pub(super) fn read_time(raw: &[u8], micro: bool, name: &str) -> Result<Option<String>, DecodeError> {
    if raw.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader::new(raw);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => seconds = payload.varint(name)? as i64,
            2 => nanos = payload.varint(name)? as i32,
            _ => {}
        }
    }
    if seconds == ZERO_TIME_SECONDS && (nanos == 0 || !micro) {
        return Ok(None);
    }
    let wrong = || DecodeError::Value("no time", named(name));
    // Upstream sends no nanoseconds with times that have none in JSON.
    let micros = if micro { i64::from(nanos / 1000) } else { 0 };
    let micros = seconds.checked_mul(MICROS).and_then(|s| s.checked_add(micros)).ok_or_else(wrong)?;
    let time = Timestamp::from_microsecond(micros).map_err(|_| wrong())?;
    Ok(Some(if micro { format!("{time:.6}") } else { format!("{time:.0}") }))
}

/// Seconds and nanoseconds of a time; nothing if it is none.
pub(super) fn time_parts(text: &str, micro: bool) -> Option<(i64, i64)> {
    let micros = text.parse::<Timestamp>().ok()?.as_microsecond();
    let (seconds, rest) = (micros.div_euclid(MICROS), micros.rem_euclid(MICROS));
    Some((seconds, if micro { rest * 1000 } else { 0 }))
}

pub(super) fn write_time(writer: &mut Writer, (seconds, nanos): (i64, i64)) {
    if seconds != ZERO_TIME_SECONDS || nanos != 0 {
        writer.varint_field(2, nanos as u64);
        writer.varint_field(1, seconds as u64);
    }
}

pub(super) fn read_quantity(raw: &[u8], name: &str) -> Result<Value, DecodeError> {
    let mut text = "0".to_owned();
    let mut reader = Reader::new(raw);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            text = payload.text(name)?;
        }
    }
    Ok(text.into())
}

pub(super) fn read_int_or_string(raw: &[u8], name: &str) -> Result<Value, DecodeError> {
    let (mut kind, mut number_value, mut text) = (0, 0_i32, String::new());
    let mut reader = Reader::new(raw);
    while let Some((number, payload)) = reader.next()? {
        match number {
            1 => kind = payload.varint(name)?,
            2 => number_value = payload.varint(name)? as i32,
            3 => text = payload.text(name)?,
            _ => {}
        }
    }
    match kind {
        0 => Ok(number_value.into()),
        1 => Ok(text.into()),
        _ => Err(DecodeError::Value("neither number nor text", named(name))),
    }
}

/// Nothing if the value is neither number nor text.
pub(super) fn write_int_or_string(writer: &mut Writer, value: &Value) -> Option<()> {
    let (kind, number, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        value => (0, value.as_i64()?, ""),
    };
    writer.field(3, text.as_bytes());
    writer.varint_field(2, number as u64);
    writer.varint_field(1, kind);
    Some(())
}

/// Raw JSON; nothing if there is none.
pub(super) fn read_raw(raw: &[u8], name: &str) -> Result<Option<Value>, DecodeError> {
    let mut json: &[u8] = &[];
    let mut reader = Reader::new(raw);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            json = payload.bytes(name)?;
        }
    }
    if json.is_empty() {
        return Ok(None);
    }
    let parsed = parse_json(json).map_err(|e| DecodeError::Json(named(name), e.to_string()))?;
    Ok(Some(parsed.value).filter(|value| !value.is_null()))
}

/// A list that is a message of its own.
pub(super) fn read_items(raw: &[u8], name: &str) -> Result<Value, DecodeError> {
    let mut items = Vec::new();
    let mut reader = Reader::new(raw);
    while let Some((number, payload)) = reader.next()? {
        if number == 1 {
            items.push(Value::String(payload.text(name)?));
        }
    }
    Ok(Value::Array(items))
}
