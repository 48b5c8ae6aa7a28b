use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SUBJECT: &str = "system:serviceaccount:upm-system:upm-agent";

/// The key of a cluster's API server.
struct Key {
    pair: KeyPair,
    id: &'static str,
}

fn key(id: &'static str) -> Key {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    Key { pair, id }
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

impl Key {
    fn jwks(&self) -> String {
        // 0x04, then both coordinates
        let point = self.pair.public_key_raw();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": part(1..33), "y": part(33..65),
        }]})
        .to_string()
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        encode(&header, claims, &key).unwrap()
    }

    fn token(&self) -> String {
        self.sign(&claims())
    }

    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = claims();
        claims[name] = value;
        self.sign(&claims)
    }
}

fn ours_alone() -> Vec<String> {
    vec![AUDIENCE.to_owned()]
}

fn shown(issuer: &str, jwks: &str, token: &str) -> Shown {
    Shown {
        issuer: issuer.into(),
        jwks: jwks.into(),
        token: token.into(),
    }
}

/// As an API server writes them.
fn claims() -> Value {
    json!({
        "aud": [AUDIENCE], "iss": ISSUER, "sub": SUBJECT, "exp": now() + 3600, "iat": now(), "nbf": now(), "jti": "6c",
        "kubernetes.io": {"namespace": "upm-system", "serviceaccount": {"name": "upm-agent", "uid": "u"}},
    })
}

#[test]
fn a_token_of_the_pinned_account_is_good_and_every_other_is_refused_with_its_own_reason() {
    let (ours, theirs) = (key("a"), key("b"));
    let forged = Key {
        id: "a",
        ..key("a")
    };
    let pin = Pin::shown(&shown(ISSUER, &ours.jwks(), &ours.token()), &ours_alone()).unwrap();
    assert_eq!(pin.subject, SUBJECT);
    assert_eq!(pin.verify(&ours.token(), &ours_alone()), Ok(()));
    let other_account = "system:serviceaccount:upm-system:default";
    for (what, token, refusal) in [
        (
            "another cluster",
            theirs.with("iss", json!("https://elsewhere")),
            Refusal::Issuer,
        ),
        (
            "another cluster of the same name",
            theirs.token(),
            Refusal::Key,
        ),
        (
            "a key that only has the name",
            forged.token(),
            Refusal::Signature,
        ),
        (
            "our key, another issuer",
            ours.with("iss", json!("https://elsewhere")),
            Refusal::Issuer,
        ),
        (
            "for the API server",
            ours.with("aud", json!([ISSUER])),
            Refusal::Audience,
        ),
        (
            "another account",
            ours.with("sub", json!(other_account)),
            Refusal::Subject,
        ),
        (
            "another namespace",
            ours.with("sub", json!("system:serviceaccount:p1:upm-agent")),
            Refusal::Subject,
        ),
        (
            "over",
            ours.with("exp", json!(now() - 3600)),
            Refusal::Expired,
        ),
        (
            "not begun",
            ours.with("nbf", json!(now() + 3600)),
            Refusal::Expired,
        ),
        (
            "without an end",
            ours.with("exp", Value::Null),
            Refusal::Invalid,
        ),
        ("no token", "a.b".into(), Refusal::Invalid),
        ("nothing", String::new(), Refusal::Invalid),
        ("too long", "x".repeat(TOKEN + 1), Refusal::Invalid),
    ] {
        assert_eq!(pin.verify(&token, &ours_alone()), Err(refusal), "{what}");
    }
}

#[test]
fn no_algorithm_with_a_shared_secret_is_taken_for_a_public_key() {
    let ours = key("a");
    let pin = Pin::shown(&shown(ISSUER, &ours.jwks(), &ours.token()), &ours_alone()).unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("a".into());
    let secret = EncodingKey::from_secret(ours.pair.public_key_raw());
    let token = encode(&header, &claims(), &secret).unwrap();
    assert_eq!(pin.verify(&token, &ours_alone()), Err(Refusal::Invalid));
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"a"}"#),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    assert_eq!(pin.verify(&unsigned, &ours_alone()), Err(Refusal::Invalid));
}

#[test]
fn only_what_a_token_proves_is_pinned() {
    let (ours, theirs) = (key("a"), key("b"));
    assert_eq!(
        Pin::shown(&shown(ISSUER, &theirs.jwks(), &ours.token()), &ours_alone()),
        Err(Refusal::Key)
    );
    assert_eq!(
        Pin::shown(
            &shown("https://elsewhere", &ours.jwks(), &ours.token()),
            &ours_alone()
        ),
        Err(Refusal::Issuer)
    );
    assert_eq!(
        Pin::shown(&shown("", &ours.jwks(), &ours.token()), &ours_alone()),
        Err(Refusal::Invalid)
    );
    assert_eq!(
        Pin::shown(&shown(ISSUER, "{}", &ours.token()), &ours_alone()),
        Err(Refusal::Invalid)
    );
    assert_eq!(
        Pin::shown(
            &shown(ISSUER, &"x".repeat(KEYS + 1), &ours.token()),
            &ours_alone()
        ),
        Err(Refusal::Invalid)
    );
    for nobody in [
        "",
        "system:serviceaccount:",
        "system:serviceaccount:a:",
        "system:node:n",
        "users/alice",
    ] {
        let token = ours.with("sub", json!(nobody));
        assert_eq!(
            Pin::shown(&shown(ISSUER, &ours.jwks(), &token), &ours_alone()),
            Err(Refusal::Invalid),
            "{nobody}"
        );
    }
}

