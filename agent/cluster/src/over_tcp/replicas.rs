//! Two replicas of the hub on one MariaDB: each answers for agents of the other.

use upm_proto::hub::v1::{agent_frame, exec_in_unit_request::Part as In, hub_frame};

use super::{
    accounts::{Cluster, with_account},
    identity::{hear, introduce, say},
    *,
};
use crate::hub::credential;

struct Pair {
    one: HubSide,
    two: HubSide,
    _folder: tempfile::TempDir,
    agent: AgentSide,
}

/// What all replicas have in common: a store on MariaDB, a folder, the authority.
async fn shared() -> (String, tempfile::TempDir, Arc<mesh::Authority>) {
    let url = tokio::task::spawn_blocking(upm_store::testing::mariadb_url)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    (url, folder, Arc::new(mesh::Authority::create().unwrap()))
}

/// Two replicas, and an agent whose session is at the first.
async fn pair() -> Pair {
    let (url, folder, authority) = shared().await;
    let mut one = replica("one", &url, &authority, local().await).await;
    let two = replica("two", &url, &authority, local().await).await;
    let (token, pin) = one.token(true).await;
    let mut agent = agent(
        &Disk::default(),
        &one.address,
        &pin,
        token_file(&folder, &token),
    );
    agent.reason("CONNECTED").await;
    Pair {
        one,
        two,
        _folder: folder,
        agent,
    }
}

fn name() -> String {
    "agents/c1".into()
}

async fn shown(hub: &mut HubSide) -> pb::Agent {
    let request = pb::GetAgentRequest { name: name() };
    hub.admin.get_agent(request).await.unwrap().into_inner()
}

