//! The service accounts of the agent's own cluster: who issues their tokens, and the token of the agent's own account for the hub. The hub
//! pins this while the agent is known, and lets it in by it when its certificate has ended.

use std::{path::PathBuf, time::Duration};

use kube::Client;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upm_operator::call;

/// Between two looks at the issuer.
const LOOK: Duration = Duration::from_mins(5);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Bytes of a token.
const TOKEN: u64 = 16 * 1024;

/// Who issues the tokens of a cluster's service accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`.
    pub issuer: String,
    /// Its public keys: a JSON Web Key Set.
    pub jwks: String,
}

/// The agent's service account.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// What [`follow`] has read last.
    pub issuer: watch::Receiver<Option<Issuer>>,
    /// The projected token for the audience `upm-hub`; the kubelet replaces it.
    pub token_file: PathBuf,
}

/// What is shown to the hub.
#[derive(Clone, Default)]
pub struct Evidence {
    /// `iss`.
    pub issuer: String,
    /// The issuer's public keys.
    pub jwks: String,
    /// A token of the agent's account. A secret.
    pub token: String,
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Evidence {
    /// SHA-256 of issuer and keys: tokens change all the time.
    pub fn digest(&self) -> Vec<u8> {
        let mut digest = Sha256::new();
        digest.update(&self.issuer);
        digest.update([0]);
        digest.update(&self.jwks);
        digest.finalize().to_vec()
    }
}

impl Accounts {
    /// The token, as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub fn token(&self) -> std::io::Result<String> {
        let size = std::fs::metadata(&self.token_file)?.len();
        if size > TOKEN {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok(std::fs::read_to_string(&self.token_file)?.trim().to_owned())
    }

    /// Everything, when everything is known.
    pub fn evidence(&self) -> Option<Evidence> {
        let Issuer { issuer, jwks } = self.issuer.borrow().clone()?;
        let token = self.token().ok()?;
        Some(Evidence {
            issuer,
            jwks,
            token,
        })
    }
}

/// Reads the issuer from the API server, and again whenever it may have changed, until cancelled.
pub async fn follow(
    client: Client,
    issuer: watch::Sender<Option<Issuer>>,
    cancel: CancellationToken,
) {
    loop {
        let wait = match read(&client).await {
            Ok(read) => {
                issuer.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&read);
                    *known = Some(read);
                    changed
                });
                LOOK
            }
            Err(error) => {
                tracing::warn!(%error, "The API server does not say who issues its service accounts' tokens");
                AGAIN
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Reads the issuer from the API server. Every service account may, by the cluster role `system:service-account-issuer-discovery`.
///
/// # Errors
/// When the API server does not say.
pub async fn read(client: &Client) -> anyhow::Result<Issuer> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
    }
    let get = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new())?;
        let asked = client.request_text(request);
        Ok::<_, anyhow::Error>(call::within("ask for the issuer", asked).await?)
    };
    let discovery: Discovery =
        serde_json::from_str(&get("/.well-known/openid-configuration").await?)?;
    Ok(Issuer {
        issuer: discovery.issuer,
        // Not where `jwks_uri` points: that is for others, and may be elsewhere.
        jwks: get("/openid/v1/jwks").await?,
    })
}
