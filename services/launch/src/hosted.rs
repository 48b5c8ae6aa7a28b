//! The modules of the platform, one row each: what a process can serve, with which tables, and which words of the command line belong to
//! it. The chart's keys are made from it too.

use std::{fs, sync::Arc};

use anyhow::Context as _;
use futures::future::BoxFuture;
use upm_mesh::Module;
use upm_store::{Migrations, ModuleContext};

use crate::{
    cli,
    noun::{Noun, noun},
    platform::{Agents, AuthSecrets, Platform, listen, write_secret},
};

/// A module that a process can host.
pub(crate) struct Hosted {
    /// The second segment of its protobuf package: `upm.redis.v1` is of module `redis`.
    pub(crate) name: &'static str,
    /// Its tables.
    pub(crate) migrations: fn() -> Migrations,
    /// Starts it. Fails when its settings are not there, or its store is not as it left it.
    pub(crate) start: Start,
    /// Its words on the command line.
    pub(crate) nouns: &'static [Noun],
}

type Start = for<'a> fn(
    &'a mut Platform,
    ModuleContext,
    &'a dyn Settings,
) -> BoxFuture<'a, anyhow::Result<Module>>;

/// What some modules need beside a store. It is asked for only when such a module starts.
pub(crate) trait Settings: Sync {
    /// Of the hub: the port for agents, and the authority that signs their certificates.
    fn agents(&self, platform: &mut Platform) -> anyhow::Result<Agents>;
    /// Of `auth`: its files.
    fn secrets(&self) -> AuthSecrets;
}

/// All modules, in the order in which they can start. The gateway is none: it has no methods of its own.
pub(crate) const HOSTED: &[Hosted] = &[
    Hosted {
        name: "operatorlog",
        migrations: || upm_operatorlog::MIGRATIONS,
        start: |platform, ctx, _| {
            let config = platform.log_config();
            Box::pin(async { Ok(upm_operatorlog::module(ctx, config).await?) })
        },
        nouns: &[noun!(log, "The operation log: who did what")],
    },
    Hosted {
        name: "user",
        migrations: || upm_user::MIGRATIONS,
        start: |_, ctx, _| {
            Box::pin(async { Ok(upm_user::module(ctx, upm_user::Config::default()).await?) })
        },
        nouns: &[noun!(user, "People and programs that use the platform")],
    },
    Hosted {
        name: "auth",
        migrations: || upm_auth::MIGRATIONS,
        start: |_, ctx, settings| Box::pin(auth(ctx, settings.secrets())),
        nouns: &[noun!(role, "Roles, and who has them")],
    },
    Hosted {
        name: "hub",
        migrations: || upm_hub::MIGRATIONS,
        start: |platform, ctx, settings| Box::pin(hub(platform, ctx, settings)),
        nouns: &[noun!(agent, "Agents: the link of each cluster")],
    },
    Hosted {
        name: "resource",
        migrations: || upm_resource::MIGRATIONS,
        start: |_, ctx, _| Box::pin(async { Ok(upm_resource::module(ctx).await?) }),
        nouns: &[
            noun!(project, "Projects"),
            noun!(cluster, "Kubernetes clusters"),
            noun!(software, "The software catalogue"),
        ],
    },
    Hosted {
        name: "redis",
        migrations: || upm_redis::MIGRATIONS,
        start: |platform, ctx, _| {
            let operations = platform.operations();
            Box::pin(async {
                let config = upm_redis::Config { operations };
                Ok(upm_redis::module(ctx, config).await?)
            })
        },
        nouns: &[noun!(redis, "Redis replication services")],
    },
];

/// The module of a name.
pub(crate) fn find(name: &str) -> Option<&'static Hosted> {
    HOSTED.iter().find(|module| module.name == name)
}

/// The names of all modules with something between them, for people.
pub(crate) fn names(between: &str) -> String {
    let names: Vec<&str> = HOSTED.iter().map(|module| module.name).collect();
    names.join(between)
}

async fn auth(ctx: ModuleContext, secrets: AuthSecrets) -> anyhow::Result<Module> {
    let config = upm_auth::Config {
        key_file: secrets.key_file,
        ..upm_auth::Config::default()
    };
    let (module, token) = upm_auth::module(ctx, config).await?;
    let Some(path) = secrets.setup_token else {
        return Ok(module);
    };
    match token {
        Some(token) => {
            write_secret(&path, token.as_str())?;
            tracing::info!(path = %path.display(), "Wrote the one-time setup token");
        }
        None if path.exists() => fs::remove_file(&path)?,
        None => {}
    }
    Ok(module)
}

async fn hub(
    platform: &mut Platform,
    ctx: ModuleContext,
    settings: &dyn Settings,
) -> anyhow::Result<Module> {
    let agents = settings
        .agents(platform)
        .context("the settings of the agents' port")?;
    let usual = upm_hub::Config::default();
    let config = upm_hub::Config {
        endpoints: agents.endpoints,
        advertise: agents.advertise,
        audiences: agents.audiences.unwrap_or(usual.audiences),
        ..usual
    };
    let drain = ctx.drain.clone();
    let (authority, followed) = (Arc::clone(&agents.authority), drain.clone());
    let directory = agents.authority_directory;
    platform.spawn("follow the authority", async move {
        authority.follow(&directory, &followed).await;
    });
    let (module, port) = upm_hub::module(ctx, config, agents.authority, agents.identity).await?;
    let listener = listen(agents.listen).await?;
    platform.serve("serve agents", async move {
        Ok(port.serve(listener, drain).await?)
    });
    Ok(module)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use upm_proto::policy::METHODS;

    use super::*;

    #[test]
    fn every_module_with_methods_is_hosted_once() {
        let hosted: BTreeSet<&str> = HOSTED.iter().map(|module| module.name).collect();
        assert_eq!(hosted.len(), HOSTED.len());
        // A permission begins with the module that is asked for it; one that is filled in at the call begins with a brace.
        let called: BTreeSet<&str> = METHODS
            .iter()
            .filter_map(|method| method.permission.split('.').next())
            .filter(|module| !module.is_empty() && !module.starts_with('{'))
            .collect();
        assert_eq!(hosted, called);
    }

    #[test]
    fn no_two_modules_have_the_same_word_on_the_command_line() {
        let nouns: Vec<&str> = HOSTED
            .iter()
            .flat_map(|module| module.nouns)
            .map(|noun| noun.name)
            .collect();
        let distinct: BTreeSet<&str> = nouns.iter().copied().collect();
        assert_eq!(distinct.len(), nouns.len());
    }
}
