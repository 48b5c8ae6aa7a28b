//! An agent that was away for longer than its certificate lived comes back by its service account. The API server is played: its keys are
//! the test's, its tokens have the format of real ones; `on_api_server` shows the same with real ones.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use serde_json::{Value, json};

use upm_proto::hub::v1::{agent_frame, hub_frame};

use super::{
    identity::{hear, introduce, say},
    joined::{Joined, joined_with_account},
    *,
};
use crate::hub::{
    accounts::{Accounts, Issuer},
    credential::Credential,
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SUBJECT: &str = "system:serviceaccount:upm-system:upm-agent";

/// A cluster that issues tokens of service accounts.
pub(super) struct Cluster {
    key: KeyPair,
    kid: String,
    issuer: watch::Sender<Option<Issuer>>,
    token_file: PathBuf,
}

impl Cluster {
    pub(super) fn new(folder: &tempfile::TempDir, kid: &str) -> Self {
        let cluster = Self {
            key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            kid: kid.into(),
            issuer: watch::Sender::new(None),
            token_file: folder.path().join(format!("account-{kid}")),
        };
        cluster.publish();
        cluster
    }

    fn publish(&self) {
        self.publish_as(self, self.jwks());
    }

    /// Signs as another one, and says that these are the keys.
    fn publish_as(&self, signer: &Self, jwks: String) {
        std::fs::write(&self.token_file, signer.token("sub", json!(SUBJECT))).unwrap();
        self.issuer.send_replace(Some(Issuer {
            issuer: ISSUER.into(),
            jwks,
        }));
    }

    /// Its key and another one's.
    fn with_key_of(&self, other: &Self) -> String {
        let keys = [self.jwks(), other.jwks()].map(|set| {
            let set: Value = serde_json::from_str(&set).unwrap();
            set["keys"][0].clone()
        });
        json!({"keys": keys}).to_string()
    }

    fn jwks(&self) -> String {
        let point = self.key.public_key_raw();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256",
            "x": part(1..33), "y": part(33..65),
        }]})
        .to_string()
    }

    /// A token as it should be but for one claim.
    fn token(&self, name: &str, value: Value) -> String {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "aud": ["upm-hub"], "iss": ISSUER, "sub": SUBJECT, "exp": now + 3600, "iat": now, "nbf": now, "jti": "6c",
            "kubernetes.io": {"namespace": "upm-system", "serviceaccount": {"name": "upm-agent", "uid": "u"}},
        });
        claims[name] = value;
        let header = json!({"alg": "ES256", "kid": self.kid});
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fixed(&signature)))
    }

    pub(super) fn accounts(&self) -> Accounts {
        Accounts::new(self.issuer.subscribe(), self.token_file.clone())
    }
}

/// ASN.1 with two integers, as JWS has them: 32 bytes each.
fn fixed(signature: &[u8]) -> Vec<u8> {
    let mut rest = &signature[2..];
    let mut both = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let digits = &number[number.len().saturating_sub(32)..];
        both.extend(std::iter::repeat_n(0, 32 - digits.len()));
        both.extend_from_slice(digits);
        rest = after;
    }
    both
}

/// What is kept when the certificate has ended: the same but for its time.
pub(super) fn ended(authority: &mesh::Authority, kept: &Kept) -> Kept {
    let proven = kept.proven.clone().unwrap();
    let id = SpiffeId::agent(&proven.agent_id().unwrap()).unwrap();
    let issued = authority.issue(&id, &[], Duration::ZERO).unwrap();
    Kept {
        proven: Some(Credential {
            key: issued.key.secret_der().to_vec(),
            chain: issued.chain.iter().map(|c| c.to_vec()).collect(),
            ..proven
        }),
        candidate: None,
        ..kept.clone()
    }
}

pub(super) fn with_account(
    disk: &Disk,
    hub: &HubSide,
    pin: &str,
    token: PathBuf,
    cluster: &Cluster,
) -> AgentSide {
    let place = Place {
        accounts: Some(cluster.accounts()),
        ..place(&[&hub.address], pin, token)
    };
    run(disk, place)
}

/// Why a token does not let in.
pub(super) async fn asked(hub: &HubSide, pin: &str, agent: &str, token: &str) -> Option<String> {
    asked_with(hub, pin, agent, token, pb::EnrollRequest::default()).await
}

async fn asked_with(
    hub: &HubSide,
    pin: &str,
    agent: &str,
    token: &str,
    with: pb::EnrollRequest,
) -> Option<String> {
    let id = SpiffeId::module("hub").unwrap();
    let config = mesh::identity::pinned_client_config(pin, id);
    let uri = format!("https://{}", hub.address).parse().unwrap();
    let mut client = AgentServiceClient::new(mesh::client::connect_with(vec![uri], config));
    let pending = crate::hub::credential::fresh().unwrap();
    let request = pb::EnrollRequest {
        agent_id: agent.into(),
        service_account_token: token.into(),
        csr: pending.csr.into(),
        cluster_uid: "cluster".into(),
        ..with
    };
    match client.enroll(request).await {
        Ok(answer) => {
            assert_eq!(answer.into_inner().agent_id, agent);
            None
        }
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            mesh::status::reason(&status)
        }
    }
}

