//! The old key is given up: what it has signed opens nothing, and what it has opened is cut.

use tokio_stream::wrappers::ReceiverStream;
use upm_proto::hub::v1::{agent_frame, hub_frame};

use super::{
    super::identity::{end_of, hear, introduce, say},
    *,
};
use crate::hub::credential::{self, Credential};

impl World {
    /// A way to the hub with what an agent keeps, and nothing else.
    fn way(&self, disk: &Disk) -> Hub {
        let none = self.folder.path().join("no-token-any-more");
        let place = place(&[&self.hub.address], "", none);
        Hub::new(place, Arc::new(disk.clone()))
    }
}

/// What an agent would keep of a key and a certificate.
fn kept(key: Vec<u8>, chain: Vec<Vec<u8>>, roots: Vec<Vec<u8>>) -> Disk {
    let disk = Disk::default();
    disk.kept.lock().unwrap().proven = Some(Credential {
        key,
        chain,
        roots,
        endpoints: Vec::new(),
    });
    disk
}

#[tokio::test]
async fn the_agent_port_trusts_what_the_authority_trusts_whatever_its_own_files_say() {
    // Nobody renews the hub's identity: it came with the old root, as from a folder that is not written anew.
    let mut world = World::without_renewal().await;
    let disk = Disk::default();
    let one = world.agent(&disk).await;
    let directory = world.folder.path().join("ca");
    mesh::Authority::rotate_in(&directory, HOUR).unwrap();
    assert!(world.authority.reload(&directory).unwrap());
    trusts(&disk, 2).await;
    one.stop().await;
    assert_eq!(world.hub.identity.pin(), Some(world.pin.clone()));
    let id = SpiffeId::agent("c1").unwrap();
    let new = world.authority.issue(&id, &[], HOUR).unwrap();
    let roots = disk.kept.lock().unwrap().proven.clone().unwrap().roots;
    let new = kept(
        new.key.secret_der().to_vec(),
        new.chain.iter().map(|c| c.to_vec()).collect(),
        roots,
    );
    for disk in [&disk, &new] {
        drop(world.way(disk).dial().await.unwrap());
    }

    mesh::Authority::retire_in(&directory, false).unwrap();
    assert!(world.authority.reload(&directory).unwrap());
    let refused = world.way(&disk).dial().await.unwrap_err();
    eprintln!("{refused:?}");
    drop(world.way(&new).dial().await.unwrap());
    assert_eq!(world.hub.identity.trusts(), 1);
    world.stop().await;
}

#[tokio::test]
async fn after_a_compromise_an_agent_of_the_old_key_comes_back_at_once_by_its_service_account() {
    let mut world = World::new(24 * 3600).await;
    let (disk, cluster) = (Disk::default(), Cluster::new(&world.folder, "a"));
    let (token, pin) = world.hub.token(true).await;
    let file = token_file(&world.folder, &token);
    let mut one = accounts::with_account(&disk, &world.hub, &pin, file, &cluster);
    one.reason("CONNECTED").await;
    world.rotate().await;
    trusts(&disk, 2).await;
    let before = world.hub.shown().await;
    assert!(one.report.borrow().connected, "a rotation cuts nobody");

    world.retire(true).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let after = loop {
        let now = world.hub.shown().await;
        if now.session_epoch > before.session_epoch && !now.certificate_serial.is_empty() {
            break now;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_ne!(after.certificate_serial, before.certificate_serial);
    // the hub shows the session before the agent has kept what it proved
    let proven = loop {
        let kept = disk.kept.lock().unwrap().proven.clone();
        match kept {
            Some(proven) => break proven,
            None => assert!(tokio::time::Instant::now() < deadline, "nothing is kept"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let root = world.authority.certificates()[0].to_vec();
    assert_eq!(
        (&proven.chain[1], &proven.roots),
        (&root, &vec![root.clone()])
    );
    world.hub.apply(1, 1).await;
    world.hub.settled(1).await;
    one.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn after_a_compromise_a_session_of_the_old_key_is_cut_with_all_that_was_got_in_it() {
    let mut world = World::new(24 * 3600).await;
    let disk = Disk::default();
    world.agent(&disk).await.stop().await;
    world.rotate().await;
    let mut thief = world.way(&disk).dial().await.unwrap();
    introduce(&mut thief, "cluster").await;
    let pending = credential::fresh().unwrap();
    let request = pb::CertRequest {
        csr: pending.csr.into(),
        ..pb::CertRequest::default()
    };
    say(&thief, agent_frame::Message::Csr(request.clone())).await;
    let issued = hear(&mut thief, |m| match m {
        hub_frame::Message::CertIssued(issued) if !issued.certificate_chain.is_empty() => {
            Some(issued.clone())
        }
        _ => None,
    })
    .await;
    let root = world.authority.certificates()[0].to_vec();
    assert_eq!(issued.certificate_chain[1], root, "it is of the new key");
    let got = kept(
        pending.key,
        issued
            .certificate_chain
            .iter()
            .map(|c| c.to_vec())
            .collect(),
        vec![root],
    );
    drop(world.way(&got).dial().await.unwrap());

    world.retire(true).await;
    let why = end_of(&mut thief).await;
    assert_eq!(mesh::status::reason(&why).as_deref(), Some("AGENT_REVOKED"));
    // The connection was let in before the key was given up; a session on it is not.
    let (_outbound, frames) = mpsc::channel(1);
    let again = thief.client.session(ReceiverStream::new(frames)).await;
    assert_eq!(
        mesh::status::reason(&again.unwrap_err()).as_deref(),
        Some("CERTIFICATE_REVOKED")
    );
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let refused = loop {
        match world.way(&got).dial().await {
            Err(refused) => break refused,
            Ok(_) => assert!(tokio::time::Instant::now() < deadline),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(refused.reason, "CERTIFICATE_REVOKED");
    world.stop().await;
}
