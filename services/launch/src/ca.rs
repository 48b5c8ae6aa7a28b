//! `upm ca …`: the built-in CA as files, for processes that are no pods and for tests of whole installations.

use std::{fs, path::PathBuf, time::Duration};

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
        }
    }
}
