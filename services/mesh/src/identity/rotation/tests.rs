use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    ClientAuth, Drain, Identity, SpiffeId,
    identity::{Anchors, Signer, pinned_client_config},
};

const HOUR: Duration = Duration::from_hours(1);

fn module(name: &str) -> SpiffeId {
    SpiffeId::module(name).unwrap()
}

fn identity(authority: &Authority, name: &str) -> Identity {
    let issued = authority.issue(&module(name), &[], HOUR).unwrap();
    Identity::issued(issued, &authority.certificates()).unwrap()
}

/// Whether both sides accept each other.
async fn agree(server: &Identity, client: Arc<rustls::ClientConfig>, auth: ClientAuth) -> bool {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let config = server.server_config(auth);
    let accept = async { TlsAcceptor::from(config).accept(ours).await.is_ok() };
    let name = ServerName::try_from("hub").unwrap();
    let connector = TlsConnector::from(client);
    let connect = async { connector.connect(name, theirs).await };
    let (accepted, connected) = tokio::join!(accept, connect);
    accepted && connected.is_ok()
}

async fn mutual(server: &Identity, client: &Identity) -> bool {
    let expected = server.spiffe_id().unwrap();
    agree(
        server,
        client.client_config_for(expected),
        ClientAuth::Required,
    )
    .await
}

#[tokio::test]
async fn during_an_overlap_everybody_of_before_and_after_understands_everybody() {
    let authority = Authority::create().unwrap();
    let old_pin = authority.pin();
    let (old_hub, old_agent) = (identity(&authority, "hub"), identity(&authority, "redis"));
    authority.rotate(HOUR).unwrap();
    let (new_hub, new_agent) = (identity(&authority, "hub"), identity(&authority, "redis"));
    assert_ne!(authority.pin(), old_pin);
    assert_eq!((old_hub.trusts(), new_hub.trusts()), (1, 2));
    for hub in [&old_hub, &new_hub] {
        for agent in [&old_agent, &new_agent] {
            assert!(mutual(hub, agent).await, "{hub:?} {agent:?}");
        }
    }
    // A join command of before the rotation is good for the hub of after it.
    for pin in [&old_pin, &authority.pin()] {
        let config = pinned_client_config(pin, module("hub"));
        assert!(agree(&new_hub, config, ClientAuth::Optional).await);
    }
    assert_eq!(old_hub.pin(), Some(old_pin));
    assert_eq!(new_hub.pin(), Some(authority.pin()));
    assert!(authority.overlap_ends().is_some());
    assert!(matches!(authority.rotate(HOUR), Err(Error::Overlap)));
}

#[tokio::test]
async fn after_the_overlap_what_the_old_key_signed_is_refused_and_the_old_root_still_leads_to_the_new_one()
 {
    let authority = Authority::create().unwrap();
    let old_pin = authority.pin();
    let old_agent = identity(&authority, "redis");
    authority.rotate(Duration::ZERO).unwrap();
    let hub = identity(&authority, "hub");
    assert_eq!((hub.trusts(), authority.certificates().len()), (1, 1));
    assert!(
        !mutual(&hub, &old_agent).await,
        "its certificate is of the old key"
    );
    let config = old_agent.client_config_for(module("hub"));
    assert!(
        agree(&hub, config, ClientAuth::None).await,
        "it knows whom it asks to let it in again"
    );
    // Of the old root only the way from it to the new one is left, so a join command of before is good no more.
    let config = pinned_client_config(&old_pin, module("hub"));
    assert!(!agree(&hub, config, ClientAuth::Optional).await);
    let chain = |authority: &Authority| authority.issue(&module("hub"), &[], HOUR).unwrap().chain;
    assert_eq!(chain(&authority).len(), 3, "leaf, root, the way to it");

    // The next rotation: the first root leads there over two steps.
    authority.rotate(Duration::ZERO).unwrap();
    let hub = identity(&authority, "hub");
    let config = old_agent.client_config_for(module("hub"));
    assert!(agree(&hub, config, ClientAuth::None).await);
}

