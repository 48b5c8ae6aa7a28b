//! The platform's processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{ADMIN, World, text};
use crate::road::{api::Api, kubectl::eventually, servers};

/// Modules as `upm serve` names them, in the order in which they are started.
const MODULES: [&str; 7] = [
    "operatorlog",
    "user",
    "auth",
    "hub",
    "resource",
    "redis",
    "gateway",
];
/// How long the platform may take until it takes calls.
pub(super) const BEGINNING: Duration = Duration::from_mins(3);
/// The first port of the modules when each is a process of its own.
const MODULE_PORT: u16 = 18100;

/// How the platform runs. Ports are others than those of `make up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `upm dev`: one process, SQLite, a cache in the process.
    Dev,
    /// `upm serve` for each module: mutual TLS, MariaDB, Redis.
    Served,
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Served => "served",
        }
    }

    pub(super) fn api(self) -> &'static str {
        match self {
            Self::Dev => "127.0.0.1:18080",
            Self::Served => "127.0.0.1:18090",
        }
    }

    fn agent_port(self) -> u16 {
        match self {
            Self::Dev => 17443,
            Self::Served => 17543,
        }
    }
}

/// What runs for the platform.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Its own processes, by name.
    platform: Vec<(&'static str, Child)>,
    /// Database and cache.
    servers: Vec<Child>,
}

impl World {
    /// Where agents find the hub.
    pub(crate) fn hub_address(&self) -> String {
        format!("{}:{}", self.environment.host, self.form.agent_port())
    }

    /// Address of a module that is a process of its own.
    pub(crate) fn module_address(name: &str) -> String {
        let index = MODULES
            .iter()
            .position(|module| *module == name)
            .expect("a module");
        format!("127.0.0.1:{}", MODULE_PORT + index as u16)
    }

