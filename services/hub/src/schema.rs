//! Tables of the hub. Unsigned numbers are stored as signed ones of the same width; times are microseconds since 1970.

diesel::table! {
    agents (id) {
        id -> Text,
        incarnation -> Text,
        approved -> Bool,
        enrolled -> Bool,
        revoked -> Bool,
        epoch -> BigInt,
        replica -> Text,
        connected_us -> BigInt,
        seen_us -> BigInt,
        build -> Text,
        cluster_uid -> Text,
        k8s_version -> Text,
        head_rev -> BigInt,
        received_rev -> BigInt,
        durable_rev -> BigInt,
        compacted_rev -> BigInt,
        change_seq -> BigInt,
        purged_seq -> BigInt,
        root -> Text,
        status_root -> Text,
        key_count -> BigInt,
        certificate_us -> BigInt,
        message -> Text,
        issuer -> Text,
        jwks -> Text,
        created_us -> BigInt,
        subject -> Text,
    }
}

diesel::table! {
    intents (agent, key_text) {
        agent -> Text,
        key_text -> Text,
        api_group -> Text,
        version -> Text,
        kind -> Text,
        namespace -> Text,
        name -> Text,
        owner -> Text,
        writer_epoch -> BigInt,
        intent_uid -> Text,
        generation -> BigInt,
        digest -> Text,
        body -> Text,
        options -> Binary,
        priority -> Integer,
        rev -> BigInt,
        tombstone -> Bool,
        traceparent -> Text,
        outcome -> Integer,
        result_generation -> BigInt,
        result -> Binary,
        result_us -> BigInt,
        change_seq -> BigInt,
    }
}

diesel::table! {
    statuses (agent, key_text) {
        agent -> Text,
        key_text -> Text,
        intent_uid -> Text,
        intent_generation -> BigInt,
        observed_generation -> BigInt,
        resource_version -> Text,
        digest -> Text,
        body -> Text,
        gone -> Bool,
        edges -> Binary,
        epoch -> BigInt,
        seq -> BigInt,
        change_seq -> BigInt,
        update_us -> BigInt,
    }
}

diesel::table! {
    writers (agent, owner) {
        agent -> Text,
        owner -> Text,
        epoch -> BigInt,
    }
}

diesel::table! {
    inventory (agent, watch, key_text) {
        agent -> Text,
        watch -> Integer,
        key_text -> Text,
        object_key -> Binary,
        object -> Text,
        update_us -> BigInt,
    }
}

diesel::table! {
    interests (agent, watch) {
        agent -> Text,
        watch -> Integer,
        bookmark -> Text,
    }
}

diesel::table! {
    join_tokens (hash) {
        hash -> Text,
        agent -> Text,
        auto_approve -> Bool,
        expire_us -> BigInt,
        used_us -> BigInt,
        request -> Text,
        created_us -> BigInt,
    }
}

diesel::table! {
    certificates (fingerprint) {
        fingerprint -> Text,
        agent -> Text,
        expire_us -> BigInt,
        revoked -> Bool,
        created_us -> BigInt,
        serial -> Text,
        revoked_us -> BigInt,
        anchor -> Text,
        parent -> Text,
    }
}

diesel::table! {
    replicas (name) {
        name -> Text,
        instance -> Text,
        endpoint -> Text,
        beats -> BigInt,
        sessions -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(intents, statuses);
