use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};
use x509_parser::prelude::FromDer as _;

use super::*;

fn module(name: &str) -> SpiffeId {
    SpiffeId::module(name).expect("an id")
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn ids_of_other_domains_and_shapes_are_refused() {
    for text in [
        "spiffe://other/module/redis",
        "spiffe://upm/module",
        "spiffe://upm/module/",
        "spiffe://upm/module/../agent/x",
        "spiffe://upm/module/a b",
        "spiffe://upm/module/redis?x",
        "https://upm/module/redis",
        "spiffe://upm//redis",
    ] {
        assert!(text.parse::<SpiffeId>().is_err(), "{text}");
    }
    assert!(SpiffeId::module("a/b").is_err());
    assert_eq!(module("redis").as_str(), "spiffe://upm/module/redis");
    assert_eq!(module("redis").module_name(), Some("redis"));
    assert_eq!(module("redis").agent_id(), None);
    let unit = SpiffeId::unit("demo", "redis-0").expect("an id");
    assert_eq!((unit.module_name(), unit.agent_id()), (None, None));
    assert!(
        "spiffe://upm/module/redis/more"
            .parse::<SpiffeId>()
            .expect("an id")
            .module_name()
            .is_none()
    );
}

#[test]
fn an_authority_is_the_same_after_it_is_opened_again_and_its_key_is_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Authority::open_or_create(directory.path()).expect("made");
    let again = Authority::open_or_create(directory.path()).expect("opened");
    assert_eq!(first.pin(), again.pin());
    assert_eq!(first.certificates(), again.certificates());
    let key = directory.path().join("ca.key");
    assert_eq!(
        std::fs::metadata(&key)
            .expect("the key")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let refused = Authority::open_or_create(directory.path()).expect_err("exposed");
    assert!(matches!(refused, Error::KeyExposed(_)));
}

#[test]
fn a_signing_request_gives_its_key_and_nothing_else() {
    let authority = Authority::create().expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let mut wished = CertificateParams::new(vec!["gateway.example".to_owned()]).expect("names");
    wished.subject_alt_names.push(SanType::URI(
        "spiffe://upm/module/auth".try_into().expect("a URI"),
    ));
    wished.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = wished.serialize_request(&key).expect("a request");
    let agent = SpiffeId::agent("a-1").expect("an id");
    let chain = authority
        .issue_csr(csr.der(), &agent, HOUR)
        .expect("signed");
    assert_eq!(
        SpiffeId::of_certificate(&chain[0]).expect("parsed"),
        Some(agent)
    );
    assert_eq!(chain[1], authority.certificates()[0]);
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&chain[0]).expect("parsed");
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().expect("one").expect("some");
    assert_eq!(names.value.general_names.len(), 1);

    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let csr = CertificateParams::default()
        .serialize_request(&other)
        .expect("a request");
    assert!(authority.issue_csr(csr.der(), &module("x"), HOUR).is_err());
    assert!(authority.issue_csr(b"garbage", &module("x"), HOUR).is_err());
    let mut forged = CertificateParams::default()
        .serialize_request(&key)
        .expect("a request")
        .der()
        .to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(authority.issue_csr(&forged, &module("x"), HOUR).is_err());
}

#[test]
fn a_certificate_with_two_uris_names_nobody() {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    for uri in ["spiffe://upm/module/a", "spiffe://upm/module/b"] {
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().expect("a URI")));
    }
    let certificate = params.self_signed(&key).expect("signed");
    assert!(SpiffeId::of_certificate(certificate.der()).is_err());
}

#[test]
fn an_identity_in_files_is_read_replaced_and_survives_bad_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::create().expect("an authority");
    let issue = |name| {
        authority
            .issue(&module(name), &["localhost", "127.0.0.1"], HOUR)
            .expect("issued")
    };
    issue("redis")
        .write(directory.path(), &authority.certificates())
        .expect("written");
    let key = directory.path().join("tls.key");
    assert_eq!(
        std::fs::metadata(&key)
            .expect("the key")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let identity = Identity::from_directory(directory.path()).expect("read");
    assert_eq!(identity.spiffe_id(), Some(module("redis")));

    issue("user")
        .write(directory.path(), &authority.certificates())
        .expect("written");
    identity.reload(directory.path()).expect("read again");
    assert_eq!(identity.spiffe_id(), Some(module("user")));

    std::fs::write(directory.path().join("tls.crt"), issue("auth").chain_pem()).expect("written");
    assert!(
        identity.reload(directory.path()).is_err(),
        "a certificate of another key"
    );
    assert_eq!(identity.spiffe_id(), Some(module("user")));
    let printed = format!("{identity:?} {:?} {authority:?}", issue("x"));
    assert!(!printed.to_lowercase().contains("private"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_short_certificate_is_renewed_before_it_ends() {
    let authority = Authority::create().expect("an authority");
    let issued = authority
        .issue(&module("redis"), &[], HOUR)
        .expect("issued");
    let identity = Identity::issued(issued, &authority.certificates()).expect("an identity");
    let leaf = || format!("{:?}", identity.leaf());
    let first = leaf();
    let drain = crate::Drain::new();
    let id = module("redis");
    tokio::select! {
        () = authority.renew(&identity, &id, &[], HOUR, &drain) => unreachable!("it does not end by itself"),
        () = tokio::time::sleep(HOUR * 3 / 4) => {}
    }
    assert_ne!(first, leaf());
}
