//! The service accounts of the agent's own cluster: who issues their tokens, and the token of the agent's own account for the hub. The hub
//! pins this while the agent is known, and lets it in by it when its certificate has ended.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kube::Client;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use upm_operator::call;

/// Between two looks at the issuer.
const LOOK: Duration = Duration::from_mins(5);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// What goes on is said again after this.
const SAY_AGAIN: Duration = Duration::from_hours(1);
/// Causes that are remembered as said.
const CAUSES: usize = 16;
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

/// The agent's service account. Clones share what they have seen.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// What [`follow`] has read last.
    pub issuer: watch::Receiver<Option<Issuer>>,
    token_file: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// The newest tokens of the last two keys.
#[derive(Default)]
struct Seen {
    last: Option<Token>,
    before: Option<Token>,
}

/// A token, and what it says of itself. The hub verifies it; here that only helps to choose.
#[derive(Clone, PartialEq, Eq)]
struct Token {
    text: String,
    /// Names the key that has signed it.
    key: String,
    /// Seconds since 1970.
    end: u64,
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
    /// One that the key before has signed, while it is good: the hub, which knows that key, believes it what keys there are now. A secret.
    pub former: Option<String>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl Token {
    fn read(text: &str) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Said {
            kid: String,
            exp: u64,
        }
        let part = |n: usize| {
            let bytes = URL_SAFE_NO_PAD.decode(text.split('.').nth(n)?).ok()?;
            serde_json::from_slice::<Said>(&bytes).ok()
        };
        Self {
            key: part(0).unwrap_or_default().kid,
            end: part(1).unwrap_or_default().exp,
            text: text.to_owned(),
        }
    }
}

impl Seen {
    /// Takes the token of now; answers that of the key before, if it has not ended.
    fn take(&mut self, now: SystemTime, token: Token) -> Option<String> {
        if let Some(last) = self.last.take()
            && last.key != token.key
        {
            self.before = Some(last);
        }
        self.last = Some(token);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.before.take_if(|before| before.end <= now);
        self.before.as_ref().map(|before| before.text.clone())
    }
}

impl Accounts {
    /// The account whose projected token for the audience `upm-hub` is in a file, which the kubelet replaces.
    pub fn new(issuer: watch::Receiver<Option<Issuer>>, token_file: PathBuf) -> Self {
        Self {
            issuer,
            token_file,
            seen: Arc::default(),
        }
    }

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
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let former = seen.take(SystemTime::now(), Token::read(&token));
        Some(Evidence {
            issuer,
            jwks,
            token,
            former,
        })
    }
}

/// Which causes were said aloud, and when.
#[derive(Default)]
struct Said(Vec<(String, Instant)>);

impl Said {
    /// Whether to say a cause: the first time, and after an hour again.
    fn is_due(&mut self, cause: &str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now - *at < SAY_AGAIN);
        let fresh = self.0.iter().all(|(known, _)| known != cause);
        if fresh {
            self.0.truncate(CAUSES - 1);
            self.0.push((cause.to_owned(), now));
        }
        fresh
    }
}

/// Reads the issuer from the API server, and again whenever it may have changed, until cancelled.
pub async fn follow(
    client: Client,
    issuer: watch::Sender<Option<Issuer>>,
    cancel: CancellationToken,
) {
    let mut said = Said::default();
    loop {
        let wait = match read(&client).await {
            Ok(read) => {
                said = Said::default();
                issuer.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&read);
                    *known = Some(read);
                    changed
                });
                LOOK
            }
            Err(error) => {
                const WHAT: &str =
                    "The API server does not say who issues its service accounts' tokens";
                if said.is_due(&error.to_string(), Instant::now()) {
                    tracing::warn!(%error, "{WHAT}");
                } else {
                    tracing::debug!(%error, "{WHAT}");
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &str, end: u64) -> Token {
        let part = |json: String| URL_SAFE_NO_PAD.encode(json);
        let header = part(format!(r#"{{"alg":"ES256","kid":"{key}"}}"#));
        let claims = part(format!(r#"{{"exp":{end},"sub":"x"}}"#));
        Token::read(&format!("{header}.{claims}.s"))
    }

    #[test]
    fn the_newest_token_of_the_key_before_is_kept_until_it_ends() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        assert_eq!(seen.take(at(0), token("a", 100)), None);
        assert_eq!(seen.take(at(50), token("a", 150)), None);
        let kept = Some(token("a", 150).text);
        assert_eq!(seen.take(at(60), token("b", 160)), kept);
        assert_eq!(seen.take(at(149), token("b", 250)), kept);
        assert_eq!(seen.take(at(150), token("b", 250)), None);
        assert_eq!(
            seen.take(at(160), Token::read("nonsense")),
            Some(token("b", 250).text)
        );
    }

    #[test]
    fn a_cause_is_said_once_and_after_an_hour_again() {
        let (mut said, now) = (Said::default(), Instant::now());
        let minutes = |count| now + Duration::from_mins(count);
        assert!(said.is_due("a", now));
        assert!(!said.is_due("a", minutes(1)));
        assert!(said.is_due("b", minutes(2)));
        assert!(!said.is_due("a", minutes(59)) && !said.is_due("b", minutes(59)));
        assert!(said.is_due("a", minutes(60)) && !said.is_due("b", minutes(60)));
        for n in 0..100 {
            assert!(said.is_due(&n.to_string(), minutes(60)));
        }
        assert!(said.0.len() <= CAUSES);
    }
}
