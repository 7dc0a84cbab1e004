//! Tokens of a label selector's text.

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    End,
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Identifier(&'a str),
}

impl<'a> Token<'a> {
    /// As it stood in the text.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Identifier(text) => text,
        }
    }

    /// Where a key or value is expected, `in` and `notin` are just names.
    pub(super) fn as_value(self) -> Self {
        match self {
            Self::In | Self::NotIn => Self::Identifier(self.text()),
            other => other,
        }
    }
}

/// Splits a text into tokens.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    const SPACE: &[char] = &[' ', '\t', '\r', '\n'];
    const SYMBOLS: [(&str, Token<'_>); 9] = [
        ("==", Token::DoubleEquals),
        ("!=", Token::NotEquals),
        ("=", Token::Equals),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
        (">", Token::Greater),
        ("<", Token::Less),
    ];
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(SPACE);
    while !rest.is_empty() {
        let after = match SYMBOLS.iter().find_map(|(symbol, token)| Some((rest.strip_prefix(symbol)?, *token))) {
            Some((after, token)) => {
                found.push(token);
                after
            }
            None => {
                let end = rest.find(|c| SPECIAL.contains(&c) || SPACE.contains(&c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                found.push(match word {
                    "in" => Token::In,
                    "notin" => Token::NotIn,
                    word => Token::Identifier(word),
                });
                after
            }
        };
        rest = after.trim_start_matches(SPACE);
    }
    found
}
