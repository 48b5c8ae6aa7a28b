//! A platform of the tests' own, with an agent in the test cluster.

mod agent;
mod platform;

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    api::Api,
    environment::Environment,
    kubectl::{Kubectl, eventually},
    pool::{Pool, Shared},
};

use self::platform::Processes;
pub(crate) use self::{
    agent::{CONNECTING, SYSTEM},
    platform::{Form, dying_with_us, spawn_from_lasting_thread},
};

/// Id of the test cluster at the platform.
pub(crate) const CLUSTER: &str = "local";
/// The first administrator.
pub(crate) const ADMIN: &str = "admin";

/// The platform, the agent, the cluster.
pub(crate) struct World {
    pub(crate) environment: Environment,
    pub(crate) kubectl: Kubectl,
    /// Data, logs, the login.
    pub(crate) folder: PathBuf,
    pub(crate) admin_password: String,
    form: Form,
    processes: Mutex<Processes>,
    /// What the agent trusts.
    pin: String,
    /// Services that tests share.
    pool: Pool,
}

/// Where the one world of this process is.
pub(crate) enum Place {
    Nowhere,
    Making,
    Here(Box<World>),
}

static WORLD: RwLock<Place> = RwLock::new(Place::Nowhere);

/// A test's turn with the world: beside others that disturb nobody, or alone, whatever `--test-threads` says.
pub(crate) enum Turn {
    Beside(RwLockReadGuard<'static, Place>),
    Alone(RwLockWriteGuard<'static, Place>),
}

impl Deref for Turn {
    type Target = World;

    fn deref(&self) -> &World {
        let place = match self {
            Self::Beside(place) => &**place,
            Self::Alone(place) => &**place,
        };
        match place {
            Place::Here(world) => world,
            Place::Nowhere | Place::Making => unreachable!("a turn begins with a world"),
        }
    }
}

/// A turn beside others that disturb nobody, with the platform as one process.
pub(crate) fn beside() -> Turn {
    loop {
        let place = WORLD.read().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Place::Here(world) if world.form == Form::Dev && world.runs() => {
                return Turn::Beside(place);
            }
            Place::Here(_) | Place::Nowhere | Place::Making => {}
        }
        drop(place);
        // Makes it, or mends it; or fails.
        drop(turn(Form::Dev));
    }
}

/// A turn alone, with the platform as one process.
pub(crate) fn world() -> Turn {
    turn(Form::Dev)
}

/// A turn alone with a platform of this form, made at the first call. Another one is ended, and everything of it removed.
pub(crate) fn turn(form: Form) -> Turn {
    let mut place = WORLD.write().unwrap_or_else(PoisonError::into_inner);
    let fits = match &*place {
        Place::Here(world) => world.form == form,
        Place::Nowhere => false,
        Place::Making => panic!("the world could not be made: see the first test that failed"),
    };
    if !fits {
        *place = Place::Making;
        *place = Place::Here(Box::new(World::make(form)));
    }
    let turn = Turn::Alone(place);
    turn.ensure();
    turn
}

impl World {
    fn make(form: Form) -> Self {
        let environment = Environment::read();
        let folder = environment
            .root
            .join("target/integration")
            .join(form.name());
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("remove what an earlier run left");
        }
        fs::create_dir_all(&folder).expect("make the folder");
        let mut world = Self {
            kubectl: Kubectl::new(&environment),
            environment,
            folder,
            admin_password: format!("pw-{}", uuid::Uuid::new_v4()),
            form,
            processes: Mutex::default(),
            pin: String::new(),
            pool: Pool::default(),
        };
        world.clean_cluster();
        world.prepare();
        world.start(&[]);
        world.set_up();
        world.pin = world.join();
        world
    }

    /// Starts again what a test left ended.
    fn ensure(&self) {
        if !self.runs() {
            self.kill();
            self.start(&[]);
        }
        self.scale_agent(2);
        self.healthy(CONNECTING);
    }

    /// Address of the API.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.form.api())
    }

    /// Makes the administrator with the command line.
    fn set_up(&self) {
        let password = self.folder.join("admin-password");
        fs::write(&password, &self.admin_password).expect("write the password");
        let (address, token) = (self.address(), self.folder.join("data/setup-token"));
        let arguments = [
            "setup",
            "--server",
            &address,
            "--user",
            ADMIN,
            "--password-file",
            text(&password),
            "--token-file",
            text(&token),
        ];
        // The gateway answers before the modules behind it do.
        eventually("the administrator is made", platform::BEGINNING, || {
            if !token.exists() {
                return Err("there is no setup token yet".to_owned());
            }
            let output = self.try_upm(&arguments);
            if output.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        });
        self.decides();
    }

    /// Runs the command line as the administrator; it must succeed.
    pub(crate) fn upm(&self, arguments: &[&str]) -> String {
        let output = self.try_upm(arguments);
        assert!(
            output.status.success(),
            "upm {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the command line as the administrator.
    pub(crate) fn try_upm(&self, arguments: &[&str]) -> Output {
        self.upm_as(&self.folder.join("login.json"), arguments)
    }

    /// Runs the command line with the login of a file.
    pub(crate) fn upm_as(&self, login: &Path, arguments: &[&str]) -> Output {
        Command::new(&self.environment.upm)
            .args(arguments)
            .env("UPM_CONFIG", login)
            .output()
            .expect("run upm")
    }

    /// An API client with the administrator's token.
    pub(crate) fn api(&self) -> Api {
        Api::login(&self.address(), ADMIN, &self.admin_password)
    }

    /// A project of the test's own.
    pub(crate) fn project(&self, name: &str) -> String {
        let id = format!("{name}-{:04x}", rand::random::<u16>());
        self.upm(&["project", "create", &id]);
        id
    }

    /// A service of three members in good health, which a test has for itself until it drops it.
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared::of(self, &self.pool)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}
