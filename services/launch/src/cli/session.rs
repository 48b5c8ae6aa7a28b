//! Where the command line keeps its login, and the channel that carries it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use upm_proto::auth::v1::{RefreshRequest, TokenResponse, auth_service_client::AuthServiceClient};

use super::exit::NoLogin;

/// Renew an access token that ends within this time, so that it does not end on the way.
pub(crate) const RENEW_BEFORE: Duration = Duration::from_secs(30);
/// The same for what lasts as long as its token.
pub(crate) const FRESH: Duration = Duration::from_secs(285);

/// A login, as the file keeps it (mode 0600).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Address of the API, `http://host:port` or `https://host:port`.
    pub(crate) server: String,
    /// CA certificates of an `https` server, PEM; empty for the system's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ca_pem: String,
    /// Passwords may be sent to a remote `http` server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_plain_http: bool,
    /// `users/{user}`.
    #[serde(default)]
    pub(crate) user: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    expire_seconds: u64,
}

impl Login {
    /// A login that has only an address yet.
    pub(crate) fn to(server: &str, ca_pem: String, allow_plain_http: bool) -> Self {
        Self {
            server: server.trim_end_matches('/').to_owned(),
            ca_pem,
            allow_plain_http,
            ..Self::default()
        }
    }

    /// The path of the file: `$UPM_CONFIG`, or `upm/login.json` in the user's configuration folder.
    pub(crate) fn path(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        if let Some(path) = given {
            return Ok(path);
        }
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
            .context("neither XDG_CONFIG_HOME nor HOME is set; use --config")?;
        Ok(base.join("upm/login.json"))
    }

    /// Reads the file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| NoLogin {
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Writes the file so that a reader sees the old or the new one, never a part.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().context("the login file has a folder")?;
        fs::create_dir_all(folder)?;
        // A name of this process: a login beside a renewal must not write into the same file.
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        Ok(())
    }

    /// Takes over what a login or refresh answered.
    pub(crate) fn accept(&mut self, tokens: TokenResponse) {
        self.user = tokens.user;
        self.access_token = tokens.access_token;
        self.refresh_token = tokens.refresh_token;
        self.expire_seconds = tokens
            .expire_time
            .map_or(0, |time| u64::try_from(time.seconds).unwrap_or_default());
    }

    /// The token that `Logout` ends.
    pub(crate) fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    /// Whether what is sent can be read on the way: no TLS, and not within this machine.
    fn is_exposed(&self) -> bool {
        let Ok(url) = url::Url::parse(&self.server) else {
            return false;
        };
        let here = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        url.scheme() == "http" && !here
    }

    /// Refuses to send a password where others can read it on the way, unless the login allows it; then this says so.
    ///
    /// # Errors
    /// The server is remote and has no TLS.
    pub(crate) fn check_password_may_go(&self) -> anyhow::Result<()> {
        if !self.is_exposed() {
            return Ok(());
        }
        anyhow::ensure!(
            self.allow_plain_http,
            "{} has no TLS: whoever is on the way could read the password; use https, or log in with --allow-plain-http",
            self.server
        );
        eprintln!(
            "upm: warning: {} has no TLS: whoever is on the way can read the password",
            self.server
        );
        Ok(())
    }

    /// Opens a connection to which a password is given; see [`Self::check_password_may_go`].
    pub(crate) async fn connect_with_password(&self) -> anyhow::Result<Channel> {
        self.check_password_may_go()?;
        self.connect().await
    }

    /// Opens a connection without a token.
    pub(crate) async fn connect(&self) -> anyhow::Result<Channel> {
        let mut endpoint = Endpoint::from_shared(self.server.clone())
            .with_context(|| format!("{} is no address", self.server))?
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_while_idle(true);
        if self.server.starts_with("https") {
            let mut tls = ClientTlsConfig::new();
            if !self.ca_pem.is_empty() {
                tls = tls.ca_certificate(Certificate::from_pem(&self.ca_pem));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        endpoint
            .connect()
            .await
            .with_context(|| format!("connect to {}", self.server))
    }
}

/// A channel that sends the caller's token.
pub(crate) type Authorized = InterceptedService<Channel, Bearer>;

/// Puts the token into each request.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Opens an authorized connection; a token that ends within `renew_before` is renewed and the file rewritten.
pub(crate) async fn open(path: &Path, renew_before: Duration) -> anyhow::Result<Authorized> {
    let mut login = Login::load(path)?;
    let channel = login.connect().await?;
    let expires_soon = |login: &Login| expires_within(login.expire_seconds, renew_before);
    if expires_soon(&login) {
        let _lock = lock(path)?;
        // Another command may have renewed it meanwhile; a refresh token works once.
        login = Login::load(path)?;
        if expires_soon(&login) {
            let tokens = AuthServiceClient::new(channel.clone())
                .refresh(RefreshRequest {
                    refresh_token: login.refresh_token.clone(),
                })
                .await
                .context("the login has ended; run `upm login`")?;
            login.accept(tokens.into_inner());
            login.save(path)?;
        }
    }
    let mut token = MetadataValue::try_from(format!("Bearer {}", login.access_token))
        .context("the login file holds no usable token; run `upm login`")?;
    token.set_sensitive(true);
    Ok(InterceptedService::new(channel, Bearer(token)))
}

/// Held while a token is renewed; released when dropped.
fn lock(path: &Path) -> anyhow::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn expires_within(expire_seconds: u64, time: Duration) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now + time >= Duration::from_secs(expire_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_file_is_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upm/login.json");
        Login::to("http://127.0.0.1:1/", String::new(), false)
            .save(&path)
            .unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Login::load(&path).unwrap().server, "http://127.0.0.1:1");
    }

    #[test]
    fn a_password_goes_to_a_remote_plain_address_only_when_allowed() {
        let allowed = |server: &str| Login::to(server, String::new(), true).check_password_may_go();
        assert!(allowed("http://upm.example.com").is_ok());
        let exposed = |server: &str| {
            Login::to(server, String::new(), false)
                .check_password_may_go()
                .is_err()
        };
        for safe in [
            "https://upm.example.com",
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(!exposed(safe), "{safe}");
        }
        for open in [
            "http://upm.example.com",
            "http://192.0.2.1:8080",
            "http://localhost.example.com",
        ] {
            assert!(exposed(open), "{open}");
        }
    }

    #[test]
    fn a_missing_login_says_what_to_do() {
        let error = Login::load(Path::new("/nonexistent/login.json")).unwrap_err();
        assert!(error.to_string().contains("upm login"));
    }
}