#[tokio::test]
async fn an_agent_whose_certificate_has_ended_comes_back_by_its_service_account() {
    let (joined, cluster) = joined_with_account("a").await;
    let Joined {
        authority,
        mut hub,
        pin,
        file,
        disk,
        one,
        folder: _folder,
    } = joined;
    one.stop().await;
    let kept = disk.kept.lock().unwrap().clone();
    assert!(kept.pinned.is_some(), "the hub was shown the account");
    *disk.kept.lock().unwrap() = ended(&authority, &kept);
    std::fs::remove_file(&file).unwrap();

    // The pin of the join command is not even needed: the roots are kept.
    let mut one = with_account(&disk, &hub, "", file.clone(), &cluster);
    one.reason("CONNECTED").await;
    assert_eq!(one.report.borrow().agent_id, "c1");
    hub.apply(1, 1).await;
    hub.settled(1).await;
    one.stop().await;

    // A revoked agent does not come back this way, and says so.
    hub.revoke("").await.unwrap();
    let kept = disk.kept.lock().unwrap().clone();
    *disk.kept.lock().unwrap() = ended(&authority, &kept);
    let mut one = with_account(&disk, &hub, &pin, file, &cluster);
    one.reason("AGENT_REVOKED").await;
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn a_certificate_that_was_revoked_alone_is_replaced_by_the_service_account() {
    let (joined, _cluster) = joined_with_account("a").await;
    let Joined {
        mut hub,
        one,
        folder: _folder,
        ..
    } = joined;
    let before = hub.shown().await;
    hub.revoke(&before.certificate_serial).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE * 2;
    loop {
        let now = hub.shown().await;
        let serial = &now.certificate_serial;
        if !serial.is_empty() && *serial != before.certificate_serial {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{now:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn only_a_token_of_a_pinned_key_is_told_more_than_a_stranger() {
    let (joined, cluster) = joined_with_account("a").await;
    let Joined {
        folder,
        mut hub,
        pin,
        one,
        ..
    } = joined;
    // Another one that has shown nothing when it enrolled.
    let (token, _) = hub.token_of("c2", true).await;
    let file = folder.path().join("c2");
    std::fs::write(&file, token).unwrap();
    let place = place(&[&hub.address], &pin, file);
    drop(
        Hub::new(place, Arc::new(Disk::default()))
            .dial()
            .await
            .unwrap(),
    );

    let good = cluster.token("jti", json!("1"));
    assert_eq!(asked(&hub, &pin, "c1", &good).await, None);
    let other = Cluster::new(&folder, "b");
    let same_name = Cluster {
        kid: "a".into(),
        ..Cluster::new(&folder, "c")
    };
    let elsewhere = json!("https://elsewhere");
    for (agent, token, reason) in [
        (
            "c1",
            other.token("iss", elsewhere.clone()),
            "SERVICE_ACCOUNT_NOT_PINNED",
        ),
        (
            "c1",
            other.token("jti", json!("1")),
            "SERVICE_ACCOUNT_NOT_PINNED",
        ),
        (
            "c1",
            same_name.token("jti", json!("1")),
            "SERVICE_ACCOUNT_NOT_PINNED",
        ),
        (
            "c1",
            cluster.token("iss", elsewhere),
            "SERVICE_ACCOUNT_NOT_PINNED",
        ),
        (
            "c1",
            cluster.token("aud", json!(["upm"])),
            "SERVICE_ACCOUNT_AUDIENCE_MISMATCH",
        ),
        (
            "c1",
            cluster.token("sub", json!("system:serviceaccount:upm-system:default")),
            "SERVICE_ACCOUNT_SUBJECT_MISMATCH",
        ),
        (
            "c1",
            cluster.token("exp", json!(1_000_000_000)),
            "SERVICE_ACCOUNT_TOKEN_EXPIRED",
        ),
        ("c1", "no token".into(), "SERVICE_ACCOUNT_NOT_PINNED"),
        ("c2", good.clone(), "SERVICE_ACCOUNT_NOT_PINNED"),
        ("c3", good.clone(), "SERVICE_ACCOUNT_NOT_PINNED"),
        ("c1", String::new(), "JOIN_TOKEN_INVALID"),
        ("", good.clone(), "JOIN_TOKEN_INVALID"),
    ] {
        let said = asked(&hub, &pin, agent, &token).await;
        assert_eq!(said.as_deref(), Some(reason));
    }
    hub.revoke("").await.unwrap();
    let said = asked(&hub, &pin, "c1", &good).await;
    assert_eq!(said.as_deref(), Some("AGENT_REVOKED"));
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn new_keys_of_the_cluster_are_pinned_in_the_session_and_nowhere_else() {
    let (joined, mut cluster) = joined_with_account("a").await;
    let Joined {
        folder,
        mut hub,
        pin,
        one,
        ..
    } = joined;
    let old = cluster.token("jti", json!("1"));
    let other = Cluster::new(&folder, "b");

    // Who only has a token cannot bring keys of its own.
    let with = pb::EnrollRequest {
        service_account_issuer: ISSUER.into(),
        service_account_jwks: other.jwks(),
        ..pb::EnrollRequest::default()
    };
    assert_eq!(asked_with(&hub, &pin, "c1", &old, with).await, None);
    let theirs = other.token("jti", json!("1"));
    let said = asked(&hub, &pin, "c1", &theirs).await;
    assert_eq!(said.as_deref(), Some("SERVICE_ACCOUNT_NOT_PINNED"));

    // The API server signs with another key. The agent looks every 20 s, and when it has connected.
    cluster.key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    cluster.kid = "next".into();
    cluster.publish();
    let new = cluster.token("jti", json!("1"));
    let said = asked(&hub, &pin, "c1", &new).await;
    assert_eq!(said.as_deref(), Some("SERVICE_ACCOUNT_NOT_PINNED"));
    hub.disconnect().await;
    let deadline = tokio::time::Instant::now() + PATIENCE * 3;
    while asked(&hub, &pin, "c1", &new).await.is_some() {
        assert!(tokio::time::Instant::now() < deadline, "not pinned");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = asked(&hub, &pin, "c1", &old).await;
    assert_eq!(said.as_deref(), Some("SERVICE_ACCOUNT_NOT_PINNED"));
    one.stop().await;
    hub.stop().await;
}

/// Waits until a token lets in, or is refused with a reason.
async fn until_asked(hub: &HubSide, pin: &str, token: &str, wanted: Option<&str>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let said = asked(hub, pin, "c1", token).await;
        if said.as_deref() == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{said:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_agent_outlives_a_rotation_of_its_clusters_keys_with_a_restart_at_each_step() {
    let (joined, cluster) = joined_with_account("a").await;
    let Joined {
        folder,
        hub,
        pin,
        file,
        disk,
        one,
        ..
    } = joined;
    one.stop().await;
    let next = Cluster::new(&folder, "b");
    let (old, new) = (
        cluster.token("jti", json!("1")),
        next.token("jti", json!("1")),
    );
    // The new key is published, then it signs, then the old one goes.
    cluster.publish_as(&cluster, cluster.with_key_of(&next));
    let one = with_account(&disk, &hub, &pin, file.clone(), &cluster);
    until_asked(&hub, &pin, &new, None).await;
    assert_eq!(asked(&hub, &pin, "c1", &old).await, None);
    one.stop().await;
    cluster.publish_as(&next, next.jwks());
    let one = with_account(&disk, &hub, &pin, file, &cluster);
    until_asked(&hub, &pin, &old, Some("SERVICE_ACCOUNT_NOT_PINNED")).await;
    assert_eq!(asked(&hub, &pin, "c1", &new).await, None);
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn who_steals_a_certificate_pins_no_account_of_its_own_in_the_session_that_it_opens() {
    let (joined, cluster) = joined_with_account("a").await;
    let Joined {
        folder,
        hub,
        pin,
        disk,
        one,
        ..
    } = joined;
    one.stop().await;
    let none = folder.path().join("no-token-any-more");
    let mut thief = Hub::new(place(&[&hub.address], "", none), Arc::new(disk.clone()));
    let mut session = thief.dial().await.unwrap();
    introduce(&mut session, "cluster").await;
    let own = Cluster::new(&folder, "b");
    let (ours, theirs) = (
        cluster.token("jti", json!("1")),
        own.token("jti", json!("1")),
    );
    let over = cluster.token("exp", json!(1_000_000_000));
    for (jwks, token) in [
        (own.jwks(), &theirs),
        (cluster.with_key_of(&own), &theirs),
        (own.jwks(), &over),
    ] {
        let request = pb::CertRequest {
            csr: crate::hub::credential::fresh().unwrap().csr.into(),
            service_account_issuer: ISSUER.into(),
            service_account_jwks: jwks,
            service_account_token: token.clone(),
        };
        say(&session, agent_frame::Message::Csr(request)).await;
        // It is a renewal like any other, so the answer comes after what is pinned.
        hear(&mut session, |m| match m {
            hub_frame::Message::CertIssued(issued) => {
                (!issued.certificate_chain.is_empty()).then_some(())
            }
            _ => None,
        })
        .await;
        let said = asked(&hub, &pin, "c1", &theirs).await;
        assert_eq!(said.as_deref(), Some("SERVICE_ACCOUNT_NOT_PINNED"));
    }
    assert_eq!(asked(&hub, &pin, "c1", &ours).await, None);
    drop(session);
    hub.stop().await;
}
