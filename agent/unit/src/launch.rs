//! What is done right before a start of the server: render, and look at what the last run left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::config::UnitConfig;
use crate::member::facts::{self, StartFacts};
use crate::member::store::Store;
use crate::render::{self, AgentSecret, Inputs};
use crate::supervise::Launch;

/// The file that `SAVE` writes, in the data directory.
const SNAPSHOT: &str = "dump.rdb";
/// Arguments with which the server loads it instead of the append-only file.
const WITH_SNAPSHOT: [&str; 2] = ["--appendonly", "no"];

/// Prepares starts of the server.
#[derive(Debug)]
pub struct Launcher {
    config: UnitConfig,
    env: BTreeMap<String, String>,
    secret: AgentSecret,
    store: Arc<Store>,
    facts: Arc<Mutex<StartFacts>>,
}

impl Launcher {
    /// For one unit. `env` is what templates see beside what the unit agent adds, `secret` the password of its own user.
    pub fn new(
        config: UnitConfig,
        env: BTreeMap<String, String>,
        secret: AgentSecret,
        store: Arc<Store>,
        facts: Arc<Mutex<StartFacts>>,
    ) -> Self {
        Self {
            config,
            env,
            secret,
            store,
            facts,
        }
    }

    /// Renders the configuration.
    pub fn render(&self, masked: bool) -> Result<String, render::Error> {
        let member_id = self.store.get().member_id;
        render_configuration(&self.config, &self.env, &member_id, &self.secret, masked)
    }

    /// Renders, writes the file, notes what the last run left, and says how to start the server. Blocking.
    pub fn prepare(&self) -> Result<Launch, String> {
        let rendered = self.render(false).map_err(|error| error.to_string())?;
        crate::durable::replace(&self.config.config.output, rendered.as_bytes(), 0o600)
            .map_err(|error| format!("{}: {error}", self.config.config.output.display()))?;
        let boot_id = boot_id();
        let facts = StartFacts::look(&self.config.data, &self.store, &boot_id);
        let last = self.store.get();
        let returns =
            last.snapshot && last.clean_shutdown && self.config.data.join(SNAPSHOT).exists();
        self.store
            .update(|record| {
                record.boot_id = boot_id;
                record.clean_shutdown = false;
                // the next start must not go back to it
                record.snapshot = false;
                record.synced_writes = facts::syncs_writes(&rendered);
                // a file that is not intact now does not become intact by being started with
                record.aof_current &= facts.aof_existed && !returns;
                record.aof_intact &= facts.aof_existed;
                record.host_restarted |= facts.host_restarted;
            })
            .map_err(|error| error.to_string())?;
        *self
            .facts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = facts;
        let output = self.config.config.output.to_string_lossy();
        let mut command: Vec<String> = self
            .config
            .server
            .command
            .iter()
            .map(|word| word.replace("{config}", &output))
            .collect();
        if returns {
            command.extend(WITH_SNAPSHOT.map(str::to_owned));
        }
        Ok(Launch {
            command,
            env: self.config.server.env.clone(),
            directory: self.config.data.clone(),
            hash: render::hash(&rendered),
        })
    }
}

/// Renders a unit's configuration with what the unit agent adds to the environment.
pub fn render_configuration(
    config: &UnitConfig,
    env: &BTreeMap<String, String>,
    member_id: &str,
    secret: &AgentSecret,
    masked: bool,
) -> Result<String, render::Error> {
    let mut env = env.clone();
    env.insert("UNIT_PORT".to_owned(), config.port.to_string());
    env.insert("RUN_DIR".to_owned(), config.run.display().to_string());
    env.insert("MEMBER_ID".to_owned(), member_id.to_owned());
    env.entry("DATA_MOUNT".to_owned())
        .and_modify(|mount| {
            if mount.is_empty() {
                *mount = config.data.display().to_string();
            }
        })
        .or_insert_with(|| config.data.display().to_string());
    let inputs = Inputs {
        env,
        secrets: config.secrets.clone(),
        agent_secret: secret.clone(),
        masked,
        ..Inputs::default()
    };
    render::render_files(&config.config.template, &config.config.value, inputs)
}

/// Which run of the kernel this is; its page cache does not outlive it.
fn boot_id() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}
