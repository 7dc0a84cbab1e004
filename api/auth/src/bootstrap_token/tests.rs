//! Texts are read as they are written; a token is good for what its Secret says, and no longer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::view::{FixedView, SECRETS};

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

proptest! {
    #[test]
    fn what_is_formatted_is_parsed(hash in "[0-9a-f]{64}", id in "[a-z0-9]{6}", secret in "[a-z0-9]{16}") {
        let bearer = format!("{id}.{secret}");
        let token: BootstrapToken = bearer.parse().unwrap();
        prop_assert_eq!(token.id(), &id);
        prop_assert_eq!(token.bearer(), bearer);
        let join = JoinToken::new(&hash, token).unwrap();
        let text = join.reveal();
        prop_assert_eq!(&text, &format!("nv1.{hash}.{id}.{secret}"));
        prop_assert_eq!(text.parse::<JoinToken>().unwrap(), join.clone());
        let shown = format!("{join:?}");
        prop_assert!(!shown.contains(&secret));
    }

    #[test]
    fn no_text_makes_it_panic_or_show_a_secret(text in "\\PC{0,120}", secret in "[a-zA-Z0-9]{5,30}") {
        let _ = text.parse::<JoinToken>();
        let _ = text.parse::<BootstrapToken>();
        for broken in [format!("nv1.{HASH}.abcdef.{secret}"), format!("abcdef.{secret}"), format!("nv1.x.abcdef.{secret}"),
                       format!("nv1.{HASH}.{secret}"), format!("nv1.{HASH}.abcdef.{secret}.x")] {
            if let Err(error) = broken.parse::<JoinToken>() {
                prop_assert!(!error.to_string().contains(&secret), "{error}");
            }
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let hash = HASH;
    for (text, wrong) in [
        (String::new(), "begins with \"nv1\""),
        (format!("nv2.{hash}.abcdef.0123456789abcdef"), "begins with \"nv1\""),
        (format!("nv1.{hash}.abcdef"), "this has 3"),
        (format!("nv1.{}.abcdef.0123456789abcdef", &hash[1..]), "64 digits"),
        (format!("nv1.{}.abcdef.0123456789abcdef", hash.to_uppercase()), "64 digits"),
        (format!("nv1.{hash}.abcde.0123456789abcdef"), "id must be 6"),
        (format!("nv1.{hash}.abcdef.0123456789abcde!"), "secret (its last part) must be 16"),
    ] {
        let error = text.parse::<JoinToken>().unwrap_err().to_string();
        assert!(error.contains(wrong), "{text}: {error}");
    }
    assert!(format!(" nv1.{hash}.abcdef.0123456789abcdef\n").parse::<JoinToken>().is_ok(), "copied with blanks");
}

#[test]
fn new_ones_differ() {
    let (one, two) = (BootstrapToken::generate().unwrap(), BootstrapToken::generate().unwrap());
    assert_ne!(one.bearer(), two.bearer());
    assert_eq!(one.bearer().parse::<BootstrapToken>().unwrap(), one);
}

fn in_an_hour() -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(1)
}

fn judged(token: &BootstrapToken, secret: &Value) -> Result<navarch_types::UserInfo, TokenRefusal> {
    let view = FixedView::default();
    view.put(&SECRETS, secret).unwrap();
    user(token, &view, Timestamp::now())
}

fn encoded(text: &str) -> Value {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text).into()
}

#[test]
fn a_token_is_its_user() {
    let token = BootstrapToken::generate().unwrap();
    let secret = secret_value(&token, JoinRole::Node, in_an_hour(), "for n2");
    let user = judged(&token, &secret).unwrap();
    assert_eq!(user.name, format!("system:bootstrap:{}", token.id()));
    assert_eq!(user.groups, ["system:bootstrappers", NODES_GROUP, "system:authenticated"]);
    assert_eq!(JoinRole::of_groups(&user.groups), Some(JoinRole::Node));
    let facts = facts(&secret).unwrap();
    assert_eq!(
        (facts.id.as_str(), facts.role, facts.description.as_str()),
        (token.id(), Some(JoinRole::Node), "for n2")
    );
    assert_eq!(facts.expires.map(Timestamp::as_second), Some(in_an_hour().as_second()));
}

#[test]
fn upstream_s_rules_hold() {
    let token = BootstrapToken::generate().unwrap();
    let id = token.id().to_owned();
    let change = |key: &str, text: Option<&str>| {
        let mut secret = secret_value(&token, JoinRole::Server, in_an_hour(), "");
        match text {
            Some(text) => secret["data"][key] = encoded(text),
            None => drop(secret["data"].as_object_mut().unwrap().remove(key)),
        }
        judged(&token, &secret)
    };
    assert!(change("expiration", None).is_ok(), "without a time it never ends");
    assert!(change("auth-extra-groups", None).is_ok());
    assert!(change("auth-extra-groups", Some("system:bootstrappers:a-1:b,system:bootstrappers:c")).is_ok());
    let past = (Timestamp::now() - SignedDuration::from_secs(1)).to_string();
    for (key, text, refusal) in [
        ("token-secret", Some("0123456789abcdef"), TokenRefusal::Secret(id.clone())),
        ("token-secret", None, TokenRefusal::Secret(id.clone())),
        ("token-id", Some("zzzzzz"), TokenRefusal::NotOne(id.clone())),
        ("expiration", Some(past.as_str()), TokenRefusal::Expired(id.clone())),
        ("expiration", Some("tomorrow"), TokenRefusal::Expired(id.clone())),
        ("usage-bootstrap-authentication", Some("True"), TokenRefusal::Usage(id.clone())),
        ("usage-bootstrap-authentication", None, TokenRefusal::Usage(id.clone())),
        ("auth-extra-groups", Some("system:masters"), TokenRefusal::Group(id.clone())),
        ("auth-extra-groups", Some("system:bootstrappers:"), TokenRefusal::Group(id.clone())),
        ("auth-extra-groups", Some("system:bootstrappers:a, system:bootstrappers:b"), TokenRefusal::Group(id.clone())),
        ("auth-extra-groups", Some("system:bootstrappers:a-"), TokenRefusal::Group(id.clone())),
    ] {
        assert_eq!(change(key, text), Err(refusal), "{key} {text:?}");
    }
    let mut other = secret_value(&token, JoinRole::Node, in_an_hour(), "");
    other["type"] = json!("Opaque");
    assert_eq!(judged(&token, &other), Err(TokenRefusal::NotOne(id.clone())));
    assert_eq!(facts(&other), None);
    let mut going = secret_value(&token, JoinRole::Node, in_an_hour(), "");
    going["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(judged(&token, &going), Err(TokenRefusal::Deleting(id.clone())));
    let stranger = BootstrapToken::generate().unwrap();
    assert_eq!(judged(&stranger, &going), Err(TokenRefusal::Unknown(stranger.id().to_owned())));
}
