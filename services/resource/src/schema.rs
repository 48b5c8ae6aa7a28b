//! The tables as diesel sees them.

diesel::table! {
    projects (id) {
        id -> Text,
        uid -> Text,
        version -> BigInt,
        display_name -> Text,
        labels -> Text,
        quota_services -> Integer,
        quota_units -> Integer,
        create_us -> BigInt,
        update_us -> BigInt,
    }
}

diesel::table! {
    reservations (project, service_id) {
        project -> Text,
        service_id -> Text,
        service -> Text,
        cluster -> Text,
        units -> Integer,
    }
}

diesel::table! {
    clusters (id) {
        id -> Text,
        uid -> Text,
        version -> BigInt,
        display_name -> Text,
        labels -> Text,
        cordoned -> Bool,
        create_us -> BigInt,
        update_us -> BigInt,
    }
}

diesel::table! {
    inventory (cluster, kind, name) {
        cluster -> Text,
        kind -> Text,
        name -> Text,
        object -> Text,
        observe_us -> BigInt,
    }
}

diesel::table! {
    software (id) {
        id -> Text,
        kind -> Text,
        edition -> Text,
        release_version -> Text,
        digest -> Text,
        enabled -> Bool,
        version -> BigInt,
        parameters -> Text,
        content -> Text,
    }
}

diesel::table! {
    deleted_projects (uid) {
        uid -> Text,
        id -> Text,
        delete_us -> BigInt,
    }
}

diesel::allow_tables_to_appear_in_same_query!(projects, reservations);
