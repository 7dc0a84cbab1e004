//! The shapes of names. Each function returns what is wrong with the text, in upstream's words; nothing if it is right.
//!
//! Matchers are written out, since names are checked on every write.

/// Longest DNS label, label value, and name part of a qualified name.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `must be no more than N bytes`.
pub fn max_len_error(bytes_max: usize) -> String {
    format!("must be no more than {bytes_max} bytes")
}

/// What a pattern asks for, with examples, as upstream puts it.
pub fn pattern_error(text: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{pattern}')");
    }
    let quoted: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{pattern}')", quoted.join(" or "))
}

fn lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        [one] => edge(*one),
        [first, middle @ .., last] => edge(*first) && edge(*last) && middle.iter().all(|b| inner(*b)),
    }
}

fn is_label(text: &str) -> bool {
    framed(text, lower_alphanumeric, |b| lower_alphanumeric(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified_part(text: &str) -> bool {
    framed(text, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn starts_and_goes_on(text: &str, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(first) && text.bytes().skip(1).all(rest)
}

/// A lower-case RFC 1123 label: `my-name`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_BYTES_MAX {
        texts.push(max_len_error(LABEL_BYTES_MAX));
    }
    if !is_label(value) {
        if is_subdomain(value) {
            texts.push("must not contain dots".to_owned());
        } else {
            const TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                must start and end with an alphanumeric character";
            texts.push(pattern_error(TEXT, DNS1123_LABEL, &["my-name", "123-abc"]));
        }
    }
    texts
}

/// A lower-case RFC 1123 subdomain: `example.com`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_BYTES_MAX {
        texts.push(max_len_error(SUBDOMAIN_BYTES_MAX));
    }
    if !is_subdomain(value) {
        const TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
            '.', and must start and end with an alphanumeric character";
        texts.push(pattern_error(TEXT, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    texts
}

/// A subdomain whose labels may hold underscores, as DNS search paths need.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_BYTES_MAX {
        texts.push(max_len_error(SUBDOMAIN_BYTES_MAX));
    }
    let label = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        framed(text, lower_alphanumeric, |b| lower_alphanumeric(b) || matches!(b, b'-' | b'_'))
    };
    if !value.split('.').all(label) {
        const TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' \
            or '.', and must start and end with an alphanumeric character";
        const PATTERN: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        texts.push(pattern_error(TEXT, PATTERN, &["example.com"]));
    }
    texts
}

/// A DNS-1035 label, as Services are named: starts with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_BYTES_MAX {
        texts.push(max_len_error(LABEL_BYTES_MAX));
    }
    if !(is_label(value) && value.bytes().next().is_some_and(|b| b.is_ascii_lowercase())) {
        const TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
            alphabetic character, and end with an alphanumeric character";
        texts.push(pattern_error(TEXT, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    texts
}

/// `*.example.com`.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_BYTES_MAX {
        texts.push(max_len_error(SUBDOMAIN_BYTES_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        const TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
            must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        texts.push(pattern_error(TEXT, &format!("\\*\\.{DNS1123_SUBDOMAIN}"), &["*.example.com"]));
    }
    texts
}

/// A label or annotation key: `name`, or `example.com/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    const TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut texts = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            let rule = pattern_error(TEXT, QUALIFIED_NAME, EXAMPLES);
            const PREFIX: &str = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {rule} {PREFIX}")];
        }
        Some(("", name)) => {
            texts.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            texts.extend(dns1123_subdomain(prefix).into_iter().map(|t| format!("prefix part {t}")));
            name
        }
    };
    if name.is_empty() {
        texts.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        texts.push(format!("name part {}", max_len_error(LABEL_BYTES_MAX)));
    }
    if !is_qualified_part(name) {
        texts.push(format!("name part {}", pattern_error(TEXT, QUALIFIED_NAME, EXAMPLES)));
    }
    texts
}

/// A label's value, which may be empty.
pub fn label_value(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > LABEL_BYTES_MAX {
        texts.push(max_len_error(LABEL_BYTES_MAX));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        const TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
            '.', and must start and end with an alphanumeric character";
        texts.push(pattern_error(TEXT, &format!("({QUALIFIED_NAME})?"), &["MyValue", "my_value", "12345"]));
    }
    texts
}

/// An identifier of C.
pub fn c_identifier(value: &str) -> Vec<String> {
    if starts_and_goes_on(value, |b| b.is_ascii_alphabetic() || b == b'_', |b| b.is_ascii_alphanumeric() || b == b'_') {
        return Vec::new();
    }
    const TEXT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
        alphanumeric characters or '_'";
    vec![pattern_error(TEXT, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// An IANA service name, as ports are named: at most 15 of `[-a-z0-9]`, at least one letter.
pub fn port_name(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > 15 {
        texts.push(max_len_error(15));
    }
    if value.is_empty() || !value.bytes().all(|b| lower_alphanumeric(b) || b == b'-') {
        texts.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        texts.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        texts.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        texts.push("must not begin or end with a hyphen".to_owned());
    }
    texts
}

/// `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let good = value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if good {
        return Vec::new();
    }
    const TEXT: &str = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern_error(TEXT, "[0-9]+%", &["1%", "93%"])]
}

/// A header field's name.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    const TEXT: &str = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern_error(TEXT, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// An environment variable's name as kubelet takes it from ConfigMaps and Secrets: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.is_empty() {
        texts.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        const TEXT: &str = "a valid environment variable name must consist only of printable ASCII characters other \
            than '='";
        texts.push(TEXT.to_owned());
    }
    texts
}

