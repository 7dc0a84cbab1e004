//! A value together with its path, for validation that reads as upstream's and costs nothing until it finds something.
//!
//! Absent, `null` and the zero value of a type read alike, as they do for upstream's Go structs. Never panics: a value of
//! another type than expected reads as absent.

use navarch_types::field::{FieldError, Path};
use serde_json::Value;

static NULL: Value = Value::Null;

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'v, 'p> {
    /// The value; `null` if there is none.
    pub value: &'v Value,
    /// Its path.
    pub path: Path<'p>,
}

impl<'v, 'p> At<'v, 'p> {
    /// A top-level field of an object.
    pub fn root(object: &'v Value, name: &'p str) -> Self {
        Self { value: &object[name], path: Path::root(name) }
    }

    /// A field.
    pub fn child<'s>(&'s self, name: &'s str) -> At<'v, 's> {
        At { value: self.value.get(name).unwrap_or(&NULL), path: self.path.child(name) }
    }

    /// The elements of a list; none if it is no list.
    pub fn items<'s>(&'s self) -> impl Iterator<Item = At<'v, 's>> + use<'s, 'v, 'p> {
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().enumerate().map(|(i, value)| At { value, path: self.path.index(i) })
    }

    /// The entries of a map; none if it is no map.
    pub fn entries<'s>(&'s self) -> impl Iterator<Item = (&'v str, At<'v, 's>)> + use<'s, 'v, 'p>
    where
        'v: 's,
    {
        let map = self.value.as_object();
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), At { value, path: self.path.key(key) }))
    }

    /// Whether there is a value (a pointer that is not nil, in upstream's terms).
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether there is no value, or an empty text, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        }
    }

    /// The text; empty if there is none.
    pub fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or("")
    }

    /// The number, if there is one.
    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// The number; zero if there is none.
    pub fn int_or_zero(&self) -> i64 {
        self.value.as_i64().unwrap_or(0)
    }

    /// Whether it is `true`.
    pub fn is_true(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    /// How many elements or entries.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            _ => 0,
        }
    }

    /// Required and absent.
    pub fn required(&self, detail: &str) -> FieldError {
        FieldError::required(&self.path, detail)
    }

    /// Malformed.
    pub fn invalid(&self, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(&self.path, self.shown(), detail)
    }

    /// Not one of the supported values, which are in order.
    pub fn not_supported(&self, supported: &[&str]) -> FieldError {
        FieldError::not_supported(&self.path, self.shown(), supported)
    }

    /// Not allowed.
    pub fn forbidden(&self, detail: impl Into<String>) -> FieldError {
        FieldError::forbidden(&self.path, detail)
    }

    /// There twice.
    pub fn duplicate(&self) -> FieldError {
        FieldError::duplicate(&self.path, self.shown())
    }

    /// Refers to what is not there.
    pub fn not_found(&self) -> FieldError {
        FieldError::not_found(&self.path, self.shown())
    }

    /// The value as messages show it: an absent text is an empty one there.
    fn shown(&self) -> Value {
        if self.value.is_null() { Value::from("") } else { self.value.clone() }
    }
}

/// Whether two values mean the same: absent, `null`, empty and zero are one, as in upstream's semantic comparison.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&NULL)))
                && y.iter().all(|(k, v)| x.contains_key(k) || is_zero(v))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b || (is_zero(a) && is_zero(b)),
    }
}

/// Whether a value is what an absent one reads as.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_empty_and_zero_are_the_same() {
        for (a, b, want) in [
            (json!({"a": 1}), json!({"a": 1, "b": null, "c": "", "d": [], "e": {"f": false}}), true),
            (json!(null), json!({}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
            (json!({"a": 1}), json!({}), false),
            (json!({}), json!({"a": 1}), false),
        ] {
            assert_eq!(same(&a, &b), want, "{a} and {b}");
        }
    }

    #[test]
    fn paths_follow_the_steps() {
        let object = json!({"spec": {"list": [{"x": "bad"}], "map": {"a/b": 1}}});
        let spec = At::root(&object, "spec");
        let list = spec.child("list");
        let texts: Vec<String> = list.items().map(|i| i.child("x").invalid("why").to_string()).collect();
        assert_eq!(texts, [r#"spec.list[0].x: Invalid value: "bad": why"#]);
        let map = spec.child("map");
        let texts: Vec<String> = map.entries().map(|(_, v)| v.forbidden("no").to_string()).collect();
        assert_eq!(texts, ["spec.map[a/b]: Forbidden: no"]);
        assert_eq!(spec.child("none").child("below").text(), "");
    }
}
