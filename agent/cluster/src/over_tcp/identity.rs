//! Who an agent is: certificates that are renewed in the session, revoked, resumed with tickets; and what an identity opens.

use prost::bytes::Bytes as Body;
use upm_proto::hub::v1::{agent_frame, hub_frame};

use super::{
    joined::{Joined, joined, joined_to},
    *,
};
use crate::hub::{Connection, credential::Credential};

/// A hub whose certificates are due for renewal as soon as they are issued: they live for a minute and begin five minutes ago.
fn hurried() -> upm_hub::Config {
    upm_hub::Config {
        certificate_seconds: 60,
        ..upm_hub::Config::default()
    }
}

/// Waits until what is kept is as asked.
async fn kept(disk: &Disk, what: &str, is: impl Fn(&Kept) -> bool) -> Kept {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let kept = disk.kept.lock().unwrap().clone();
        if is(&kept) {
            return kept;
        }
        assert!(tokio::time::Instant::now() < deadline, "waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn serial(credential: Option<&Credential>) -> String {
    mesh::identity::serial_of(&credential.unwrap().chain[0]).unwrap()
}

#[tokio::test]
async fn a_new_certificate_replaces_the_old_one_when_a_session_was_opened_with_it() {
    let Joined {
        mut hub,
        disk,
        one,
        folder: _folder,
        ..
    } = joined_to(hurried()).await;
    let first = kept(&disk, "a candidate", |kept| kept.candidate.is_some()).await;
    assert!(first.proven.is_some(), "the old one is kept");
    let epoch = hub.shown().await.session_epoch;
    assert_eq!(
        hub.shown().await.certificate_serial,
        serial(first.proven.as_ref()),
        "the session goes on with the old one"
    );

    hub.disconnect().await;
    let candidate = first.candidate.clone();
    kept(&disk, "the new one to be proven", |kept| {
        kept.proven == candidate
    })
    .await;
    let shown = hub.shown().await;
    assert!(shown.session_epoch > epoch);
    assert_eq!(shown.certificate_serial, serial(candidate.as_ref()));
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn a_new_certificate_that_is_not_accepted_leaves_the_old_one_in_use() {
    let Joined {
        mut hub,
        disk,
        one,
        folder: _folder,
        ..
    } = joined_to(hurried()).await;
    let first = kept(&disk, "a candidate", |kept| kept.candidate.is_some()).await;
    let epoch = hub.shown().await.session_epoch;
    // Its serial number is of no session: nobody is cut.
    hub.revoke(&serial(first.candidate.as_ref())).await.unwrap();
    assert_eq!(hub.shown().await.session_epoch, epoch);

    hub.disconnect().await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let shown = hub.shown().await;
        if shown.session_epoch > epoch && !shown.certificate_serial.is_empty() {
            assert_eq!(shown.certificate_serial, serial(first.proven.as_ref()));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn revoking_a_certificate_cuts_the_session_that_was_opened_with_it_and_its_ticket_opens_none()
{
    let Joined {
        mut hub,
        pin,
        file,
        disk,
        mut one,
        folder: _folder,
        ..
    } = joined().await;
    let serial = hub.shown().await.certificate_serial;
    let unknown = hub.revoke("00").await.unwrap_err();
    assert_eq!(
        mesh::status::reason(&unknown).as_deref(),
        Some("CERTIFICATE_NOT_FOUND")
    );

    let began = tokio::time::Instant::now();
    hub.revoke(&serial).await.unwrap();
    one.report.wait_for(|r| !r.connected).await.unwrap();
    eprintln!("cut after {:?}", began.elapsed());
    assert!(began.elapsed() < PATIENCE);
    one.reason("CERTIFICATE_REVOKED").await;
    one.stop().await;
    assert_eq!(
        hub.shown().await.state(),
        pb::AgentState::Disconnected,
        "the agent itself is not revoked"
    );

    // A process that has been here before comes with a ticket.
    let (token, _) = hub.token(true).await;
    std::fs::write(&file, token).unwrap();
    *disk.kept.lock().unwrap() = Kept::default();
    let addresses = [hub.address.as_str()];
    let mut way = Hub::new(place(&addresses, &pin, file), Arc::new(disk.clone()));
    for _ in 0..2 {
        drop(way.dial().await.unwrap());
    }
    hub.revoke("").await.unwrap();
    let refused = way.dial().await.unwrap_err();
    assert_eq!(refused.reason, "AGENT_REVOKED");
    hub.stop().await;
}

#[tokio::test]
async fn revoking_an_agent_ends_its_tunnels() {
    let Joined {
        mut hub,
        mut one,
        folder: _folder,
        ..
    } = joined().await;
    let log = pb::TailAgentLogRequest {
        name: "agents/c1".into(),
        namespace: "p".into(),
        pod: "k0-0".into(),
        tail_lines: 1,
        follow: true,
        ..pb::TailAgentLogRequest::default()
    };
    let mut parts = hub.admin.tail_agent_log(log).await.unwrap().into_inner();
    assert!(parts.message().await.unwrap().is_some());
    let began = tokio::time::Instant::now();
    hub.revoke("").await.unwrap();
    let end = tokio::time::timeout(PATIENCE, parts.message())
        .await
        .unwrap();
    eprintln!("tunnel ended after {:?}", began.elapsed());
    assert_eq!(
        mesh::status::reason(&end.unwrap_err()).as_deref(),
        Some("AGENT_REVOKED")
    );
    tokio::time::timeout(PATIENCE, one.report.wait_for(|r| !r.connected))
        .await
        .unwrap()
        .unwrap();
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn a_certificate_that_the_store_does_not_know_ends_when_it_says_and_can_be_revoked_like_any_other()
 {
    let Joined {
        authority,
        mut hub,
        disk,
        one,
        folder,
        ..
    } = joined().await;
    one.stop().await;
    // As if the store had been set back to before it was issued.
    let id = SpiffeId::agent("c1").unwrap();
    let life = Duration::from_secs(8);
    let issued = authority.issue(&id, &[], life).unwrap();
    {
        let mut kept = disk.kept.lock().unwrap();
        kept.candidate = None;
        let proven = kept.proven.as_mut().unwrap();
        proven.key = issued.key.secret_der().to_vec();
        proven.chain = issued.chain.iter().map(|c| c.to_vec()).collect();
    }
    let none = folder.path().join("no-token-any-more");
    let place = place(&[&hub.address], "", none);
    let mut way = Hub::new(place, Arc::new(disk.clone()));
    let mut session = way.dial().await.unwrap();
    introduce(&mut session, "cluster").await;
    let asked = hear(&mut session, |m| match m {
        hub_frame::Message::Drain(drain) => Some(drain.reason()),
        _ => None,
    });
    assert_eq!(asked.await, pb::drain::Reason::Certificate);
    drop(session);
    let proven = disk.kept.lock().unwrap().proven.clone();
    hub.revoke(&serial(proven.as_ref())).await.unwrap();
    hub.stop().await;
}

/// What an agent says first.
fn hello(cluster_uid: &str) -> agent_frame::Message {
    agent_frame::Message::Hello(pb::Hello {
        proto_min: 1,
        proto_max: 1,
        cluster_uid: cluster_uid.into(),
        windows: Some(pb::Windows::default()),
        ..pb::Hello::default()
    })
}

/// Introduces itself as a cluster, and is welcomed.
pub(super) async fn introduce(connection: &mut Connection, cluster_uid: &str) {
    say(connection, hello(cluster_uid)).await;
    hear(connection, |m| {
        matches!(m, hub_frame::Message::Welcome(_)).then_some(())
    })
    .await;
}

/// Why the hub ended a session.
pub(super) async fn end_of(connection: &mut Connection) -> tonic::Status {
    let end = async {
        loop {
            match connection.inbound.message().await {
                Ok(Some(_)) => {}
                Ok(None) => unreachable!("the hub says why"),
                Err(status) => break status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.unwrap()
}

pub(super) async fn say(connection: &Connection, message: agent_frame::Message) {
    let frame = pb::AgentFrame {
        message: Some(message),
        ..pb::AgentFrame::default()
    };
    connection.outbound.send(frame).await.unwrap();
}

/// The next frame that is asked for.
pub(super) async fn hear<T>(
    connection: &mut Connection,
    wanted: impl Fn(&hub_frame::Message) -> Option<T>,
) -> T {
    let heard = async {
        loop {
            let frame = connection.inbound.message().await.unwrap().unwrap();
            if let Some(found) = frame.message.as_ref().and_then(&wanted) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap()
}

#[tokio::test]
async fn an_agent_changes_its_own_ledger_only_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let mut ways = Vec::new();
    for id in ["c1", "c2"] {
        let (token, pin) = hub.token_of(id, true).await;
        let file = folder.path().join(id);
        std::fs::write(&file, token).unwrap();
        let place = Place {
            cluster_uid: id.into(),
            ..place(&[&hub.address], &pin, file)
        };
        ways.push(Hub::new(place, Arc::new(Disk::default())));
    }
    let mut victim = ways[0].dial().await.unwrap();
    let mut liar = ways[1].dial().await.unwrap();
    hub.apply_to("c1", 1, 1).await;
    hub.apply_to("c2", 2, 1).await;

    // It introduces itself as the other cluster.
    introduce(&mut victim, "c1").await;
    say(&liar, hello("c1")).await;
    let refused = end_of(&mut liar).await;
    assert_eq!(
        mesh::status::reason(&refused).as_deref(),
        Some("CLUSTER_UID_MISMATCH")
    );

    // It reports on the other's intent, under a key that both have.
    let mut liar = ways[1].dial().await.unwrap();
    introduce(&mut liar, "c2").await;
    for (seq, uid) in [(1, 1), (2, 2)] {
        let result = pb::ApplyResult {
            rev: 1,
            key: Some(key()),
            intent_uid: vec![uid; 16].into(),
            generation: 1,
            outcome: pb::Outcome::Rejected.into(),
            seq,
            ..pb::ApplyResult::default()
        };
        say(&liar, agent_frame::Message::Result(result)).await;
    }
    let update = pb::StatusUpdate {
        seq: 1,
        key: Some(key()),
        intent_uid: vec![1; 16].into(),
        intent_generation: 1,
        body: Some(pb::status_update::Body::Full(Body::from_static(
            br#"{"status":{}}"#,
        ))),
        ..pb::StatusUpdate::default()
    };
    let batch = pb::StatusBatch {
        updates: vec![update],
    };
    say(&liar, agent_frame::Message::Status(batch)).await;
    hear(&mut liar, |m| match m {
        hub_frame::Message::StatusAck(ack) if ack.upto_result_seq >= 2 => Some(()),
        _ => None,
    })
    .await;

    let untouched = hub.object().await.unwrap();
    assert!(untouched.result.is_none(), "{untouched:?}");
    assert!(untouched.status.is_none(), "{untouched:?}");
    let own = hub
        .ledger
        .get_object(pb::GetObjectRequest {
            agent_id: "c2".into(),
            key: Some(key()),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.result.unwrap().outcome(), pb::Outcome::Rejected);
    drop((victim, liar));
    hub.stop().await;
}
