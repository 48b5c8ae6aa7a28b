//! Service accounts of clusters. When an agent enrols, the hub pins who issues the tokens of its account: issuer, public keys, subject. After
//! an absence that was longer than its certificate the agent shows such a token instead of a join token. Pure.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims, decode, decode_header,
    errors::ErrorKind, jwk::JwkSet,
};
use serde::Deserialize;

/// The audience of the tokens, where none is configured.
pub(crate) const AUDIENCE: &str = "upm-hub";

/// Bytes of a token, of a key set, of an issuer and of a subject.
const TOKEN: usize = 16 * 1024;
const KEYS: usize = 32 * 1024;
const NAME: usize = 512;
/// Clocks of two machines may differ by this much, in seconds.
const LEEWAY: u64 = 60;
/// What API servers sign with. No algorithm with a shared secret is among them.
const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// Why a token does not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is pinned: the agent is unknown, or has shown nothing when it enrolled.
    #[error(
        "nothing that is pinned for this agent vouches for the token; the hub's log says why, and a join token lets the agent in"
    )]
    NotPinned,
    /// Not a token, or one without what it must have.
    #[error("the service-account token cannot be read, or lacks a claim")]
    Invalid,
    /// Of another issuer.
    #[error("the service-account token is of another issuer than the one pinned")]
    Issuer,
    /// The pinned issuer has, or had, no such key: another cluster with an issuer of the same name, or its keys were replaced.
    #[error("the service-account token is signed with a key that is not pinned")]
    Key,
    /// Signed by somebody else.
    #[error("the signature of the service-account token is not the pinned issuer's")]
    Signature,
    /// For somebody else.
    #[error("the service-account token is for none of this hub's audiences")]
    Audience,
    /// Of another account.
    #[error("the service-account token is of another account than the one pinned")]
    Subject,
    /// Over, or not begun.
    #[error("the service-account token has ended, or has not begun")]
    Expired,
}

impl Refusal {
    /// What the caller is told. Before a pinned key vouches for its token it is a stranger, and hears the same whether the agent exists or not.
    #[must_use]
    pub fn told(self) -> Self {
        match self {
            Self::NotPinned | Self::Invalid | Self::Issuer | Self::Key | Self::Signature => {
                Self::NotPinned
            }
            Self::Audience | Self::Subject | Self::Expired => self,
        }
    }

    /// A stable name.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotPinned => "SERVICE_ACCOUNT_NOT_PINNED",
            Self::Invalid => "SERVICE_ACCOUNT_TOKEN_INVALID",
            Self::Issuer => "SERVICE_ACCOUNT_ISSUER_MISMATCH",
            Self::Key => "SERVICE_ACCOUNT_KEY_UNKNOWN",
            Self::Signature => "SERVICE_ACCOUNT_SIGNATURE_INVALID",
            Self::Audience => "SERVICE_ACCOUNT_AUDIENCE_MISMATCH",
            Self::Subject => "SERVICE_ACCOUNT_SUBJECT_MISMATCH",
            Self::Expired => "SERVICE_ACCOUNT_TOKEN_EXPIRED",
        }
    }
}

/// Whose tokens are an agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// `iss`.
    pub issuer: String,
    /// The issuer's public keys: a JSON Web Key Set.
    pub jwks: String,
    /// `sub`: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

#[derive(Deserialize)]
struct Issued {
    iss: String,
}

