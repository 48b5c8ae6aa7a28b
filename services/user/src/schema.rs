//! Tables of the module.

diesel::table! {
    users (id) {
        id -> Text,
        uid -> Text,
        version -> BigInt,
        display_name -> Text,
        email -> Text,
        password_hash -> Nullable<Text>,
        password_us -> Nullable<BigInt>,
        disabled -> Bool,
        create_us -> BigInt,
        update_us -> BigInt,
    }
}

diesel::table! {
    user_labels (user_id, label_key) {
        user_id -> Text,
        label_key -> Text,
        label_value -> Text,
    }
}

diesel::table! {
    deleted_users (uid) {
        uid -> Text,
        id -> Text,
        delete_us -> BigInt,
    }
}

diesel::joinable!(user_labels -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(users, user_labels);