#[test]
fn other_keys_are_pinned_only_when_a_pinned_key_vouches_for_them() {
    let (ours, next, thief) = (key("a"), key("b"), key("c"));
    let both = |one: &Key, two: &Key| {
        let keys = [one.jwks(), two.jwks()].map(|set| {
            let set: Value = serde_json::from_str(&set).unwrap();
            set["keys"][0].clone()
        });
        json!({"keys": keys}).to_string()
    };
    let pin = Pin::shown(&shown(ISSUER, &ours.jwks(), &ours.token()), &ours_alone()).unwrap();
    let changed = |pin: &Pin, jwks: &str, token: &str| {
        Pin::changed(Some(pin), &shown(ISSUER, jwks, token), true, &ours_alone())
    };
    // Nothing new: what proves nothing changes nothing.
    assert_eq!(changed(&pin, &ours.jwks(), "no token"), Ok(None));

    // A stolen certificate, and a cluster of one's own.
    let theirs = changed(&pin, &thief.jwks(), &thief.token());
    assert_eq!(theirs, Err(Refusal::Key));
    let with_ours = changed(&pin, &both(&ours, &thief), &thief.token());
    assert_eq!(with_ours, Err(Refusal::Key));
    // Another account of the same cluster.
    let other = ours.with("sub", json!("system:serviceaccount:p1:default"));
    let theirs = changed(&pin, &thief.jwks(), &other);
    assert_eq!(theirs, Err(Refusal::Subject));
    let over = ours.with("exp", json!(now() - 3600));
    assert_eq!(changed(&pin, &next.jwks(), &over), Err(Refusal::Expired));
    assert_eq!(
        changed(&pin, r#"{"keys":[]}"#, &ours.token()),
        Err(Refusal::Invalid)
    );

    // A rotation: both keys, then the new one alone.
    let during = changed(&pin, &both(&ours, &next), &ours.token())
        .unwrap()
        .unwrap();
    assert_eq!(during.verify(&next.token(), &ours_alone()), Ok(()));
    let after = changed(&during, &next.jwks(), &next.token())
        .unwrap()
        .unwrap();
    assert_eq!(
        after.verify(&ours.token(), &ours_alone()),
        Err(Refusal::Key)
    );
    // At once: a token of the old key is left.
    let at_once = changed(&pin, &next.jwks(), &ours.token()).unwrap().unwrap();
    assert_eq!(
        (
            at_once.verify(&next.token(), &ours_alone()),
            &at_once.subject
        ),
        (Ok(()), &pin.subject)
    );
    // Another name of the issuer.
    let renamed = shown("https://elsewhere", &ours.jwks(), &ours.token());
    let renamed = Pin::changed(Some(&pin), &renamed, false, &ours_alone())
        .unwrap()
        .unwrap();
    assert_eq!(
        renamed.verify(&ours.token(), &ours_alone()),
        Err(Refusal::Issuer)
    );

    // The first pin is for who has enrolled with the join token.
    let first = shown(ISSUER, &ours.jwks(), &ours.token());
    assert_eq!(
        Pin::changed(None, &first, true, &ours_alone()),
        Ok(Some(pin))
    );
    assert_eq!(
        Pin::changed(None, &first, false, &ours_alone()),
        Err(Refusal::NotPinned)
    );
}

#[test]
fn a_token_for_another_hub_is_refused_and_both_names_are_good_while_a_hub_gets_one_of_its_own() {
    let key = key("a");
    let named = key.with("aud", json!(["upm-hub:east"]));
    let pin = Pin::shown(&shown(ISSUER, &key.jwks(), &key.token()), &ours_alone()).unwrap();
    let hub = |audiences: &[&str]| audiences.iter().map(|&a| a.to_owned()).collect::<Vec<_>>();
    let (west, east) = (hub(&["upm-hub:west"]), hub(&["upm-hub:east"]));
    assert_eq!(pin.verify(&named, &west), Err(Refusal::Audience));
    assert_eq!(pin.verify(&named, &ours_alone()), Err(Refusal::Audience));
    assert_eq!(pin.verify(&named, &east), Ok(()));
    assert_eq!(pin.verify(&key.token(), &east), Err(Refusal::Audience));
    let meanwhile = hub(&["upm-hub:east", AUDIENCE]);
    for token in [&named, &key.token()] {
        assert_eq!(pin.verify(token, &meanwhile), Ok(()));
    }
    assert_eq!(pin.verify(&named, &[]), Err(Refusal::Audience));
}
