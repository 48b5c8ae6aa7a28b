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
    let pin = Pin::shown(ISSUER, &ours.jwks(), &ours.token()).unwrap();
    assert_eq!(pin.subject, SUBJECT);
    assert_eq!(pin.verify(&ours.token()), Ok(()));
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
        assert_eq!(pin.verify(&token), Err(refusal), "{what}");
    }
}

#[test]
fn no_algorithm_with_a_shared_secret_is_taken_for_a_public_key() {
    let ours = key("a");
    let pin = Pin::shown(ISSUER, &ours.jwks(), &ours.token()).unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("a".into());
    let secret = EncodingKey::from_secret(ours.pair.public_key_raw());
    let token = encode(&header, &claims(), &secret).unwrap();
    assert_eq!(pin.verify(&token), Err(Refusal::Invalid));
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"a"}"#),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    assert_eq!(pin.verify(&unsigned), Err(Refusal::Invalid));
}

#[test]
fn only_what_a_token_proves_is_pinned() {
    let (ours, theirs) = (key("a"), key("b"));
    assert_eq!(
        Pin::shown(ISSUER, &theirs.jwks(), &ours.token()),
        Err(Refusal::Key)
    );
    assert_eq!(
        Pin::shown("https://elsewhere", &ours.jwks(), &ours.token()),
        Err(Refusal::Issuer)
    );
    assert_eq!(
        Pin::shown("", &ours.jwks(), &ours.token()),
        Err(Refusal::Invalid)
    );
    assert_eq!(
        Pin::shown(ISSUER, "{}", &ours.token()),
        Err(Refusal::Invalid)
    );
    assert_eq!(
        Pin::shown(ISSUER, &"x".repeat(KEYS + 1), &ours.token()),
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
            Pin::shown(ISSUER, &ours.jwks(), &token),
            Err(Refusal::Invalid),
            "{nobody}"
        );
    }
}
