//! The tables as diesel sees them.

diesel::table! {
    services (name) {
        name -> Text,
        project -> Text,
        service_id -> Text,
        engine -> Text,
        uid -> Text,
        version -> BigInt,
        spec -> Text,
        spec_version -> Integer,
        labels -> Text,
        description -> Text,
        deletion_policy -> Text,
        cluster -> Text,
        life -> Text,
        message -> Text,
        operation -> Text,
        package -> Text,
        desired -> Text,
        intents -> Text,
        retained -> Nullable<Text>,
        create_us -> BigInt,
        update_us -> BigInt,
    }
}

diesel::table! {
    operations (name) {
        name -> Text,
        engine -> Text,
        verb -> Text,
        target -> Text,
        project -> Text,
        principal -> Text,
        traceparent -> Text,
        input -> Text,
        journal -> Text,
        risk -> Text,
        on_failure -> Text,
        direction -> Text,
        state -> Text,
        error -> Nullable<Binary>,
        response -> Nullable<Binary>,
        lease_owner -> Text,
        lease_epoch -> BigInt,
        lease_until_us -> BigInt,
        revision -> BigInt,
        cancel_requested -> Bool,
        expected_ms -> BigInt,
        deadline_us -> BigInt,
        undo_deadline_us -> BigInt,
        create_us -> BigInt,
        start_us -> BigInt,
        end_us -> BigInt,
    }
}

diesel::table! {
    packages (name) {
        name -> Text,
        software -> Text,
        digest -> Text,
        #[sql_name = "type"]
        type_ -> Text,
        edition -> Text,
        version -> Text,
        config_template -> Text,
        config_value -> Text,
        pod_template -> Text,
        manifest -> Text,
        create_us -> BigInt,
    }
}

diesel::table! {
    departed (name) {
        name -> Text,
        project -> Text,
        at_us -> BigInt,
    }
}

diesel::table! {
    epochs (name) {
        name -> Text,
        value -> BigInt,
    }
}
