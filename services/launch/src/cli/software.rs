//! `upm software …`.

use clap::Subcommand;
use comfy_table::Table;
use upm_proto::resource::v1::{
    GetSoftwareRequest, ListSoftwareRequest, ListSoftwareResponse, Software, UpdateSoftwareRequest,
    software_service_client::SoftwareServiceClient,
};

use super::{Globals, output, session::Authorized};

/// The software catalogue.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List packages.
    List {
        /// Filter, for example `type=redis`.
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// Show the parameters of a package.
    Get {
        /// Its id, for example `redis-7.0.15`.
        software: String,
    },
    /// Let new services use a package.
    Enable {
        /// Its id.
        software: String,
    },
    /// Hide a package from new services; those that use it go on.
    Disable {
        /// Its id.
        software: String,
    },
}

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let mut client = SoftwareServiceClient::new(globals.open().await?);
    match command {
        Command::List { filter } => {
            let software = output::pages(async |page_token| {
                let request = ListSoftwareRequest {
                    page_size: 500,
                    page_token,
                    filter: filter.clone(),
                };
                let page = client.clone().list_software(request).await?.into_inner();
                Ok((page.software, page.next_page_token))
            })
            .await?;
            let all = ListSoftwareResponse {
                software,
                next_page_token: String::new(),
            };
            let full_name = "upm.resource.v1.ListSoftwareResponse";
            output::print(globals.output, full_name, &all, |all| rows(&all.software))
        }
        Command::Get { software } => {
            let request = GetSoftwareRequest {
                name: format!("software/{software}"),
            };
            let found = client.get_software(request).await?.into_inner();
            output::print(globals.output, SOFTWARE, &found, parameters)
        }
        Command::Enable { software } => switch(globals, client, &software, true).await,
        Command::Disable { software } => switch(globals, client, &software, false).await,
    }
}

const SOFTWARE: &str = "upm.resource.v1.Software";

async fn switch(
    globals: &Globals,
    mut client: SoftwareServiceClient<Authorized>,
    software: &str,
    enabled: bool,
) -> anyhow::Result<()> {
    let request = UpdateSoftwareRequest {
        software: Some(Software {
            name: format!("software/{software}"),
            enabled,
            ..Software::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["enabled".to_owned()],
        }),
    };
    let changed = client.update_software(request).await?.into_inner();
    output::print(globals.output, SOFTWARE, &changed, |changed| {
        rows(std::slice::from_ref(changed))
    })
}

fn rows(software: &[Software]) -> Table {
    let mut table = output::table(["SOFTWARE", "TYPE", "EDITION", "VERSION", "ENABLED"]);
    for one in software {
        let edition = if one.edition.is_empty() {
            "-"
        } else {
            one.edition.as_str()
        };
        let enabled = if one.enabled { "yes" } else { "no" };
        table.add_row([
            output::id(&one.name),
            one.r#type.as_str(),
            edition,
            one.version.as_str(),
            enabled,
        ]);
    }
    table
}

fn parameters(software: &Software) -> Table {
    let mut table = output::table(["PARAMETER", "TYPE", "DEFAULT", "ALLOWED", "RESTART"]);
    for one in &software.parameters {
        let allowed = match (one.minimum.as_str(), one.maximum.as_str()) {
            ("", "") if one.values.is_empty() => "-".to_owned(),
            ("", "") => one.values.join(", "),
            (least, most) => format!("{least} to {most}"),
        };
        table.add_row([
            one.key.clone(),
            one.r#type.clone(),
            one.default_value.clone(),
            allowed,
            if one.dynamic { "no" } else { "yes" }.to_owned(),
        ]);
    }
    table
}
