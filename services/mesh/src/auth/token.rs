//! Access tokens: ES256 JWTs.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::{error::Kind, status};

/// The issuer of UPM's tokens.
pub const ISSUER: &str = "upm";
/// The audience of UPM's tokens.
pub const AUDIENCE: &str = "upm";

/// Clocks of two machines may differ by this much, in seconds.
const LEEWAY: u64 = 5;
/// A longer token is refused unread, in bytes.
const MAX_TOKEN: usize = 4096;

/// The claims of an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// [`ISSUER`].
    pub iss: String,
    /// `users/{user}`.
    pub sub: String,
    /// [`AUDIENCE`].
    pub aud: String,
    /// End, seconds since 1970.
    pub exp: u64,
    /// Begin, seconds since 1970.
    pub iat: u64,
    /// Id of the token.
    pub jti: String,
}

impl Claims {
    /// When the token ends.
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.exp))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// Verifies a token with the key that its header names.
pub(super) fn decode(token: &str, keys: &HashMap<String, DecodingKey>) -> Result<Claims, Status> {
    if token.len() > MAX_TOKEN {
        return Err(invalid("the token is too long"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| invalid("the token is no JWT"))?;
    let key = header
        .kid
        .as_deref()
        .and_then(|kid| keys.get(kid))
        .ok_or_else(|| invalid("the token's key is not known"))?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.leeway = LEEWAY;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => status::own(
                Kind::Unauthenticated,
                "TOKEN_EXPIRED",
                "the token has ended; refresh it",
            ),
            _ => invalid("the token is not valid"),
        })?
        .claims;
    if !claims.sub.starts_with("users/") {
        return Err(invalid("the token stands for no user"));
    }
    Ok(claims)
}

fn invalid(message: &str) -> Status {
    status::own(Kind::Unauthenticated, "TOKEN_INVALID", message)
}
