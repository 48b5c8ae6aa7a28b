use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::*;

fn authority() -> (ClusterAuthority, Secret) {
    ClusterAuthority::generate(Timestamp::now(), "upm-system").unwrap()
}

#[test]
fn issues_certificates_in_its_own_name_for_an_identity_and_its_hosts() {
    let (authority, secret) = authority();
    let read = ClusterAuthority::read(&secret).unwrap();
    let dns = ["demo-0.demo-headless-svc.p1.svc".to_owned()];
    let issued = read
        .issue("spiffe://upm/unit/p1/demo-0", &dns, Duration::from_hours(1))
        .unwrap();
    assert_eq!(issued.ca_pem, &*authority.trusted_pem());

    let (_, ca) = parse_x509_pem(authority.trusted_pem().as_bytes()).unwrap();
    let (_, leaf) = parse_x509_pem(issued.certificate_pem.as_bytes()).unwrap();
    let (ca, leaf) = (ca.parse_x509().unwrap(), leaf.parse_x509().unwrap());
    assert!(ca.is_ca() && !leaf.is_ca());
    assert_eq!(leaf.issuer(), ca.subject());
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names[..],
        [
            GeneralName::URI("spiffe://upm/unit/p1/demo-0"),
            GeneralName::DNSName("demo-0.demo-headless-svc.p1.svc"),
        ]
    );
    assert_eq!(
        leaf.validity().not_after.timestamp(),
        issued.not_after.as_second()
    );
}

#[test]
fn refuses_a_secret_that_holds_no_ca_instead_of_replacing_it() {
    let (_, mut secret) = authority();
    secret.data.as_mut().unwrap().remove(PRIVATE_KEY);
    let error = ClusterAuthority::read(&secret).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[test]
fn does_not_show_keys_in_debug() {
    let (authority, _) = authority();
    let issued = authority
        .issue(
            "spiffe://upm/controller/kauntlet",
            &[],
            Duration::from_mins(1),
        )
        .unwrap();
    assert!(!format!("{issued:?}{authority:?}").contains("PRIVATE KEY"));
    assert!(issued.key_pem.contains("PRIVATE KEY"));
}
