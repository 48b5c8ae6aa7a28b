//! `upm user …`.

use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::Table;
use upm_proto::user::v1::{
    CreateUserRequest, DeleteUserRequest, DisableUserRequest, EnableUserRequest, GetUserRequest,
    ListUsersRequest, ListUsersResponse, ResetPasswordRequest, User,
    user_service_client::UserServiceClient,
};
use uuid::Uuid;

use super::{Globals, account, output};

/// People and programs that use the platform.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List users.
    List {
        /// Filter, for example `disabled=true`.
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Show a user.
    Get {
        /// Its id.
        user: String,
    },
    /// Create a user. Without a password file it cannot log in before `reset-password`.
    Create {
        /// Its id.
        user: String,
        /// For people.
        #[arg(long, default_value = "")]
        display_name: String,
        /// Where the user is written to.
        #[arg(long, default_value = "")]
        email: String,
        /// File with the password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Set another user's password, from a file, the terminal or standard input.
    ResetPassword {
        /// Id of the user.
        user: String,
        /// File with the new password.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// End a user's access within seconds.
    Disable {
        /// Id of the user.
        user: String,
    },
    /// Give access back.
    Enable {
        /// Id of the user.
        user: String,
    },
    /// Delete a user and all roles that it has.
    Delete {
        /// Id of the user.
        user: String,
        /// Do nothing when there is no such user.
        #[arg(long)]
        allow_missing: bool,
    },
}

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let show = |user: User| {
        output::print(globals.output, "upm.user.v1.User", &user, |user| {
            rows(std::slice::from_ref(user))
        })
    };
    let name = |user: &str| format!("users/{user}");
    match command {
        Command::List { filter } => {
            let client = UserServiceClient::new(globals.open().await?);
            let users = output::pages(async |page_token| {
                let request = ListUsersRequest {
                    page_size: 500,
                    page_token,
                    filter: filter.clone(),
                };
                let page = client.clone().list_users(request).await?.into_inner();
                Ok((page.users, page.next_page_token))
            })
            .await?;
            let all = ListUsersResponse {
                users,
                next_page_token: String::new(),
            };
            let full_name = "upm.user.v1.ListUsersResponse";
            output::print(globals.output, full_name, &all, |all| rows(&all.users))
        }
        Command::Get { user } => {
            let request = GetUserRequest { name: name(&user) };
            let mut client = UserServiceClient::new(globals.open().await?);
            show(client.get_user(request).await?.into_inner())
        }
        Command::Create {
            user,
            display_name,
            email,
            password_file,
        } => {
            let mut client = UserServiceClient::new(globals.open_with_password().await?);
            let password = match &password_file {
                Some(file) => account::password(&user, Some(file))?,
                None => String::new(),
            };
            let request = CreateUserRequest {
                user_id: user,
                user: Some(User {
                    display_name,
                    email,
                    ..User::default()
                }),
                password,
                request_id: Uuid::new_v4().to_string(),
            };
            show(client.create_user(request).await?.into_inner())
        }
        Command::ResetPassword {
            user,
            password_file,
        } => {
            let mut client = UserServiceClient::new(globals.open_with_password().await?);
            let request = ResetPasswordRequest {
                name: name(&user),
                new_password: account::password(&user, password_file.as_deref())?,
            };
            client.reset_password(request).await?;
            Ok(())
        }
        Command::Disable { user } => {
            let request = DisableUserRequest { name: name(&user) };
            let mut client = UserServiceClient::new(globals.open().await?);
            show(client.disable_user(request).await?.into_inner())
        }
        Command::Enable { user } => {
            let request = EnableUserRequest { name: name(&user) };
            let mut client = UserServiceClient::new(globals.open().await?);
            show(client.enable_user(request).await?.into_inner())
        }
        Command::Delete {
            user,
            allow_missing,
        } => {
            let request = DeleteUserRequest {
                name: name(&user),
                etag: String::new(),
                allow_missing,
            };
            let mut client = UserServiceClient::new(globals.open().await?);
            client.delete_user(request).await?;
            Ok(())
        }
    }
}

fn rows(users: &[User]) -> Table {
    let mut table = output::table(["USER", "DISPLAY NAME", "EMAIL", "STATE", "AGE"]);
    for user in users {
        table.add_row([
            output::id(&user.name).to_owned(),
            user.display_name.clone(),
            user.email.clone(),
            if user.disabled { "disabled" } else { "enabled" }.to_owned(),
            output::age(user.create_time.as_ref()),
        ]);
    }
    table
}
