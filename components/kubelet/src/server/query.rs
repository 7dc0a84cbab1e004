//! Query strings. Pure.

use percent_encoding::percent_decode_str;

/// Names and values, in order.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether one of these is set to `1` or `true`.
    pub fn flag(&self, names: &[&str]) -> bool {
        names.iter().any(|name| matches!(self.get(name), Some("1" | "true")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let query = Query::parse("command=ls&command=-l%20x&tty=1&a+b=c+d&empty=");
        assert_eq!(query.all("command"), ["ls", "-l x"]);
        assert_eq!(query.get("a b"), Some("c d"));
        assert!(query.flag(&["tty"]) && !query.flag(&["input", "empty"]));
        assert_eq!(query.get("empty"), None);
    }
}
