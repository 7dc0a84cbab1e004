//! Field selectors: `metadata.name=web,status.phase!=Running`, with `\` before `\`, `,` and `=` in values.

use std::fmt;

use super::SelectorError;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// The field: `metadata.name`.
    pub field: String,
    /// Whether the value must be this one, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// A conjunction of conditions on fields. `Default` selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the text of a query.
    ///
    /// # Errors
    /// If it is no selector; the text is upstream's and goes into a 400.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equals, value)) = relation(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            terms.push(FieldTerm { field: field.to_owned(), equals, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// One field with one value.
    pub fn one(field: &str, value: &str) -> Self {
        Self { terms: vec![FieldTerm { field: field.to_owned(), equals: true, value: value.to_owned() }] }
    }

    /// The conditions.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field must have, if the selector demands one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equals && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether an object is selected whose fields `value_of` knows. A field that it does not know is empty.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.terms.iter().all(|t| (value_of(&t.field) == t.value) == t.equals)
    }
}

/// Splits at commas that no backslash precedes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The first of `!=`, `==` and `=`.
fn relation(part: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in part.char_indices() {
        for (symbol, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = part[at..].strip_prefix(symbol) {
                return Some((&part[..at], equals, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    let text = format!("invalid field selector: invalid escape sequence: {sequence}");
                    return Err(SelectorError(text));
                }
            },
            ',' | '=' => {
                let text = format!("invalid field selector: unescaped character in value: {}", c as u32);
                return Err(SelectorError(text));
            }
            other => value.push(other),
        }
    }
    Ok(value)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}{}{value}", term.field, if term.equals { "=" } else { "!=" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn phase_and_name(field: &str) -> std::borrow::Cow<'static, str> {
        match field {
            "status.phase" => "Running".into(),
            "metadata.name" => "a=b,c\\d".into(),
            _ => "".into(),
        }
    }

    #[test]
    fn texts_and_what_they_select() {
        for (text, selects) in [
            ("", true),
            (",", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("status.phase!=Failed,spec.nodeName=", true),
            ("metadata.name=a\\=b\\,c\\\\d", true),
            ("metadata.name=x", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(phase_and_name), selects, "{text}");
        }
        assert_eq!(FieldSelector::parse("a!=b,c=d").unwrap().exact("c"), Some("d"));
        assert_eq!(FieldSelector::parse("a!=b,c=d").unwrap().exact("a"), None);
    }

    #[test]
    fn wrong_texts_are_named() {
        for (text, error) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_parses_to_the_same(value in "\\PC{0,20}") {
            let selector = FieldSelector::one("metadata.name", &value);
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
