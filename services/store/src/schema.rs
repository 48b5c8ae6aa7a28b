//! The store's own tables.

diesel::table! {
    upm_meta (name) {
        name -> Text,
        value -> Binary,
    }
}

diesel::table! {
    upm_lock (name) {
        name -> Text,
    }
}

diesel::table! {
    upm_outbox (id) {
        id -> Text,
        record -> Binary,
        create_us -> BigInt,
    }
}

diesel::table! {
    upm_request (principal, method, request_id) {
        principal -> Text,
        method -> Text,
        request_id -> Text,
        fingerprint -> Text,
        response -> Nullable<Binary>,
        create_us -> BigInt,
    }
}
