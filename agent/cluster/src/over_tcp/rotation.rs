//! The authority gets another key while agents are connected, away, and away for too long.

mod given_up;

use super::{accounts::Cluster, *};

const HOUR: Duration = Duration::from_hours(1);

/// A hub whose identity its authority renews, as in a process of its own.
struct World {
    folder: tempfile::TempDir,
    authority: Arc<mesh::Authority>,
    hub: HubSide,
    pin: String,
    renewing: Option<JoinHandle<()>>,
}

impl World {
    async fn new(certificate_seconds: u64) -> Self {
        let mut world = Self::of(certificate_seconds).await;
        let (signer, hub) = (world.authority.clone(), &world.hub);
        let (identity, drain) = (hub.identity.clone(), hub.drain.clone());
        world.renewing = Some(tokio::spawn(async move {
            let id = SpiffeId::module("hub").unwrap();
            signer.renew(&identity, &id, &[], HOUR, &drain).await;
        }));
        world
    }

    /// A hub whose identity stays as it is.
    async fn without_renewal() -> Self {
        Self::of(24 * 3600).await
    }

    async fn of(certificate_seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority =
            Arc::new(mesh::Authority::open_or_create(&folder.path().join("ca")).unwrap());
        let config = upm_hub::Config {
            certificate_seconds,
            ..upm_hub::Config::default()
        };
        let url = format!("sqlite:{}/hub.db", folder.path().display());
        let hub = hub_of(config, &url, &authority, local().await).await;
        Self {
            pin: authority.pin(),
            folder,
            authority,
            hub,
            renewing: None,
        }
    }

    async fn agent(&mut self, disk: &Disk) -> AgentSide {
        let (token, pin) = self.hub.token(true).await;
        let file = token_file(&self.folder, &token);
        let mut agent = agent(disk, &self.hub.address, &pin, file);
        agent.reason("CONNECTED").await;
        agent
    }

    /// `upm ca rotate` in another process, which this one sees.
    async fn rotate(&self) {
        let directory = self.folder.path().join("ca");
        mesh::Authority::rotate_in(&directory, HOUR).unwrap();
        assert!(self.authority.reload(&directory).unwrap());
        self.renewed().await;
    }

    /// `upm ca retire`: the overlap is over.
    async fn retire(&self, compromised: bool) {
        let directory = self.folder.path().join("ca");
        mesh::Authority::retire_in(&directory, compromised).unwrap();
        assert!(self.authority.reload(&directory).unwrap());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.hub.identity.trusts() != 1 {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn renewed(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.hub.identity.pin() != Some(self.authority.pin()) {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.hub.stop().await;
        if let Some(renewing) = self.renewing {
            renewing.await.unwrap();
        }
    }
}

/// Waits until the agent trusts so many roots.
async fn trusts(disk: &Disk, count: usize) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let kept = disk.kept.lock().unwrap().clone();
        if kept
            .proven
            .is_some_and(|proven| proven.roots.len() == count)
        {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{count} roots");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_rotation_cuts_no_session_and_the_agent_learns_the_new_root_in_it() {
    let mut world = World::new(24 * 3600).await;
    let disk = Disk::default();
    let one = world.agent(&disk).await;
    trusts(&disk, 1).await;
    let before = world.hub.shown().await;
    world.rotate().await;
    trusts(&disk, 2).await;
    world.hub.apply(1, 1).await;
    world.hub.settled(1).await;
    let after = world.hub.shown().await;
    assert_eq!(
        (after.session_epoch, after.certificate_serial),
        (before.session_epoch, before.certificate_serial),
        "it is the same session"
    );
    assert!(one.report.borrow().connected);

    // Who joins now is given the new pin, and a join command of before is good as well.
    assert_ne!(world.authority.pin(), world.pin);
    for pin in [world.pin.clone(), world.authority.pin()] {
        let (token, told) = world.hub.token_of("c2", true).await;
        assert_eq!(told, world.authority.pin());
        let file = world.folder.path().join("c2");
        std::fs::write(&file, token).unwrap();
        let place = place(&[&world.hub.address], &pin, file);
        drop(
            Hub::new(place, Arc::new(Disk::default()))
                .dial()
                .await
                .unwrap(),
        );
    }
    one.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_was_away_when_the_key_changed_connects_during_the_overlap() {
    let mut world = World::new(24 * 3600).await;
    let disk = Disk::default();
    world.agent(&disk).await.stop().await;
    world.rotate().await;
    let none = world.folder.path().join("no-token-any-more");
    let mut one = agent(&disk, &world.hub.address, "", none.clone());
    one.reason("CONNECTED").await;
    trusts(&disk, 2).await;
    one.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_renewal_during_the_overlap_brings_a_certificate_that_outlives_it() {
    // Due for renewal as soon as it is issued.
    let mut world = World::new(60).await;
    let disk = Disk::default();
    let mut one = world.agent(&disk).await;
    world.rotate().await;
    let new_root = world.authority.certificates()[0].to_vec();
    let deadline = tokio::time::Instant::now() + PATIENCE * 2;
    loop {
        let kept = disk.kept.lock().unwrap().clone();
        let proven = kept.proven.unwrap();
        if proven.chain[1] == new_root {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no certificate of the new key"
        );
        // The next connection is opened with what was issued in this one.
        world.hub.disconnect().await;
        one.reason("CONNECTED").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    one.stop().await;
    world.retire(false).await;
    let none = world.folder.path().join("no-token-any-more");
    let mut one = agent(&disk, &world.hub.address, "", none);
    one.reason("CONNECTED").await;
    one.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_agent_that_missed_the_whole_overlap_comes_back_by_its_service_account() {
    let mut world = World::new(24 * 3600).await;
    let (disk, cluster) = (Disk::default(), Cluster::new(&world.folder, "a"));
    let (token, pin) = world.hub.token(true).await;
    let file = token_file(&world.folder, &token);
    let mut one = accounts::with_account(&disk, &world.hub, &pin, file.clone(), &cluster);
    one.reason("CONNECTED").await;
    one.stop().await;
    std::fs::remove_file(&file).unwrap();
    // It lived no longer than the overlap.
    let kept = disk.kept.lock().unwrap().clone();
    *disk.kept.lock().unwrap() = accounts::ended(&world.authority, &kept);
    world.rotate().await;
    world.retire(false).await;

    let mut one = accounts::with_account(&disk, &world.hub, &pin, file, &cluster);
    one.reason("CONNECTED").await;
    let kept = disk.kept.lock().unwrap().clone();
    let roots = kept.proven.unwrap().roots;
    assert_eq!(roots, [world.authority.certificates()[0].to_vec()]);
    world.hub.apply(1, 1).await;
    world.hub.settled(1).await;
    one.stop().await;
    world.stop().await;
}