    /// Logs of the platform's processes.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let names: &[&str] = match self.form {
            Form::Dev => &["upm"],
            Form::Served => &MODULES,
        };
        names.iter().map(|name| self.log(name)).collect()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts the platform with further environment variables, and waits until its modules take calls.
    pub(crate) fn start(&self, environment: &[(&str, &str)]) {
        self.begin(environment);
        self.answers(BEGINNING);
        // Before the first start there is nobody who could call.
        if self.folder.join("login.json").exists() {
            self.decides();
        }
    }

    /// Starts the platform and does not wait.
    pub(crate) fn begin(&self, environment: &[(&str, &str)]) {
        assert!(!self.runs(), "the platform runs already");
        match self.form {
            Form::Dev => {
                let mut command = self.command("upm", environment);
                command
                    .args(["dev", "--listen", self.form.api(), "--data"])
                    .arg(self.folder.join("data"))
                    .arg("--agent-listen")
                    .arg(format!("0.0.0.0:{}", self.form.agent_port()))
                    .arg("--agent-address")
                    .arg(self.hub_address());
                self.run("upm", command);
            }
            Form::Served => {
                for name in MODULES {
                    self.begin_module(name, environment);
                }
            }
        }
    }

    fn begin_module(&self, name: &'static str, environment: &[(&str, &str)]) {
        let mut command = self.command(name, environment);
        command
            .args(["serve", name, "--config"])
            .arg(self.folder.join("upm.toml"));
        self.run(name, command);
    }

    fn run(&self, name: &'static str, command: Command) {
        let child = spawn_from_lasting_thread(command);
        self.processes().platform.push((name, child));
    }

    /// The binary, ended with this process, with its output in a log.
    fn command(&self, name: &str, environment: &[(&str, &str)]) -> Command {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name))
            .expect("open the log");
        let mut command = dying_with_us(&self.environment.upm);
        command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log);
        command
    }

    /// Waits until the API answers.
    pub(crate) fn answers(&self, limit: Duration) {
        let address = self.address();
        eventually("the platform answers", limit, || {
            for (name, child) in &mut self.processes().platform {
                if let Ok(Some(status)) = child.try_wait() {
                    panic!(
                        "{name} ended with {status}; see {}",
                        self.log(name).display()
                    );
                }
            }
            let answer = Command::new("curl")
                .args(["-sf", "--max-time", "2", &format!("{address}/healthz")])
                .output()
                .expect("run curl");
            answer
                .status
                .success()
                .then_some(())
                .ok_or_else(|| "no answer".to_owned())
        });
    }

    /// Waits until every module decides by a policy in which the administrator is: the gateway answers before they have it.
    pub(crate) fn decides(&self) {
        eventually("the modules know the administrator", BEGINNING, || {
            let api = Api::try_login(&self.address(), ADMIN, &self.admin_password)?;
            for path in [
                "/v1/users",
                "/v1/roleBindings",
                "/v1/clusters",
                "/v1/agents",
                "/v1/operatorLog/entries",
                "/v1/projects/none/redisServices",
            ] {
                let answer = api.call("GET", path, None);
                if !matches!(answer.status, 200 | 404) {
                    return Err(format!("{path}: {} {}", answer.status, answer.body));
                }
            }
            Ok(())
        });
    }

    /// Whether all processes of the platform run.
    pub(crate) fn runs(&self) -> bool {
        let mut processes = self.processes();
        !processes.platform.is_empty()
            && processes
                .platform
                .iter_mut()
                .all(|(_, child)| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the platform as a power cut would.
    pub(crate) fn kill(&self) {
        for (_, mut child) in self.processes().platform.drain(..) {
            // One that has ended already cannot be killed; it is waited for all the same.
            child.kill().ok();
            child.wait().expect("wait for its end");
        }
    }

    /// Ends one module as a power cut would, and starts it again.
    pub(crate) fn restart_module(&self, name: &'static str) {
        let position = self
            .processes()
            .platform
            .iter()
            .position(|(other, _)| *other == name);
        let (_, mut child) = self
            .processes()
            .platform
            .remove(position.expect("the module runs"));
        child.kill().expect("kill the module");
        child.wait().expect("wait for its end");
        self.begin_module(name, &[]);
    }

    /// Process of a module that is one of its own.
    pub(crate) fn module_pid(&self, name: &str) -> u32 {
        let processes = self.processes();
        let found = processes.platform.iter().find(|(other, _)| *other == name);
        found.expect("the module runs").1.id()
    }

    /// Waits until the platform has ended by itself; whether it did.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if !self.runs() {
                self.kill();
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what the platform needs before its first start.
    pub(super) fn prepare(&self) {
        fs::create_dir_all(self.folder.join("data")).expect("make the data folder");
        if self.form == Form::Dev {
            return;
        }
        let mariadb = servers::mariadb(&self.folder.join("mariadb"));
        let redis = servers::redis(&self.folder.join("redis"));
        self.processes().servers.extend([mariadb, redis]);
        let (authority, identities) = (self.folder.join("ca"), self.folder.join("identities"));
        self.upm(&["ca", "init", "--directory", text(&authority)]);
        let mut issue = vec![
            "ca",
            "issue",
            "--directory",
            text(&authority),
            "--out",
            text(&identities),
        ];
        issue.extend(MODULES);
        self.upm(&issue);
        fs::write(self.folder.join("upm.toml"), self.configuration())
            .expect("write the configuration");
    }

    fn configuration(&self) -> String {
        let folder = self.folder.display();
        let module = |name: &&str| {
            let address = Self::module_address(name);
            format!(
                "[modules.{name}]\nlisten = '{address}'\nendpoints = ['{address}']\n\
                 store = 'mysql://root@localhost/?unix_socket={folder}/mariadb/socket'\ncache = 'redis+unix://{folder}/redis/socket'\n"
            )
        };
        let modules: String = MODULES
            .iter()
            .filter(|name| **name != "gateway")
            .map(module)
            .collect();
        format!(
            "identities = '{folder}/identities'\n{modules}[gateway]\nlisten = '{}'\n\
             [hub]\nagent-listen = '0.0.0.0:{}'\nagent-endpoints = ['{}']\nauthority = '{folder}/ca'\n\
             [auth]\nsetup-token = '{folder}/data/setup-token'\nkey-file = '{folder}/data/auth-key'\n\
             [operatorlog]\nkey-file = '{folder}/data/operatorlog-key'\n",
            self.form.api(),
            self.form.agent_port(),
            self.hub_address()
        )
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.servers {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A command whose process ends with the thread that starts it.
pub(crate) fn dying_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// `--pdeathsig` looks at the thread that started the process, and a test's thread ends with the test.
pub(crate) fn spawn_from_lasting_thread(mut command: Command) -> Child {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        sender
            .send(command.spawn().expect("start the program"))
            .expect("hand it over");
        loop {
            thread::park();
        }
    });
    receiver.recv().expect("the thread started the program")
}