async fn until(hub: &mut HubSide, what: &str, is: impl Fn(&pb::Agent) -> bool) -> pb::Agent {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let agent = shown(hub).await;
        if is(&agent) {
            return agent;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waiting for {what}: {agent:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn log(pod: &str) -> pb::TailAgentLogRequest {
    pb::TailAgentLogRequest {
        name: name(),
        namespace: "p".into(),
        pod: pod.into(),
        tail_lines: 3,
        ..pb::TailAgentLogRequest::default()
    }
}

async fn lines(hub: &mut HubSide) -> Result<String, tonic::Status> {
    let mut parts = hub.admin.tail_agent_log(log("k0-0")).await?.into_inner();
    let mut text = Vec::new();
    while let Some(part) = parts.message().await? {
        text.extend_from_slice(&part.data);
    }
    Ok(String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_replica_asks_the_one_with_the_session_for_what_only_that_one_can_do() {
    let mut pair = pair().await;
    // what is written at one replica arrives over the session of the other
    pair.two.apply(1, 1).await;
    pair.two.settled(1).await;
    let seen = until(&mut pair.two, "a live view", |agent| {
        agent.state() == pb::AgentState::Connected && agent.replica == "one"
    })
    .await;
    let epoch = seen.session_epoch;
    assert!(epoch >= 1);

    let secret = pb::ReadSecretRequest {
        agent_id: "c1".into(),
        namespace: "p".into(),
        name: "s".into(),
        keys: vec!["default".into()],
    };
    let answer = pair.two.ledger.read_secret(secret.clone()).await.unwrap();
    assert_eq!(answer.into_inner().data["default"], "hunter2");
    let wanted = "k0-0 0\nk0-0 1\nk0-0 2\n";
    assert_eq!(lines(&mut pair.one).await.unwrap(), wanted);
    assert_eq!(lines(&mut pair.two).await.unwrap(), wanted);

    // commands and files go through the replica that was called, both ways
    let command = tunnels::Command::start(&pair.two.admin, tunnels::start("cat"))
        .await
        .unwrap();
    let (input, text) = (command.input, tunnels::random(1 << 20));
    let pump = async {
        for part in text.chunks(50_000) {
            let part = In::Stdin(part.to_vec().into());
            tunnels::say(&input, part).await;
        }
        tunnels::say(&input, In::StdinEnd(pb::StdinEnd {})).await;
    };
    let (ended, ()) = tokio::join!(tunnels::said(command.output), pump);
    let (out, err, code) = ended.unwrap();
    assert!(out == [text.as_slice(), b"bye"].concat() && err == text);
    assert_eq!(code, Some(7));
    let bytes = tunnels::random(5 << 20);
    tunnels::write(&pair.two.admin, "/data/a", &bytes)
        .await
        .unwrap();
    assert!(tunnels::read(&pair.two.admin, "/data/a").await.unwrap() == bytes);
    assert!(tunnels::read(&pair.one.admin, "/data/a").await.unwrap() == bytes);
    let missing = tunnels::read(&pair.two.admin, "/missing")
        .await
        .unwrap_err();
    assert_eq!(tunnels::reason(&missing), "FILE_NOT_FOUND");
    let hop = tonic::Request::new(tokio_stream::iter([pb::ExecInUnitRequest {
        part: Some(In::Start(tunnels::start("cat"))),
    }]));
    let hop = tunnels::hopped(hop);
    let refused = pair.two.admin.exec_in_unit(hop).await.unwrap_err();
    assert_eq!(tunnels::reason(&refused), "NOT_OWNER");

    // refusals are those of the replica with the session
    let prune = pb::ConfirmPruneKeysRequest {
        name: name(),
        keys: vec![key()],
    };
    let refused = pair.two.admin.confirm_prune_keys(prune).await.unwrap_err();
    assert_eq!(
        mesh::status::reason(&refused).as_deref(),
        Some("OBJECT_NOT_FOUND")
    );
    // a call that was passed on once is not passed on again
    let hop = tunnels::hopped(tonic::Request::new(secret));
    let refused = pair.two.ledger.read_secret(hop).await.unwrap_err();
    assert_eq!(mesh::status::reason(&refused).as_deref(), Some("NOT_OWNER"));

    // cut from the other replica, and back with a newer epoch
    let request = pb::DisconnectAgentRequest { name: name() };
    pair.two.admin.disconnect_agent(request).await.unwrap();
    until(&mut pair.two, "a new session", |agent| {
        agent.session_epoch > epoch && agent.state() == pb::AgentState::Connected
    })
    .await;
    let mut command = tunnels::Command::start(&pair.two.admin, tunnels::start("sleep"))
        .await
        .unwrap();
    pair.two.revoke("").await.unwrap();
    let revoked = tokio::time::Instant::now();
    let ended = command.output.message().await.unwrap_err();
    assert_eq!(tunnels::reason(&ended), "AGENT_REVOKED");
    let after = revoked.elapsed();
    // the other replica polls twice a second
    assert!(after < Duration::from_secs(2), "{after:?}");
    let cut = tokio::time::timeout(PATIENCE, pair.agent.report.wait_for(|r| !r.connected));
    assert!(cut.await.is_ok(), "the session was not cut");
    pair.agent.stop().await;
    pair.one.stop().await;
    pair.two.stop().await;
}

#[tokio::test]
async fn the_agents_of_a_replica_that_died_are_not_connected_and_come_to_another() {
    let (url, folder, authority) = shared().await;
    // a runtime of its own, so that it can end like a process that is killed: without a word
    let process = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (place, signer) = (url.clone(), authority.clone());
    let started =
        process.spawn(async move { replica("one", &place, &signer, local().await).await });
    let mut one = started.await.unwrap();
    let mut two = replica("two", &url, &authority, local().await).await;
    let (token, pin) = one.token(true).await;
    let disk = Disk::default();
    let file = token_file(&folder, &token);
    let mut first = agent(&disk, &one.address, &pin, file.clone());
    first.reason("CONNECTED").await;
    one.apply(1, 1).await;
    one.settled(1).await;
    until(&mut two, "a live view", |agent| {
        agent.state() == pb::AgentState::Connected && agent.replica == "one"
    })
    .await;

    process.shutdown_background();
    let dead = until(&mut two, "the end of the lease", |agent| {
        agent.state() == pb::AgentState::Disconnected
    })
    .await;
    assert_eq!(dead.replica, "one", "nobody noted the end of the session");
    let refused = lines(&mut two).await.unwrap_err();
    assert_eq!(
        mesh::status::reason(&refused).as_deref(),
        Some("AGENT_NOT_CONNECTED")
    );
    first.stop().await;

    let addresses = [one.address.as_str(), two.address.as_str()];
    let mut second = agent_of(&disk, &addresses, &pin, file);
    two.apply(1, 2).await;
    second.reason("CONNECTED").await;
    two.settled(2).await;
    assert_eq!(shown(&mut two).await.replica, "two");
    assert_eq!(lines(&mut two).await.unwrap().lines().count(), 3);
    second.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn revoking_one_certificate_at_a_replica_cuts_its_session_at_the_other_within_a_second() {
    let (url, folder, authority) = shared().await;
    let mut one = replica("one", &url, &authority, local().await).await;
    let mut two = replica("two", &url, &authority, local().await).await;
    let (token, pin) = one.token(true).await;
    let (disk, cluster) = (Disk::default(), Cluster::new(&folder, "a"));
    let file = token_file(&folder, &token);
    let mut agent = with_account(&disk, &one, &pin, file, &cluster);
    // What a machine that is busy with other tests needs says nothing of the hub: the best of some is looked at.
    let mut best = PATIENCE;
    for _ in 0..5 {
        let seen = until(&mut one, "a session", |agent| {
            !agent.certificate_serial.is_empty()
        })
        .await;
        agent.reason("CONNECTED").await;
        let began = tokio::time::Instant::now();
        two.revoke(&seen.certificate_serial).await.unwrap();
        let cut = agent.report.wait_for(|report| !report.connected);
        tokio::time::timeout(PATIENCE, cut).await.unwrap().unwrap();
        best = best.min(began.elapsed());
        // It comes back by its service account, with another certificate.
        until(&mut one, "another certificate", |agent| {
            let serial = &agent.certificate_serial;
            !serial.is_empty() && *serial != seen.certificate_serial
        })
        .await;
        if best < Duration::from_secs(1) {
            break;
        }
    }
    eprintln!("cut after {best:?}");
    assert!(best < Duration::from_secs(1));
    agent.stop().await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_one_replica_has_revoked_is_renewed_by_no_other_though_it_has_not_heard_of_it() {
    let (url, folder, authority) = shared().await;
    let deaf = |name: &str| upm_hub::Config {
        replica: name.into(),
        poll_ms: 3_600_000,
        ..upm_hub::Config::default()
    };
    let mut one = hub_of(deaf("one"), &url, &authority, local().await).await;
    let mut two = hub_of(deaf("two"), &url, &authority, local().await).await;
    for serial_alone in [true, false] {
        let (token, pin) = one.token(true).await;
        let place = place(&[&one.address], &pin, token_file(&folder, &token));
        let mut way = Hub::new(place, Arc::new(Disk::default()));
        let mut session = way.dial().await.unwrap();
        introduce(&mut session, "cluster").await;
        assert!(renews(&mut session, PATIENCE).await);
        let serial = shown(&mut one).await.certificate_serial;
        let revoked = if serial_alone { serial.as_str() } else { "" };
        two.revoke(revoked).await.unwrap();
        assert!(!renews(&mut session, Duration::from_secs(3)).await);
    }
    one.stop().await;
    two.stop().await;
}

/// Whether a session is given another certificate.
async fn renews(session: &mut crate::hub::Connection, patience: Duration) -> bool {
    let request = pb::CertRequest {
        csr: credential::fresh().unwrap().csr.into(),
        ..pb::CertRequest::default()
    };
    say(session, agent_frame::Message::Csr(request)).await;
    let issued = hear(session, |m| match m {
        hub_frame::Message::CertIssued(issued) => {
            (!issued.certificate_chain.is_empty()).then_some(())
        }
        _ => None,
    });
    tokio::time::timeout(patience, issued).await.is_ok()
}