/// What an agent shows of its cluster. Nothing of it is believed before it is verified.
#[derive(Clone)]
pub struct Shown {
    /// Who issues its service accounts' tokens.
    pub issuer: String,
    /// The issuer's public keys: a JSON Web Key Set.
    pub jwks: String,
    /// A token of the agent's account. A secret.
    pub token: String,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Shown {
    /// `None` when an agent shows nothing.
    pub fn of(issuer: String, jwks: String, token: String) -> Option<Self> {
        let shows = !issuer.is_empty() && !token.is_empty();
        shows.then_some(Self {
            issuer,
            jwks,
            token,
        })
    }
}

impl Pin {
    /// What an agent shows of its cluster when it enrols: a token proves that issuer and keys belong together, and says which account it is.
    ///
    /// # Errors
    /// When the token is not one of this issuer's, or what is shown is too long.
    pub fn shown(shown: &Shown, audiences: &[String]) -> Result<Self, Refusal> {
        check(shown)?;
        let subject = subject(&shown.issuer, &shown.jwks, &shown.token, audiences)?;
        let parts = subject.split(':').collect::<Vec<_>>();
        let of_account = matches!(parts.as_slice(), ["system", "serviceaccount", ns, name] if !ns.is_empty() && !name.is_empty());
        if !of_account || subject.len() > NAME || !subject.is_ascii() {
            return Err(Refusal::Invalid);
        }
        Ok(Self {
            issuer: shown.issuer.clone(),
            jwks: shown.jwks.clone(),
            subject,
        })
    }

    /// What is pinned when an agent shows this in its session; `None` when that changes nothing. A certificate alone changes nothing: it may be
    /// stolen. A token that the pinned keys have signed for the pinned account says which keys its cluster has now, and the account stays.
    /// Where nothing is pinned, only who holds the certificate that was issued for a join token (`enrolled`) is believed.
    ///
    /// # Errors
    /// When the token is not of the pinned account by the pinned keys, or what is shown is no issuer with keys.
    pub fn changed(
        pinned: Option<&Self>,
        shown: &Shown,
        enrolled: bool,
        audiences: &[String],
    ) -> Result<Option<Self>, Refusal> {
        let Some(pin) = pinned else {
            return if enrolled {
                Self::shown(shown, audiences).map(Some)
            } else {
                Err(Refusal::NotPinned)
            };
        };
        if (&pin.issuer, &pin.jwks) == (&shown.issuer, &shown.jwks) {
            return Ok(None);
        }
        check(shown)?;
        pin.verify(&shown.token, audiences)?;
        Ok(Some(Self {
            issuer: shown.issuer.clone(),
            jwks: shown.jwks.clone(),
            subject: pin.subject.clone(),
        }))
    }

    /// Whether a token is of the pinned account, and for one of these audiences.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<(), Refusal> {
        if subject(&self.issuer, &self.jwks, token, audiences)? != self.subject {
            return Err(Refusal::Subject);
        }
        Ok(())
    }
}

/// Whether this can be an issuer with keys.
fn check(shown: &Shown) -> Result<(), Refusal> {
    let Shown { issuer, jwks, .. } = shown;
    if issuer.is_empty() || issuer.len() > NAME || !issuer.is_ascii() || jwks.len() > KEYS {
        return Err(Refusal::Invalid);
    }
    match serde_json::from_str::<JwkSet>(jwks) {
        Ok(keys) if !keys.keys.is_empty() => Ok(()),
        _ => Err(Refusal::Invalid),
    }
}

/// The account of a token that the issuer has signed for us.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are another crate's, and may become more"
)]
fn subject(issuer: &str, jwks: &str, token: &str, audiences: &[String]) -> Result<String, Refusal> {
    if token.len() > TOKEN {
        return Err(Refusal::Invalid);
    }
    let header = decode_header(token).map_err(|_| Refusal::Invalid)?;
    let keys = serde_json::from_str::<JwkSet>(jwks).map_err(|_| Refusal::Invalid)?;
    let Some(key) = header.kid.as_deref().and_then(|kid| keys.find(kid)) else {
        // Nothing is believed of this token; it only helps whoever looks for the reason.
        let elsewhere = insecure_decode_claims::<Issued>(token).is_ok_and(|of| of.iss != issuer);
        return Err(if elsewhere {
            Refusal::Issuer
        } else {
            Refusal::Key
        });
    };
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Refusal::Invalid);
    }
    let key = DecodingKey::from_jwk(key).map_err(|_| Refusal::Key)?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(audiences);
    validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
    let claims =
        decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Refusal::Signature,
            ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => Refusal::Expired,
            ErrorKind::InvalidIssuer => Refusal::Issuer,
            ErrorKind::InvalidAudience => Refusal::Audience,
            _ => Refusal::Invalid,
        })?;
    Ok(claims.claims.sub)
}

#[cfg(test)]
mod tests;
