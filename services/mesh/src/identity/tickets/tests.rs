use std::sync::Arc;

use rustls::HandshakeKind;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{Authority, ClientAuth, Identity, SpiffeId};

fn tickets(secret: u8) -> Tickets {
    Tickets::of(Arc::new(ArcSwap::from_pointee([secret; 32])))
}

fn identity(authority: &Authority, name: &str) -> Identity {
    let id = SpiffeId::module(name).unwrap();
    let issued = authority
        .issue(&id, &[], Duration::from_secs(3600))
        .unwrap();
    Identity::issued(issued, &authority.certificates()).unwrap()
}

/// What a connection was: its kind, and the certificates that the server saw.
async fn connected(
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
) -> (HandshakeKind, Vec<CertificateDer<'static>>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let accept = async {
        let mut stream = TlsAcceptor::from(server.clone())
            .accept(ours)
            .await
            .unwrap();
        // Tickets come behind the handshake.
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
        (session.handshake_kind().unwrap(), chain)
    };
    let connect = async {
        let name = ServerName::try_from("hub").unwrap();
        let connector = TlsConnector::from(client.clone());
        let mut stream = connector.connect(name, theirs).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    };
    tokio::join!(accept, connect).0
}

#[tokio::test]
async fn who_comes_back_resumes_with_its_certificates_also_at_a_server_that_has_restarted() {
    let authority = Authority::create().unwrap();
    let server = |authority: &Authority| {
        identity(authority, "hub")
            .server_config_with(ClientAuth::Optional, Some(Arc::new(authority.tickets())))
    };
    let first = server(&authority);
    let hub = SpiffeId::module("hub").unwrap();
    let client = identity(&authority, "redis").resuming_client_config_for(hub);
    let (kind, full) = connected(&first, &client).await;
    assert_eq!((kind, full.len()), (HandshakeKind::Full, 2));
    assert_eq!(
        connected(&first, &client).await,
        (HandshakeKind::Resumed, full.clone())
    );
    let restarted = server(&authority);
    assert_eq!(
        connected(&restarted, &client).await,
        (HandshakeKind::Resumed, full)
    );
}

#[tokio::test]
async fn a_certificate_that_has_ended_or_lost_its_root_is_not_good_for_resuming() {
    let authority = Authority::create().unwrap();
    let server = identity(&authority, "hub");
    let leaf = identity(&authority, "redis").leaf().unwrap();
    let chain = [leaf, authority.certificates().remove(0)];
    let in_hours = |hours: u64| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UnixTime::since_unix_epoch(since + Duration::from_secs(3600 * hours))
    };
    assert!(server.verify_resumed(&chain, in_hours(0)).is_ok());
    assert!(server.verify_resumed(&chain, in_hours(2)).is_err());
    let other = Authority::create().unwrap();
    let elsewhere = identity(&other, "hub");
    assert!(elsewhere.verify_resumed(&chain, in_hours(0)).is_err());
    // Without a certificate there is nothing to verify: such a client is nobody.
    assert!(server.verify_resumed(&[], in_hours(0)).is_ok());
}

#[test]
fn another_server_with_the_same_secret_opens_a_ticket_and_one_with_another_does_not() {
    let sealed = tickets(1).seal(7, b"session").unwrap();
    assert_eq!(
        tickets(1).open(7, &sealed).as_deref(),
        Some(&b"session"[..])
    );
    assert_eq!(tickets(2).open(7, &sealed), None);
}

#[test]
fn a_ticket_opens_in_its_turn_and_the_next_and_not_later() {
    let tickets = tickets(1);
    let sealed = tickets.seal(7, b"session").unwrap();
    assert!(tickets.open(8, &sealed).is_some());
    assert_eq!(tickets.open(9, &sealed), None);
    assert_eq!(tickets.open(6, &sealed), None);
}

#[test]
fn a_ticket_that_was_changed_or_cut_does_not_open() {
    let tickets = tickets(1);
    let sealed = tickets.seal(7, b"session").unwrap();
    for at in 0..sealed.len() {
        let mut other = sealed.clone();
        other[at] ^= 1;
        assert_eq!(tickets.open(7, &other), None, "byte {at}");
        assert_eq!(tickets.open(7, &sealed[..at]), None, "first {at} bytes");
    }
}
