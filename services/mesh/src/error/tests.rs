use super::*;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("members must be 1 to 7")]
    Members,
    #[error("cannot read the table")]
    Store(#[from] std::io::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Members => Kind::InvalidArgument,
            Self::Store(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Members => "MEMBERS_OUT_OF_RANGE",
            Self::Store(_) => "STORE",
        }
    }

    fn details(&self) -> Details {
        Details::field("redis_service.spec.members", "1 to 7")
    }
}

crate::status_from!(Error, "redis.upm");

#[test]
fn an_error_becomes_a_status_with_reason_and_field() {
    let status = tonic::Status::from(Error::Members);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "members must be 1 to 7");
    assert_eq!(
        status::reason(&status).as_deref(),
        Some("MEMBERS_OUT_OF_RANGE")
    );
    assert_eq!(status::domain(&status).as_deref(), Some("redis.upm"));
    assert_eq!(
        status::details(&status),
        Details::field("redis_service.spec.members", "1 to 7")
    );
}

#[test]
fn an_internal_cause_is_masked() {
    let cause = std::io::Error::other("disk /var/lib at fault");
    let status = tonic::Status::from(Error::from(cause));
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "internal error");
    assert!(!format!("{:?}", status.details()).contains("disk"));
    assert_eq!(status::reason(&status).as_deref(), Some("STORE"));
}

#[test]
fn every_kind_comes_back_from_its_code() {
    for code in 1..=16 {
        let kind = Kind::of(Code::from_i32(code)).expect("an error");
        if !matches!(Code::from_i32(code), Code::Unknown | Code::OutOfRange) {
            assert_eq!(kind.code(), Code::from_i32(code));
        }
    }
    assert_eq!(Kind::of(Code::Ok), None);
}
