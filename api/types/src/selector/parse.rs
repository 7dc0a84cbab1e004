//! The grammar of a label selector's text: requirements with commas between.

use super::SelectorError;
use super::label::{Operator, Requirement, invalid_key};
use super::lexer::{Token, tokens};
use crate::field::Path;

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

fn expected<T>(found: Token<'_>, what: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{}', expected: {what}", found.text())))
}

/// Parses a text into requirements, in their order there.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { tokens: tokens(text), position: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek().as_value() {
            Token::Identifier(_) | Token::Not => {
                let requirement = parser.requirement();
                requirements.push(requirement.map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?);
                match parser.next().as_value() {
                    Token::End => return Ok(requirements),
                    Token::Comma => match parser.peek().as_value() {
                        Token::Identifier(_) | Token::Not => {}
                        other => return expected(other, "identifier after ','"),
                    },
                    other => return expected(other, "',' or 'end of string'"),
                }
            }
            Token::End => return Ok(requirements),
            other => return expected(other, "!, identifier, or 'end of string'"),
        }
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.position).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Not;
        if absent {
            self.next();
        }
        let key = match self.next().as_value() {
            Token::Identifier(key) => key,
            other => return expected(other, "identifier"),
        };
        if let Some(finding) = invalid_key(&Path::root("<nil>"), key).pop() {
            return Err(SelectorError(finding.to_string()));
        }
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = match self.next() {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => return expected(other, "in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next().as_value() {
            Token::Identifier(value) => Ok(value.to_owned()),
            other => expected(other, "identifier"),
        }
    }

    /// `(a,b)`; nothing between commas is the empty value.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Open => {}
            other => return Err(SelectorError(format!("found '{}' expected: '('", other.text()))),
        }
        let mut values = Vec::new();
        let mut pending = true;
        loop {
            match self.next().as_value() {
                Token::Identifier(value) if pending => {
                    values.push(value.to_owned());
                    pending = false;
                }
                Token::Comma => {
                    if pending {
                        values.push(String::new());
                    }
                    pending = true;
                }
                Token::Close => {
                    if pending {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other if values.is_empty() => return expected(other, "',', ')' or identifier"),
                other if pending => return expected(other, "',', or identifier"),
                other => return expected(other, "',' or ')'"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::Selector;

    #[test]
    fn texts_and_what_they_select() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("n", "5"), ("e", ""), ("in", "in")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (text, selects, canonical) in [
            ("", true, ""),
            ("app=web", true, "app=web"),
            (" app == web ", true, "app==web"),
            ("app!=web", false, "app!=web"),
            ("none!=web", true, "none!=web"),
            ("app", true, "app"),
            ("!app", false, "!app"),
            ("! none", true, "!none"),
            ("app in (x, web)", true, "app in (web,x)"),
            ("app notin (x,web)", false, "app notin (web,x)"),
            ("e in (,)", true, "e in ()"),
            ("e in ()", true, "e in ()"),
            ("e=", true, "e="),
            ("e=,app=web", true, "app=web,e="),
            ("in in (in)", true, "in in (in)"),
            ("n>4,n<6", true, "n>4,n<6"),
            ("n>5", false, "n>5"),
            ("app>5", false, "app>5"),
            ("z,a,!b", false, "a,!b,z"),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), selects, "{text}");
            assert_eq!(selector.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn wrong_texts_are_named() {
        for (text, error) in [
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=(b)", "unable to parse requirement: found '(', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be \
                 an integer",
            ),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().0, error, "{text}");
        }
        let error = Selector::parse("a/b/c=d").unwrap_err().0;
        assert!(
            error.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified"),
            "{error}"
        );
        let error = Selector::parse("a=ü").unwrap_err().0;
        assert!(
            error.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"ü\": a valid"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn canonical_text_parses_to_the_same(text in "[a-z=!<>(), in]{0,30}|\\PC{0,20}") {
            if let Ok(selector) = Selector::parse(&text) {
                prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
