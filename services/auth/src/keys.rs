//! The keys that sign access tokens: made here, rotated with overlap, published as a JWKS.
//!
//! A new key is published ten minutes before it signs, so that every module knows it by then; an old one stays published until the last
//! token it signed has ended.

mod rotation;
mod vault;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use upm_mesh::auth::{AUDIENCE, Claims, ISSUER};
use upm_proto::auth::v1 as pb;
use upm_store::{Connection, Store, ids, time};

use crate::model::keys::{self as model, KeyRow};
use crate::model::policy;
use crate::{Config, Error};
use rotation::{KeyTime, Plan};
use vault::Vault;

/// Signs access tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    store: Store,
    vault: Vault,
    rotation: Duration,
    token_life: Duration,
    signers: Arc<ArcSwap<Vec<Signer>>>,
}

struct Signer {
    kid: String,
    sign_from_us: i64,
    key: EncodingKey,
}

impl Keys {
    /// Opens the key file, makes the first key when there is none.
    pub(crate) async fn open(store: Store, config: &Config) -> Result<Self, Error> {
        let keys = Self {
            store,
            vault: Vault::open(config.key_file.as_deref()).await?,
            rotation: config.key_rotation(),
            token_life: config.access_token(),
            signers: Arc::default(),
        };
        keys.maintain().await?;
        Ok(keys)
    }

    /// Makes and forgets keys when it is time, and loads what other replicas made; whether the published keys changed.
    pub(crate) async fn maintain(&self) -> Result<bool, Error> {
        let this = self.clone();
        let (rows, changed) = self
            .store
            .transact("maintain the signing keys", move |conn| {
                this.rotate(conn, time::now_us())
            })
            .await?;
        let signers = rows.iter().filter_map(|row| self.signer(row)).collect();
        self.signers.store(Arc::new(signers));
        Ok(changed)
    }

    /// An access token of a user, and when it ends.
    pub(crate) fn access_token(&self, user: &str) -> Result<(String, i64), Error> {
        let now_us = time::now_us();
        let signers = self.signers.load();
        let signer = signers
            .iter()
            .rfind(|signer| signer.sign_from_us <= now_us)
            .ok_or_else(|| Error::Keys("there is none".to_owned()))?;
        let seconds = |us: i64| (us / time::SECOND_US).unsigned_abs();
        let end_us = now_us + time::micros(self.token_life);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.to_owned(),
            aud: AUDIENCE.to_owned(),
            exp: seconds(end_us),
            iat: seconds(now_us),
            jti: ids::uuid7(),
        };
        let header = Header {
            kid: Some(signer.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let token = jsonwebtoken::encode(&header, &claims, &signer.key)
            .map_err(|error| Error::Keys(error.to_string()))?;
        Ok((token, end_us))
    }

    fn rotate(&self, conn: &mut Connection, now_us: i64) -> Result<(Vec<KeyRow>, bool), Error> {
        let rows = model::all(conn)?;
        let in_clear = |row: &KeyRow| self.vault.seals() && !row.sealed;
        if self.plan(&rows, now_us) == Plan::default() && !rows.iter().any(in_clear) {
            return Ok((rows, false));
        }
        // Another replica may have been faster.
        policy::lock(conn)?;
        // Made before there was a key file.
        for row in model::all(conn)?.iter().filter(|row| in_clear(row)) {
            let (sealed, _) = self.vault.seal(&row.private_key)?;
            tracing::info!(key.id = %row.kid, "Sealed a signing key");
            model::seal(conn, &row.kid, &sealed)?;
        }
        let plan = self.plan(&model::all(conn)?, now_us);
        if let Some(sign_from_us) = plan.create_from_us {
            let row = self.new_key(sign_from_us)?;
            tracing::info!(key.id = %row.kid, "Made a signing key");
            model::insert(conn, &row)?;
        }
        for kid in &plan.delete {
            tracing::info!(key.id = %kid, "Forgot a signing key");
            model::delete(conn, kid)?;
        }
        if plan != Plan::default() {
            policy::bump(conn)?;
        }
        Ok((model::all(conn)?, plan != Plan::default()))
    }

    fn plan(&self, rows: &[KeyRow], now_us: i64) -> Plan {
        let times: Vec<KeyTime<'_>> = rows
            .iter()
            .map(|row| KeyTime {
                kid: &row.kid,
                sign_from_us: row.sign_from_us,
                usable: self.signer(row).is_some(),
            })
            .collect();
        rotation::plan(&times, now_us, self.rotation, self.token_life)
    }

    fn new_key(&self, sign_from_us: i64) -> Result<KeyRow, Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Error::Keys(error.to_string()))?;
        let (private_key, sealed) = self.vault.seal(pair.serialized_der())?;
        Ok(KeyRow {
            kid: ids::uuid7(),
            public_point: pair.public_key_raw().to_vec(),
            private_key,
            sealed,
            sign_from_us,
        })
    }

    /// `None` for a key that was sealed with another key file.
    fn signer(&self, row: &KeyRow) -> Option<Signer> {
        let der = self.vault.open_key(&row.private_key, row.sealed)?;
        Some(Signer {
            kid: row.kid.clone(),
            sign_from_us: row.sign_from_us,
            key: EncodingKey::from_ec_der(&der),
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("signers", &self.signers.load().len())
            .finish_non_exhaustive()
    }
}

/// The public keys as RFC 7517 has them.
pub(crate) fn jwks(rows: &[KeyRow]) -> pb::Jwks {
    let keys = rows
        .iter()
        .filter_map(|row| {
            let (x, y) = coordinates(&row.public_point)?;
            Some(pb::Jwk {
                kty: "EC".to_owned(),
                crv: "P-256".to_owned(),
                r#use: "sig".to_owned(),
                alg: "ES256".to_owned(),
                kid: row.kid.clone(),
                x: URL_SAFE_NO_PAD.encode(x),
                y: URL_SAFE_NO_PAD.encode(y),
            })
        })
        .collect();
    pb::Jwks { keys }
}

/// x and y of an uncompressed point.
fn coordinates(point: &[u8]) -> Option<(&[u8], &[u8])> {
    match point {
        [4, rest @ ..] if rest.len() == 64 => Some(rest.split_at(32)),
        _ => None,
    }
}