#[tokio::test]
async fn a_process_forgets_the_old_root_by_itself_when_the_overlap_ends() {
    let authority = Authority::create().unwrap();
    let old_agent = identity(&authority, "redis");
    authority.rotate(Duration::from_secs(3)).unwrap();
    let hub = identity(&authority, "hub");
    let deadline = SystemTime::now() + Duration::from_secs(30);
    while mutual(&hub, &old_agent).await {
        assert!(SystemTime::now() < deadline, "it is trusted for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hub.trusts(), 1);
    assert!(mutual(&hub, &identity(&authority, "redis")).await);
}

#[tokio::test]
async fn an_identity_trusts_what_the_authority_trusts_whatever_is_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, own) = (folder.path().join("ca"), folder.path().join("hub"));
    let authority = Authority::open_or_create(&ca).unwrap();
    let old_agent = identity(&authority, "redis");
    let issued = authority.issue(&module("hub"), &[], HOUR).unwrap();
    issued.write(&own, &authority.certificates()).unwrap();
    let of_authority = Identity::from_directory(&own).unwrap();
    of_authority.trust(authority.anchors());
    let anchors = Anchors::from_file(&ca.join(CERTIFICATE_FILE)).unwrap();
    let of_file = Identity::from_directory(&own).unwrap();
    of_file.trust(anchors.clone());
    let look = || {
        authority.reload(&ca).unwrap();
        anchors.reload(&ca.join(CERTIFICATE_FILE)).unwrap();
    };

    let rotated = Authority::rotate_in(&ca, HOUR).unwrap();
    // Who knows both roots, so that only the other side can refuse.
    let trusts_all = |identity: &Identity| identity.trust(rotated.anchors());
    let new_agent = identity(&rotated, "redis");
    trusts_all(&old_agent);
    look();
    for hub in [&of_authority, &of_file] {
        assert_eq!(hub.trusts(), 2);
        assert!(mutual(hub, &old_agent).await && mutual(hub, &new_agent).await);
    }
    Authority::retire_in(&ca, false).unwrap();
    look();
    for hub in [&of_authority, &of_file] {
        assert!(!mutual(hub, &old_agent).await && mutual(hub, &new_agent).await);
        // The old root is still in the files.
        hub.reload(&own).unwrap();
        assert!(!mutual(hub, &old_agent).await && mutual(hub, &new_agent).await);
        assert_eq!(hub.trusts(), 1);
    }
}

#[test]
fn who_has_signed_a_certificate_is_told_by_its_signature_and_not_by_names() {
    let authority = Authority::create().unwrap();
    let old_pin = authority.pin();
    let signed =
        |authority: &Authority| authority.issue(&module("redis"), &[], HOUR).unwrap().chain;
    let old = signed(&authority);
    let old_state = authority.state();
    authority.rotate(HOUR).unwrap();
    let (new, anchors) = (signed(&authority), authority.anchors());
    assert_eq!(anchors.signer(&old), Signer::Root(old_pin.clone()));
    assert_eq!(anchors.signer(&new), Signer::Root(authority.pin()));
    assert_eq!(anchors.oldest(), Some(old_pin));

    // Who has the old key makes an authority below it that is called like the new one.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let name = name_of(authority.state().issuer.key());
    let mut params = root_params(&name);
    set_lifetime(&mut params, HOUR);
    let below = params
        .signed_by(&key, &old_state.issuer)
        .unwrap()
        .der()
        .clone();
    let forger = Authority::of(State::assemble(below, Vec::new(), key).unwrap());
    let forged = signed(&forger);
    assert_eq!(anchors.signer(&forged), Signer::Below);
    assert_eq!(anchors.signer(&forged[..1]), Signer::Nobody);

    // A replica that has not seen the rotation yet.
    let behind = Authority::of(
        State::assemble(
            old_state.root.clone(),
            Vec::new(),
            KeyPair::from_pem(&old_state.key_pem()).unwrap(),
        )
        .unwrap(),
    );
    assert_eq!(behind.anchors().signer(&new), Signer::Below);
    let stranger = Authority::create().unwrap();
    assert_eq!(stranger.anchors().signer(&new), Signer::Nobody);
    assert_eq!(anchors.signer(&[]), Signer::Nobody);
}

