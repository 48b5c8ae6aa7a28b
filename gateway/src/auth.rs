//! Who calls. The platform's modules verify tokens themselves; a gateway that stands alone does it here.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind, jwk::JwkSet};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use upm_mesh::{
    Drain, Peers,
    auth::{AUDIENCE, ISSUER},
};
use upm_proto::auth::v1::{GetJwksRequest, Jwks, auth_service_client::AuthServiceClient};

use crate::{Error, refusal::Refusal};

/// A longer token is refused unread, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Clocks of two machines may differ by this much, in seconds.
const LEEWAY: u64 = 5;
/// A verified token is not verified again for so long.
const REMEMBER: Duration = Duration::from_secs(60);
/// How often the platform's keys are asked for: a new one is published long before it signs.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// How soon again when they are not known, or a token names another one.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long the answer is waited for.
const ASK: Duration = Duration::from_secs(10);
/// Tokens that are remembered.
const REMEMBERED: usize = 16 * 1024;

/// What the gateway does about tokens.
pub(crate) enum Auth {
    /// They go on; the modules verify them and decide. Here they are verified with the platform's keys as far as these are known, so that
    /// strangers are known before anything of them is read.
    Platform(Platform),
    /// Everybody may call.
    Anonymous,
    /// Only with a valid token.
    Verified(Box<Verifier>),
}

/// The keys of the platform's tokens, once they are known.
#[derive(Default)]
pub(crate) struct Platform {
    verifier: ArcSwapOption<Verifier>,
    /// Somebody has come with a key that is not known.
    wanted: Notify,
}

/// What is known of a caller.
pub(crate) struct Standing {
    /// Whose call it is, for limits.
    pub(crate) principal: Option<Principal>,
    /// Whether no valid token was shown where one is to be shown.
    pub(crate) stranger: bool,
}

/// Why a token is not good.
enum Bad {
    /// No key here has signed it; a newer one may have.
    UnknownKey,
    Expired,
    Invalid,
}

impl From<Bad> for Refusal {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Expired => Self::unauthenticated("TOKEN_EXPIRED", "the token has ended"),
            Bad::UnknownKey | Bad::Invalid => {
                Self::unauthenticated("TOKEN_INVALID", "the token is not valid")
            }
        }
    }
}

/// Verifies tokens with the keys of a file.
pub(crate) struct Verifier {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    hasher: RandomState,
    seen: Mutex<HashMap<u64, Seen>>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    verifies: DecodingKey,
}

struct Seen {
    /// The whole token: a hash alone could be met by another one.
    token: Box<str>,
    subject: Arc<str>,
    until: Instant,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

impl Verifier {
    /// Reads a JWK set (RFC 7517). Tokens must be signed with one of its ES256, ES384, RS256, PS256 or EdDSA keys.
    pub(crate) fn open(
        path: &Path,
        issuer: Option<String>,
        audience: Option<String>,
    ) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        let set: JwkSet =
            serde_json::from_slice(&text).map_err(|error| Error::Keys(error.to_string()))?;
        Self::of(&set, issuer, audience)
            .ok_or_else(|| Error::Keys(format!("{} has no key for signatures", path.display())))
    }

