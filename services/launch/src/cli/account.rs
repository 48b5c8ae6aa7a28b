//! `upm setup`, `upm login`, `upm logout`, `upm whoami`.

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use upm_proto::auth::v1::{
    LoginRequest, LogoutRequest, SetupRequest, WhoAmIRequest,
    auth_service_client::AuthServiceClient,
};

use super::{Globals, output, session::Login};

/// Where to log in, and as whom.
#[derive(Debug, Args)]
pub(crate) struct Account {
    /// Address of the API.
    #[arg(long, env = "UPM_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// Id of the user.
    #[arg(long, short, default_value = "admin")]
    user: String,
    /// File with the password; asked for, or read from standard input, when left out.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// CA certificates of the server, PEM.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Send passwords to a server that is not on this machine although it has no TLS.
    #[arg(long)]
    allow_plain_http: bool,
}

/// Creates the first administrator.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    account: Account,
    /// File with the one-time token that `upm` wrote at its first start.
    #[arg(long)]
    token_file: PathBuf,
}

impl Account {
    fn login(&self) -> anyhow::Result<Login> {
        let ca = match &self.ca_file {
            Some(path) => {
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
            }
            None => String::new(),
        };
        Ok(Login::to(&self.server, ca, self.allow_plain_http))
    }

    fn password(&self) -> anyhow::Result<String> {
        password(&self.user, self.password_file.as_deref())
    }
}

/// A user's password, from a file, the terminal or standard input. Never from the command line: arguments are visible to every user of the
/// machine.
pub(crate) fn password(user: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let text = if let Some(path) = file {
        fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
    } else if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of {user}: "))?
    } else {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) async fn setup(globals: &Globals, setup: Setup) -> anyhow::Result<()> {
    let mut login = setup.account.login()?;
    let token = fs::read_to_string(&setup.token_file)
        .with_context(|| format!("read {}", setup.token_file.display()))?;
    let tokens = AuthServiceClient::new(login.connect_with_password().await?)
        .setup(SetupRequest {
            setup_token: token.trim().to_owned(),
            user_id: setup.account.user.clone(),
            password: setup.account.password()?,
        })
        .await?;
    login.accept(tokens.into_inner());
    login.save(&globals.login_file()?)?;
    // It is used up. Where it may only be read, the platform removes it at its next start.
    fs::remove_file(&setup.token_file).ok();
    Ok(())
}

pub(crate) async fn login(globals: &Globals, account: Account) -> anyhow::Result<()> {
    let mut login = account.login()?;
    let tokens = AuthServiceClient::new(login.connect_with_password().await?)
        .login(LoginRequest {
            user_id: account.user.clone(),
            password: account.password()?,
        })
        .await?;
    login.accept(tokens.into_inner());
    login.save(&globals.login_file()?)
}

pub(crate) async fn logout(globals: &Globals) -> anyhow::Result<()> {
    let path = globals.login_file()?;
    let login = Login::load(&path)?;
    AuthServiceClient::new(login.connect().await?)
        .logout(LogoutRequest {
            refresh_token: login.refresh_token().to_owned(),
        })
        .await?;
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

pub(crate) async fn whoami(globals: &Globals) -> anyhow::Result<()> {
    let me = AuthServiceClient::new(globals.open().await?)
        .who_am_i(WhoAmIRequest {})
        .await?
        .into_inner();
    output::print(globals.output, "upm.auth.v1.WhoAmIResponse", &me, |me| {
        let mut table = output::table(["USER", "ROLE", "PROJECT"]);
        if me.role_bindings.is_empty() {
            table.add_row([me.user.as_str(), "-", "-"]);
        }
        for binding in &me.role_bindings {
            table.add_row([&me.user, &binding.role, &binding.project]);
        }
        table
    })
}
