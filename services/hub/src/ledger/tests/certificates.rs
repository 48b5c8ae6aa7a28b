//! What is remembered of certificates, and what ends them.

use super::*;
use crate::accounts::Shown;

pub(super) fn issued(leaf: &[u8], signer: &str) -> enrol::Issued {
    enrol::Issued {
        leaf: leaf.into(),
        expire_us: i64::MAX,
        signer: signer.into(),
    }
}

fn asked(with: &[u8], anchor: &str) -> enrol::Asked {
    enrol::Asked {
        fingerprint: enrol::fingerprint(with),
        anchor: anchor.into(),
        shown: None,
        audiences: Vec::new(),
    }
}

/// One by a join token, and others each in a session of the one before; who has signed each.
async fn renewed(store: &Store, chain: &[(&'static [u8], &'static str)]) {
    let mut before: Option<enrol::Asked> = None;
    for (leaf, signer) in chain.iter().copied() {
        certify(store, leaf, signer, before.take()).await.unwrap();
        before = Some(asked(leaf, signer));
    }
}

async fn certify(
    store: &Store,
    leaf: &'static [u8],
    signer: &'static str,
    asked: Option<enrol::Asked>,
) -> Result<(), Error> {
    store
        .transact("certify", move |conn| {
            enrol::certified(conn, "c1", &issued(leaf, signer), asked.as_ref())
        })
        .await
}

async fn good(store: &Store, leaf: &'static [u8]) -> bool {
    let admitted = store.read("admit", move |conn| {
        enrol::admitted(conn, "c1", &enrol::fingerprint(leaf))
    });
    match admitted.await {
        Ok(known) => known.is_some(),
        Err(Error::CertificateRevoked(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn nothing_is_issued_in_a_session_whose_certificate_or_agent_another_replica_has_revoked() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        let leaf: &'static [u8] = b"not parsed, so without a serial number";
        certify(store, leaf, "k1", None).await.unwrap();
        store
            .transact("revoke", |conn| agents::revoke_certificate(conn, "c1", ""))
            .await
            .unwrap();
        let refused = certify(store, b"next", "k1", Some(asked(leaf, "k1"))).await;
        assert!(matches!(refused, Err(Error::CertificateRevoked(_))));
        let refused = certify(store, b"next", "k1", Some(asked(b"unknown", "k1"))).await;
        assert!(matches!(refused, Err(Error::CertificateRevoked(_))));
        assert!(!good(store, b"next").await);

        certify(store, b"again", "k1", None).await.unwrap();
        store
            .transact("revoke", |conn| agents::revoke(conn, "c1"))
            .await
            .unwrap();
        let refused = certify(store, b"next", "k1", Some(asked(b"again", "k1"))).await;
        assert!(matches!(refused, Err(Error::Revoked(_))));
    }
}

#[tokio::test]
async fn what_was_got_with_a_certificate_is_revoked_with_it() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        let authority = upm_mesh::Authority::create().unwrap();
        let id = upm_mesh::SpiffeId::agent("c1").unwrap();
        let life = std::time::Duration::from_secs(60);
        let stolen = authority.issue(&id, &[], life).unwrap().chain[0].to_vec();
        let serial = upm_mesh::identity::serial_of(&stolen).unwrap();
        let stolen: &'static [u8] = stolen.leak();
        renewed(
            store,
            &[
                (b"first", "k1"),
                (stolen, "k1"),
                (b"third", "k1"),
                (b"fourth", "k1"),
            ],
        )
        .await;
        store
            .transact("revoke", move |conn| {
                agents::revoke_certificate(conn, "c1", &serial)
            })
            .await
            .unwrap();
        let mut left = Vec::new();
        for leaf in [b"first", stolen, b"third", b"fourth"] {
            left.push(good(store, leaf).await);
        }
        assert_eq!(left, [true, false, false, false]);
    }
}

#[tokio::test]
async fn certificates_that_go_back_to_a_key_in_wrong_hands_end_whoever_has_signed_them() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        // The first is of the old key, what came after it is of the new one.
        renewed(
            store,
            &[(b"old", "k1"), (b"by it", "k2"), (b"by that", "k2")],
        )
        .await;
        certify(store, b"enrolled since", "k2", None).await.unwrap();
        certify(
            store,
            b"and renewed",
            "k2",
            Some(asked(b"enrolled since", "k2")),
        )
        .await
        .unwrap();
        let forged = issued(b"of before the store was set back", "k1");
        store
            .transact("recover", move |conn| enrol::recovered(conn, "c1", &forged))
            .await
            .unwrap();
        let given_up = || store.transact("give up", |conn| enrol::give_up(conn, "k2"));
        assert_eq!(given_up().await.unwrap(), 4);
        assert_eq!(given_up().await.unwrap(), 0);
        for leaf in [
            &b"old"[..],
            b"by it",
            b"by that",
            b"of before the store was set back",
        ] {
            assert!(!good(store, leaf).await, "{leaf:?}");
        }
        assert!(good(store, b"enrolled since").await && good(store, b"and renewed").await);
    }
}

#[tokio::test]
async fn a_renewed_certificate_does_not_pin_an_account_where_none_is_pinned() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        renewed(store, &[(b"first", "k1"), (b"second", "k1")]).await;
        let shown = Shown::of("https://thief".into(), "{}".into(), "token".into());
        let with = enrol::Asked {
            shown,
            ..asked(b"second", "k1")
        };
        certify(store, b"third", "k1", Some(with)).await.unwrap();
        let row = store
            .read("agent", |conn| AgentRow::read(conn, "c1"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.pinned(), None);
        assert!(
            good(store, b"third").await,
            "the renewal itself is not hindered"
        );
    }
}
