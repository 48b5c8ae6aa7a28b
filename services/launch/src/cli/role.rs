//! `upm role …`.

use clap::{Args, Subcommand};
use comfy_table::Table;
use upm_proto::auth::v1::{
    CreateRoleBindingRequest, CreateRoleRequest, DeleteRoleBindingRequest, DeleteRoleRequest,
    GetRoleRequest, ListRoleBindingsRequest, ListRoleBindingsResponse, ListRolesRequest,
    ListRolesResponse, Role, RoleBinding, role_service_client::RoleServiceClient,
};
use uuid::Uuid;

use super::{Globals, output, session::Authorized};

/// Roles, and who has them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List roles.
    List,
    /// Show a role with its permissions.
    Get {
        /// Its id.
        role: String,
    },
    /// Create a role.
    Create {
        /// Its id.
        role: String,
        /// What it allows, `<module>.<resource>.<verb>`; may be given again.
        #[arg(long = "permission", required = true)]
        permissions: Vec<String>,
        /// For people.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Delete a role that nobody has.
    Delete {
        /// Its id.
        role: String,
        /// Do nothing when there is no such role.
        #[arg(long)]
        allow_missing: bool,
    },
    /// Show who has which role.
    Bindings {
        /// Only this user's.
        #[arg(long, default_value = "")]
        user: String,
        /// Only of this project.
        #[arg(long, short, default_value = "")]
        project: String,
    },
    /// Give a role to a user.
    Bind(Given),
    /// Take a role away from a user.
    Unbind(Given),
}

/// A role of a user.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// Id of the role.
    role: String,
    /// Id of the user.
    user: String,
    /// In this project; on the platform when left out.
    #[arg(long, short, default_value = "")]
    project: String,
}

/// `<collection>/<id>`; nothing for no id.
fn name(collection: &str, id: &str) -> String {
    if id.is_empty() {
        String::new()
    } else {
        format!("{collection}/{id}")
    }
}

impl Given {
    fn binding(&self) -> RoleBinding {
        RoleBinding {
            name: String::new(),
            role: name("roles", &self.role),
            user: name("users", &self.user),
            project: name("projects", &self.project),
        }
    }
}

type Client = RoleServiceClient<Authorized>;

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let mut client = RoleServiceClient::new(globals.open().await?);
    let show_role = |role: Role| {
        output::print(globals.output, "upm.auth.v1.Role", &role, |role| {
            permissions(role)
        })
    };
    match command {
        Command::List => {
            let roles = output::pages(async |page_token| {
                let request = ListRolesRequest {
                    page_size: 500,
                    page_token,
                };
                let page = client.clone().list_roles(request).await?.into_inner();
                Ok((page.roles, page.next_page_token))
            })
            .await?;
            let all = ListRolesResponse {
                roles,
                next_page_token: String::new(),
            };
            let full_name = "upm.auth.v1.ListRolesResponse";
            output::print(globals.output, full_name, &all, |all| roles_of(&all.roles))
        }
        Command::Get { role } => {
            let request = GetRoleRequest {
                name: name("roles", &role),
            };
            show_role(client.get_role(request).await?.into_inner())
        }
        Command::Create {
            role,
            permissions,
            description,
        } => {
            let request = CreateRoleRequest {
                role_id: role,
                role: Some(Role {
                    description,
                    permissions,
                    ..Role::default()
                }),
                request_id: Uuid::new_v4().to_string(),
            };
            show_role(client.create_role(request).await?.into_inner())
        }
        Command::Delete {
            role,
            allow_missing,
        } => {
            let request = DeleteRoleRequest {
                name: name("roles", &role),
                etag: String::new(),
                allow_missing,
            };
            client.delete_role(request).await?;
            Ok(())
        }
        Command::Bindings { user, project } => {
            let role_bindings = bound(&client, &user, &project).await?;
            let all = ListRoleBindingsResponse {
                role_bindings,
                next_page_token: String::new(),
            };
            let full_name = "upm.auth.v1.ListRoleBindingsResponse";
            output::print(globals.output, full_name, &all, |all| {
                bindings(&all.role_bindings)
            })
        }
        Command::Bind(given) => {
            let request = CreateRoleBindingRequest {
                role_binding: Some(given.binding()),
            };
            let made = client.create_role_binding(request).await?.into_inner();
            output::print(
                globals.output,
                "upm.auth.v1.RoleBinding",
                &made,
                |binding| bindings(std::slice::from_ref(binding)),
            )
        }
        Command::Unbind(given) => {
            let wanted = given.binding();
            let found = bound(&client, &given.user, &given.project).await?;
            let is_meant = |one: &&RoleBinding| {
                (&one.role, &one.user, &one.project)
                    == (&wanted.role, &wanted.user, &wanted.project)
            };
            let Some(binding) = found.iter().find(is_meant) else {
                anyhow::bail!(
                    "users/{} does not have roles/{} there",
                    given.user,
                    given.role
                );
            };
            let request = DeleteRoleBindingRequest {
                name: binding.name.clone(),
                allow_missing: false,
            };
            client.delete_role_binding(request).await?;
            Ok(())
        }
    }
}

async fn bound(client: &Client, user: &str, project: &str) -> anyhow::Result<Vec<RoleBinding>> {
    output::pages(async |page_token| {
        let request = ListRoleBindingsRequest {
            user: name("users", user),
            project: name("projects", project),
            page_size: 500,
            page_token,
        };
        let page = client
            .clone()
            .list_role_bindings(request)
            .await?
            .into_inner();
        Ok((page.role_bindings, page.next_page_token))
    })
    .await
}

fn roles_of(roles: &[Role]) -> Table {
    let mut table = output::table(["ROLE", "BUILT IN", "PERMISSIONS", "DESCRIPTION"]);
    for role in roles {
        table.add_row([
            output::id(&role.name).to_owned(),
            if role.built_in { "yes" } else { "no" }.to_owned(),
            role.permissions.len().to_string(),
            role.description.clone(),
        ]);
    }
    table
}

fn permissions(role: &Role) -> Table {
    let mut table = output::table(["ROLE", "PERMISSION"]);
    for permission in &role.permissions {
        table.add_row([output::id(&role.name), permission.as_str()]);
    }
    table
}

fn bindings(bindings: &[RoleBinding]) -> Table {
    let mut table = output::table(["USER", "ROLE", "PROJECT"]);
    for binding in bindings {
        table.add_row([
            output::id(&binding.user),
            output::id(&binding.role),
            match binding.project.as_str() {
                "" => "-",
                project => output::id(project),
            },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_without_a_project_is_the_platforms() {
        let given = |project: &str| Given {
            role: "auditor".into(),
            user: "ada".into(),
            project: project.into(),
        };
        let binding = given("").binding();
        assert_eq!(
            (binding.role.as_str(), binding.project.as_str()),
            ("roles/auditor", "")
        );
        assert_eq!(given("p1").binding().project, "projects/p1");
        let shown = bindings(&[binding]).to_string();
        assert!(shown.contains("ada") && shown.contains('-'), "{shown}");
    }
}