    /// Verifies with the keys of a set; `None` when it has none for signatures.
    fn of(set: &JwkSet, issuer: Option<String>, audience: Option<String>) -> Option<Self> {
        let keys = set.keys.iter().filter_map(|jwk| {
            let named = jwk.common.key_algorithm.map(|name| name.to_string());
            let algorithm = named.as_deref().unwrap_or("ES256").parse().ok()?;
            // A shared secret is no key to publish.
            matches!(
                algorithm,
                Algorithm::ES256
                    | Algorithm::ES384
                    | Algorithm::RS256
                    | Algorithm::PS256
                    | Algorithm::EdDSA
            )
            .then_some(())?;
            Some(Key {
                id: jwk.common.key_id.clone(),
                algorithm,
                verifies: DecodingKey::from_jwk(jwk).ok()?,
            })
        });
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return None;
        }
        Some(Self {
            keys,
            issuer,
            audience,
            hasher: RandomState::new(),
            seen: Mutex::default(),
        })
    }

    fn verify(&self, token: &str) -> Result<Arc<str>, Bad> {
        let now = Instant::now();
        let hash = self.hasher.hash_one(token);
        {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(seen) = seen.get(&hash)
                && *seen.token == *token
                && now < seen.until
            {
                return Ok(seen.subject.clone());
            }
        }
        let claims = self.decode(token)?;
        let subject: Arc<str> = claims.sub.into();
        let left = UNIX_EPOCH
            .checked_add(Duration::from_secs(claims.exp))
            .and_then(|end| end.duration_since(SystemTime::now()).ok())
            .unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.retain(|_, seen| now < seen.until);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
        }
        seen.insert(
            hash,
            Seen {
                token: token.into(),
                subject: subject.clone(),
                until: now + left.min(REMEMBER),
            },
        );
        Ok(subject)
    }

    fn decode(&self, token: &str) -> Result<Claims, Bad> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Bad::Invalid)?;
        let key = self
            .keys
            .iter()
            .find(|key| {
                key.algorithm == header.alg && (header.kid.is_none() || key.id == header.kid)
            })
            .ok_or(Bad::UnknownKey)?;
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "sub"]);
        match &self.issuer {
            Some(issuer) => validation.set_issuer(&[issuer]),
            None => validation.iss = None,
        }
        match &self.audience {
            Some(audience) => validation.set_audience(&[audience]),
            None => validation.validate_aud = false,
        }
        jsonwebtoken::decode::<Claims>(token, &key.verifies, &validation)
            .map(|data| data.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Bad::Expired,
                _ => Bad::Invalid,
            })
    }
}

impl Platform {
    /// Takes the keys as module `auth` gives them.
    pub(crate) fn learn(&self, jwks: &Jwks) {
        let keys: Vec<_> = jwks
            .keys
            .iter()
            .map(|key| {
                json!({
                    "kty": key.kty, "crv": key.crv, "use": key.r#use, "alg": key.alg, "kid": key.kid,
                    "x": key.x, "y": key.y,
                })
            })
            .collect();
        let set = serde_json::from_value::<JwkSet>(json!({ "keys": keys }));
        let owned = |text: &str| Some(text.to_owned());
        let verifier = set
            .ok()
            .and_then(|set| Verifier::of(&set, owned(ISSUER), owned(AUDIENCE)));
        if let Some(verifier) = verifier {
            self.verifier.store(Some(Arc::new(verifier)));
        }
    }

    /// Follows the keys until the drain: now and then, and soon when somebody comes with another one.
    pub(crate) async fn follow(&self, peers: &Peers, drain: &Drain) {
        let mut client = AuthServiceClient::new(peers.channel("auth"));
        loop {
            let asked = client.get_jwks(GetJwksRequest {});
            let known = match tokio::time::timeout(ASK, asked).await {
                Ok(Ok(jwks)) => {
                    self.learn(jwks.get_ref());
                    true
                }
                Ok(Err(status)) => {
                    tracing::debug!(code = ?status.code(), "The keys of the tokens are not known");
                    false
                }
                Err(_) => false,
            };
            let pause = if known { ASK_EVERY } else { ASK_AGAIN };
            tokio::select! {
                () = drain.signalled() => return,
                () = tokio::time::sleep(pause) => {}
                () = async {
                    self.wanted.notified().await;
                    tokio::time::sleep(ASK_AGAIN).await;
                } => {}
            }
        }
    }

    fn standing(&self, headers: &HeaderMap, public: bool) -> Result<Standing, Refusal> {
        let stranger = |principal| {
            Ok(Standing {
                principal,
                stranger: true,
            })
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return if public {
                stranger(None)
            } else {
                Err(token_missing())
            };
        };
        let principal = Principal::Token(value.as_bytes().to_vec());
        let token = bearer(value);
        let verifier = self.verifier.load();
        let found = match (token, verifier.as_ref()) {
            (None, _) => Err(Bad::Invalid),
            // The modules verify it.
            (Some(_), None) => return stranger(Some(principal)),
            (Some(token), Some(verifier)) => verifier.verify(token),
        };
        match found {
            Ok(_) => Ok(Standing {
                principal: Some(principal),
                stranger: false,
            }),
            Err(Bad::UnknownKey) => {
                self.wanted.notify_one();
                stranger(Some(principal))
            }
            // A token that has ended must not keep anybody from logging in.
            Err(Bad::Expired | Bad::Invalid) if public => stranger(None),
            Err(bad) => Err(bad.into()),
        }
    }
}