#[tokio::test]
async fn an_authority_in_a_folder_is_rotated_and_retired_and_who_follows_it_learns_both() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let followed = Authority::open_or_create(directory).unwrap();
    let (first, old_hub) = (followed.pin(), identity(&followed, "hub"));
    assert!(!followed.reload(directory).unwrap());
    let rotated = Authority::rotate_in(directory, HOUR).unwrap();
    assert!(followed.reload(directory).unwrap());
    assert_eq!(followed.pin(), rotated.pin());
    assert_eq!(followed.certificates().len(), 2);
    assert!(matches!(
        Authority::rotate_in(directory, HOUR),
        Err(Error::Overlap)
    ));
    let mode = fs::metadata(directory.join(KEY_FILE))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    Authority::retire_in(directory, false).unwrap();
    assert!(followed.reload(directory).unwrap());
    assert_eq!(followed.certificates().len(), 1);
    let config = old_hub.client_config_for(module("hub"));
    let hub = identity(&followed, "hub");
    assert!(agree(&hub, config.clone(), ClientAuth::None).await);

    Authority::retire_in(directory, true).unwrap();
    assert!(followed.reload(directory).unwrap());
    let hub = identity(&followed, "hub");
    assert!(
        !agree(&hub, config, ClientAuth::None).await,
        "a key in wrong hands proves nothing"
    );
    assert_ne!(followed.pin(), first);
}

#[test]
fn a_rotation_that_is_cut_off_leaves_the_authority_of_before_or_of_after() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let before = Authority::open_or_create(directory).unwrap();
    let certificate = fs::read(directory.join(CERTIFICATE_FILE)).unwrap();
    let key = fs::read(directory.join(KEY_FILE)).unwrap();
    let after = Authority::rotate_in(directory, HOUR).unwrap();
    let next = fs::read(directory.join(CERTIFICATE_FILE)).unwrap();

    // The key was written, its certificates were not put into their place.
    fs::write(directory.join(NEXT_FILE), next).unwrap();
    fs::write(directory.join(CERTIFICATE_FILE), certificate).unwrap();
    let opened = Authority::open_or_create(directory).unwrap();
    assert_eq!(
        (opened.pin(), opened.certificates().len()),
        (after.pin(), 2)
    );
    // The key was not written.
    fs::write(directory.join(KEY_FILE), key).unwrap();
    let opened = Authority::open_or_create(directory).unwrap();
    assert_eq!(
        (opened.pin(), opened.certificates().len()),
        (before.pin(), 1)
    );
}

#[tokio::test]
async fn an_identity_that_the_authority_renews_is_of_the_new_key_at_once() {
    let authority = Authority::create().unwrap();
    let hub = identity(&authority, "hub");
    let (id, drain) = (module("hub"), Drain::new());
    let renewed = async {
        authority.rotate(HOUR).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while hub.pin() != Some(authority.pin()) {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = authority.renew(&hub, &id, &[], HOUR, &drain) => unreachable!("it does not end by itself"),
        () = renewed => {}
    }
    assert_eq!(hub.trusts(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_folder_learns_of_a_rotation_by_itself_and_keeps_what_it_has_when_the_files_are_broken()
 {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let followed = Authority::open_or_create(directory).unwrap();
    let anchors = Anchors::from_file(&directory.join(CERTIFICATE_FILE)).unwrap();
    let (file, drain) = (directory.join(CERTIFICATE_FILE), Drain::new());
    let following = async {
        tokio::join!(
            followed.follow(directory, &drain),
            anchors.follow(&file, &drain)
        );
    };
    let told = async {
        let mut replaced = followed.replaced();
        let rotated = Authority::rotate_in(directory, HOUR).unwrap();
        replaced.changed().await.unwrap();
        assert_eq!(followed.pin(), rotated.pin());
        while anchors.trusted(SystemTime::now()).len() != 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        fs::write(&file, "nonsense").unwrap();
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert_eq!(followed.pin(), rotated.pin());
        assert_eq!(anchors.trusted(SystemTime::now()).len(), 2);
        drain.begin();
    };
    tokio::join!(following, told);
}
