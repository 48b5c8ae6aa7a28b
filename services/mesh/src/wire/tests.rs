use proptest::prelude::*;
use prost::Message as _;
use upm_proto::redis::v1::{GetRedisServiceRequest, RedisService, UpdateRedisServiceRequest};

use super::*;

fn update(name: &str) -> UpdateRedisServiceRequest {
    UpdateRedisServiceRequest {
        redis_service: Some(RedisService {
            name: name.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn the_last_occurrence_wins_and_messages_merge() {
    let mut twice = update("projects/a/redisServices/x").encode_to_vec();
    update("projects/b/redisServices/x")
        .encode(&mut twice)
        .expect("room");
    assert_eq!(
        string_field(&twice, &[1, 1]),
        Ok(Some("projects/b/redisServices/x"))
    );

    // A second occurrence without the name leaves the first one's.
    twice = update("projects/a/redisServices/x").encode_to_vec();
    update("").encode(&mut twice).expect("room");
    assert_eq!(
        string_field(&twice, &[1, 1]),
        Ok(Some("projects/a/redisServices/x"))
    );
    let decoded = UpdateRedisServiceRequest::decode(twice.as_slice()).expect("valid");
    assert_eq!(
        decoded.redis_service.expect("set").name,
        "projects/a/redisServices/x"
    );
}

#[test]
fn a_field_of_another_type_or_a_cut_message_is_malformed() {
    assert_eq!(string_field(&[0x08, 0x01], &[1]), Err(Malformed));
    assert_eq!(string_field(&[0x0a, 0x05, b'a'], &[1]), Err(Malformed));
    assert_eq!(string_field(&[0x0a, 0x01, 0xff], &[1]), Err(Malformed));
    assert_eq!(string_field(&[0x00], &[1]), Err(Malformed));
    assert_eq!(string_field(&[], &[1]), Ok(None));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_what_prost_accepts_reads_the_same(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let scanned = string_field(&bytes, &[1]);
        if let Ok(decoded) = GetRedisServiceRequest::decode(bytes.as_slice()) {
            prop_assert_eq!(scanned.map(Option::unwrap_or_default), Ok(decoded.name.as_str()));
        }
        let _ = string_field(&bytes, &[1, 1]);
        let _ = string_field(&bytes, &[3, 2, 1]);
    }

    #[test]
    fn what_prost_encodes_is_found_among_other_fields(
        name in "\\PC{0,40}", mask in proptest::collection::vec("[a-z_.]{1,12}", 0..4), only in any::<bool>(),
    ) {
        let mut request = update(&name);
        request.update_mask = Some(prost_types::FieldMask { paths: mask });
        request.validate_only = only;
        let bytes = request.encode_to_vec();
        prop_assert_eq!(string_field(&bytes, &[1, 1]).map(Option::unwrap_or_default), Ok(name.as_str()));
    }

    #[test]
    fn joined_messages_read_as_prost_merges_them(names in proptest::collection::vec("[a-z/]{0,12}", 1..5)) {
        let mut bytes = Vec::new();
        for name in &names {
            update(name).encode(&mut bytes).expect("room");
        }
        let decoded = UpdateRedisServiceRequest::decode(bytes.as_slice()).expect("valid");
        let expected = decoded.redis_service.map(|service| service.name).unwrap_or_default();
        prop_assert_eq!(string_field(&bytes, &[1, 1]).map(Option::unwrap_or_default), Ok(expected.as_str()));
    }
}