impl Auth {
    /// What is known of a caller; where tokens are verified, the condition to go on. `public` methods need no token.
    pub(crate) fn standing(&self, headers: &HeaderMap, public: bool) -> Result<Standing, Refusal> {
        let verifier = match self {
            Self::Platform(platform) => return platform.standing(headers, public),
            Self::Anonymous => {
                return Ok(Standing {
                    principal: None,
                    stranger: false,
                });
            }
            Self::Verified(verifier) => verifier,
        };
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(bearer)
            .ok_or_else(token_missing)?;
        let subject = verifier.verify(token)?;
        Ok(Standing {
            principal: Some(Principal::Subject(subject)),
            stranger: false,
        })
    }

    /// The keys to follow, in front of the platform.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        match self {
            Self::Platform(platform) => Some(platform),
            Self::Anonymous | Self::Verified(_) => None,
        }
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    value
        .to_str()
        .ok()?
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN)
}

fn token_missing() -> Refusal {
    Refusal::unauthenticated("TOKEN_MISSING", "send `Authorization: Bearer` with a token")
}

/// Whose call it is.
pub(crate) enum Principal {
    /// By a verified token.
    Subject(Arc<str>),
    /// Somebody with this header.
    Token(Vec<u8>),
}

impl Principal {
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Subject(subject) => subject.as_bytes(),
            Self::Token(token) => token,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header};

    use super::*;

    /// The key pair of these tests, PKCS #8.
    fn pair() -> &'static [u8] {
        static PAIR: OnceLock<Vec<u8>> = OnceLock::new();
        PAIR.get_or_init(|| {
            let random = aws_lc_rs::rand::SystemRandom::new();
            let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
            pair.unwrap().as_ref().to_vec()
        })
    }

    pub(crate) fn jwks() -> String {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair()).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let coordinate = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        serde_json::json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1",
            "x": coordinate(1..33), "y": coordinate(33..65),
        }]})
        .to_string()
    }

    pub(crate) fn token(claims: &serde_json::Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("1".to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(pair())).unwrap()
    }

    fn auth() -> Auth {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, jwks()).unwrap();
        let verifier = Verifier::open(&path, Some("us".into()), None).unwrap();
        Auth::Verified(Box::new(verifier))
    }

    fn call(auth: &Auth, token: &str) -> Result<Option<Principal>, Refusal> {
        standing(auth, token, false).map(|standing| standing.principal)
    }

    fn standing(auth: &Auth, token: &str, public: bool) -> Result<Standing, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {token}").parse().unwrap(),
        );
        auth.standing(&headers, public)
    }

    #[test]
    fn a_valid_token_names_its_principal_again_and_again() {
        let auth = auth();
        let token =
            token(&serde_json::json!({"iss": "us", "sub": "users/7", "exp": 4_000_000_000_u64}));
        for _ in 0..3 {
            assert_eq!(call(&auth, &token).unwrap().unwrap().key(), b"users/7");
        }
    }

    #[test]
    fn tokens_of_others_that_ended_or_were_changed_are_refused() {
        let auth = auth();
        for claims in [
            serde_json::json!({"iss": "them", "sub": "users/7", "exp": 4_000_000_000_u64}),
            serde_json::json!({"iss": "us", "sub": "users/7", "exp": 1_000}),
            serde_json::json!({"iss": "us", "exp": 4_000_000_000_u64}),
            serde_json::json!({"iss": "us", "sub": "users/7"}),
        ] {
            assert_eq!(
                call(&auth, &token(&claims)).err().unwrap().http_status(),
                401,
                "{claims}"
            );
        }
        let good =
            token(&serde_json::json!({"iss": "us", "sub": "users/7", "exp": 4_000_000_000_u64}));
        let (signed, _) = good.rsplit_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let rest = good.split_once('.').unwrap().1;
        for bad in [
            format!("{signed}.AAAA"),
            format!("{none}.{rest}"),
            "x".repeat(9000),
            String::new(),
        ] {
            assert!(call(&auth, &bad).is_err());
        }
        assert!(auth.standing(&HeaderMap::new(), false).is_err());
    }
}
