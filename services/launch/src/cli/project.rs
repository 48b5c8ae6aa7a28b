//! `upm project …`.

use clap::Subcommand;
use comfy_table::Table;
use upm_proto::resource::v1::{
    CreateProjectRequest, DeleteProjectRequest, GetProjectRequest, ListProjectsRequest,
    ListProjectsResponse, Project, project_service_client::ProjectServiceClient,
};
use uuid::Uuid;

use super::{Globals, output};

/// Projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a project.
    Create {
        /// Its id.
        project: String,
        /// For people.
        #[arg(long, default_value = "")]
        display_name: String,
    },
    /// Show a project.
    Get {
        /// Its id.
        project: String,
    },
    /// List the projects that you may see.
    List,
    /// Delete an empty project.
    Delete {
        /// Its id.
        project: String,
    },
}

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let mut client = ProjectServiceClient::new(globals.open().await?);
    let show = |project: Project| {
        output::print(
            globals.output,
            "upm.resource.v1.Project",
            &project,
            |project| rows(std::slice::from_ref(project)),
        )
    };
    match command {
        Command::Create {
            project,
            display_name,
        } => {
            let request = CreateProjectRequest {
                project_id: project,
                project: Some(Project {
                    display_name,
                    ..Project::default()
                }),
                request_id: Uuid::new_v4().to_string(),
            };
            show(client.create_project(request).await?.into_inner())
        }
        Command::Get { project } => {
            let name = format!("projects/{project}");
            show(
                client
                    .get_project(GetProjectRequest { name })
                    .await?
                    .into_inner(),
            )
        }
        Command::List => {
            let mut all = ListProjectsResponse::default();
            loop {
                let page = client
                    .list_projects(ListProjectsRequest {
                        page_size: 500,
                        page_token: all.next_page_token.clone(),
                        filter: String::new(),
                    })
                    .await?
                    .into_inner();
                all.projects.extend(page.projects);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            let full_name = "upm.resource.v1.ListProjectsResponse";
            output::print(globals.output, full_name, &all, |all| rows(&all.projects))
        }
        Command::Delete { project } => {
            client
                .delete_project(DeleteProjectRequest {
                    name: format!("projects/{project}"),
                    etag: String::new(),
                    allow_missing: false,
                })
                .await?;
            Ok(())
        }
    }
}

fn rows(projects: &[Project]) -> Table {
    let mut table = output::table(["PROJECT", "SERVICES", "DISPLAY NAME", "AGE"]);
    for project in projects {
        table.add_row([
            output::id(&project.name).to_owned(),
            project.service_count.to_string(),
            project.display_name.clone(),
            output::age(project.create_time.as_ref()),
        ]);
    }
    table
}
