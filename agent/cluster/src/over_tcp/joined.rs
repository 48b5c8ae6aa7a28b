//! A hub with one agent that has joined it: where most tests of identity begin.

use super::{accounts::Cluster, *};

/// Everything of both.
pub(super) struct Joined {
    pub(super) folder: tempfile::TempDir,
    pub(super) authority: Arc<mesh::Authority>,
    pub(super) hub: HubSide,
    pub(super) pin: String,
    /// With the join token, which is used.
    pub(super) file: PathBuf,
    pub(super) disk: Disk,
    /// The agent `c1`, connected.
    pub(super) one: AgentSide,
}

/// A hub as it is by default, and an agent that shows no service account.
pub(super) async fn joined() -> Joined {
    joined_to(upm_hub::Config::default()).await
}

/// The same with other settings of the hub.
pub(super) async fn joined_to(config: upm_hub::Config) -> Joined {
    let folder = tempfile::tempdir().unwrap();
    join(config, folder, None).await
}

/// A hub as it is by default, and an agent that shows a service account of a cluster, whose key has a name.
pub(super) async fn joined_with_account(kid: &str) -> (Joined, Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(&folder, kid);
    let joined = join(upm_hub::Config::default(), folder, Some(&cluster)).await;
    (joined, cluster)
}

async fn join(
    config: upm_hub::Config,
    folder: tempfile::TempDir,
    cluster: Option<&Cluster>,
) -> Joined {
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let config = upm_hub::Config {
        replica: "one".into(),
        ..config
    };
    let url = format!("sqlite:{}/hub.db", folder.path().display());
    let mut hub = hub_of(config, &url, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let (disk, file) = (Disk::default(), token_file(&folder, &token));
    let place = Place {
        accounts: cluster.map(Cluster::accounts),
        ..place(&[&hub.address], &pin, file.clone())
    };
    let mut one = run(&disk, place);
    one.reason("CONNECTED").await;
    Joined {
        folder,
        authority,
        hub,
        pin,
        file,
        disk,
        one,
    }
}
