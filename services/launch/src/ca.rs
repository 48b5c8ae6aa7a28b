//! `upm ca …`: the built-in CA as files, for processes that are no pods and for tests of whole installations.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Subcommand;
use upm_mesh::{Authority, SpiffeId};

/// How long a module's certificate lives when it is issued as a file.
const LIFETIME: Duration = Duration::from_hours(90 * 24);

/// The built-in CA.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a CA, or leave the one that is there.
    Init {
        /// Its folder; the key in it gets mode 0600.
        #[arg(long)]
        directory: PathBuf,
    },
    /// Issue the identities of modules, each into a folder of its name.
    Issue {
        /// Folder of the CA.
        #[arg(long)]
        directory: PathBuf,
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// Modules, for example `redis gateway`.
        #[arg(required = true)]
        modules: Vec<String>,
    },
    /// Sign with a new key from now on. What the old key has signed is good until the overlap ends; agents and modules learn the new root
    /// while they work. Issue the modules' identities anew afterwards. The old key is overwritten.
    Rotate {
        /// Folder of the CA.
        #[arg(long)]
        directory: PathBuf,
        /// Hours of the overlap. Shorter than the life of a certificate (24 for agents, 2160 for modules) only if all are issued anew.
        #[arg(long, default_value_t = 14 * 24, value_parser = clap::value_parser!(u64).range(1..=90 * 24))]
        overlap_hours: u64,
    },
    /// End the overlap of a rotation now: what the old key has signed is refused by every process that serves the hub or follows this folder's
    /// `ca.crt` (`roots` in its configuration), and by others when their identities were issued anew. Sessions of agents that were opened with
    /// it are cut; the agents come back by their service accounts.
    Retire {
        /// Folder of the CA.
        #[arg(long)]
        directory: PathBuf,
        /// The old key is in wrong hands: nothing it has signed proves anything, nor what was got with that, and who knows only the old root
        /// needs a new join command. Change the pin in every agent's chart (`hub.caPin`).
        #[arg(long)]
        compromised: bool,
    },
    /// Show the pin of the key that signs, and until when the one before is trusted.
    Show {
        /// Folder of the CA.
        #[arg(long)]
        directory: PathBuf,
    },
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init { directory } => {
                Authority::open_or_create(&directory)?;
                Ok(())
            }
            Self::Issue {
                directory,
                out,
                modules,
            } => {
                let authority = Authority::open_or_create(&directory)?;
                fs::create_dir_all(&out)?;
                for module in modules {
                    let issued = authority.issue(&SpiffeId::module(&module)?, &[], LIFETIME)?;
                    issued.write(&out.join(&module), &authority.certificates())?;
                }
                Ok(())
            }
            Self::Rotate {
                directory,
                overlap_hours,
            } => {
                let overlap = Duration::from_hours(overlap_hours);
                show(&Authority::rotate_in(&directory, overlap)?);
                Ok(())
            }
            Self::Retire {
                directory,
                compromised,
            } => {
                show(&Authority::retire_in(&directory, compromised)?);
                Ok(())
            }
            Self::Show { directory } => {
                anyhow::ensure!(directory.join("ca.key").exists(), "there is no CA");
                show(&Authority::open_or_create(&directory)?);
                Ok(())
            }
        }
    }
}

fn show(authority: &Authority) {
    println!("pin {}", authority.pin());
    if let Some(end) = authority.overlap_ends() {
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        println!("overlap-ends-in {} s", left.as_secs());
    }
}