/// The stricter rule for environment variables' names from before relaxed validation; still that of file keys.
pub fn strict_env_var_name(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mark = |b: u8| matches!(b, b'-' | b'.' | b'_');
    let first = value.bytes().next().is_some_and(|b| mark(b) || b.is_ascii_alphabetic());
    if !(first && value.bytes().all(|b| mark(b) || b.is_ascii_alphanumeric())) {
        const TEXT: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', \
            or '.', and must not start with a digit";
        const EXAMPLES: &[&str] = &["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        texts.push(pattern_error(TEXT, "[-._a-zA-Z][-._a-zA-Z0-9]*", EXAMPLES));
    }
    texts.extend(dotted(value));
    texts
}

/// A key of a ConfigMap or Secret, which may become a file name.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut texts = Vec::new();
    if value.len() > SUBDOMAIN_BYTES_MAX {
        texts.push(max_len_error(SUBDOMAIN_BYTES_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        const TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        texts.push(pattern_error(TEXT, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    texts.extend(dotted(value));
    texts
}

/// What would change the directory when used as a path.
fn dotted(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// An object's name as one segment of a URL path, the least that any name must be (RBAC objects have no other rule).
pub fn path_segment(value: &str, prefix: bool) -> Vec<String> {
    let mut texts = Vec::new();
    if !prefix && matches!(value, "." | "..") {
        texts.push(format!("may not be '{value}'"));
    }
    for part in ["/", "%"] {
        if value.contains(part) {
            texts.push(format!("may not contain '{part}'"));
        }
    }
    texts
}

/// A name given as `generateName` is judged as if its trailing dash were followed by a letter.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && name.len() > 1 => format!("{rest}a").into(),
        _ => name.into(),
    }
}

/// An object's name that is a DNS subdomain; `prefix` for a `generateName`.
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    dns1123_subdomain(&masked(name, prefix))
}

/// An object's name that is a DNS label; `prefix` for a `generateName`.
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    dns1123_label(&masked(name, prefix))
}

/// An object's name that is a DNS-1035 label; `prefix` for a `generateName`.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    dns1035_label(&masked(name, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(check: fn(&str) -> Vec<String>, values: &[&str]) {
        for value in values {
            assert_eq!(check(value), Vec::<String>::new(), "{value:?}");
        }
    }

    fn bad(check: fn(&str) -> Vec<String>, values: &[&str]) {
        for value in values {
            assert!(!check(value).is_empty(), "{value:?} should be wrong");
        }
    }

    #[test]
    fn dns_names() {
        good(dns1123_label, &["a", "0", "a-b", "1-1", "a--b"]);
        bad(dns1123_label, &["", "A", "-a", "a-", "a_b", "a.b", "ä", "a b", "a\n"]);
        good(dns1123_subdomain, &["a", "a.b", "1.2", "a-b.c-d"]);
        bad(dns1123_subdomain, &["", ".", "a.", ".a", "a..b", "A.b", "a.-b", "a/b", "a.b\n"]);
        good(dns1123_subdomain_with_underscore, &["_tcp.a", "a_b.c"]);
        bad(dns1123_subdomain_with_underscore, &["__a", "a_", "_"]);
        good(dns1035_label, &["a", "a1-b"]);
        bad(dns1035_label, &["1a", "", "a.b", "a-"]);
        good(wildcard_dns1123_subdomain, &["*.a", "*.a.b"]);
        bad(wildcard_dns1123_subdomain, &["*", "*.", "a.b", "*.*.a", "*a.b"]);
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(dns1123_subdomain(&"a".repeat(254)), ["must be no more than 253 bytes"]);
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
              end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }

    #[test]
    fn keys_and_values() {
        good(qualified_name, &["a", "A.b_c-d", "example.com/a", "1/1"]);
        bad(qualified_name, &["", "/a", "a/", "a/b/c", "Example.com/a", "-a", "a b", "a/-b"]);
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name(&"a".repeat(64)), ["name part must be no more than 63 bytes"]);
        good(label_value, &["", "a", "A_b.c-d"]);
        bad(label_value, &["-", "a ", "a/b", "ü"]);
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        good(config_map_key, &["a", ".a", "A_b", "...a".trim_start_matches("..")]);
        bad(config_map_key, &["", ".", "..", "..a", "a b", "a/b"]);
        good(strict_env_var_name, &["A", "_a", "a.b-c"]);
        bad(strict_env_var_name, &["", "1a", "a=b", "..a", ".."]);
        good(env_var_name, &["1", "a b", "x/y"]);
        bad(env_var_name, &["", "a=b", "ä", "a\t"]);
        good(c_identifier, &["_", "a1"]);
        bad(c_identifier, &["", "1a", "a-b"]);
    }

    #[test]
    fn small_things() {
        good(port_name, &["http", "a1", "1a-2"]);
        bad(port_name, &["", "80", "HTTP", "a--b", "-a", "a-", "aaaaaaaaaaaaaaaa"]);
        good(percent, &["0%", "100%"]);
        bad(percent, &["%", "1", "-1%", "1.5%"]);
        good(http_header_name, &["X-A"]);
        bad(http_header_name, &["", "a b", "a:"]);
        assert_eq!(path_segment("..", false), ["may not be '..'"]);
        assert_eq!(path_segment("a/%", false), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(path_segment("..", true), Vec::<String>::new());
        assert_eq!(name_is_dns_label("a-", true), Vec::<String>::new());
        assert!(!name_is_dns_label("a-", false).is_empty());
        assert!(!name_is_dns_subdomain("-", true).is_empty());
    }
}
