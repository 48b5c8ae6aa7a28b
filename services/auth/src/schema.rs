//! Tables of the module.

diesel::table! {
    policy_state (id) {
        id -> Text,
        revision -> BigInt,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        public_point -> Binary,
        private_key -> Binary,
        sealed -> Bool,
        sign_from_us -> BigInt,
    }
}

diesel::table! {
    setup_tokens (id) {
        id -> Text,
        token_hash -> Text,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        user_name -> Text,
        password_us -> BigInt,
        create_us -> BigInt,
        expire_us -> BigInt,
        secret -> Text,
    }
}

diesel::table! {
    refresh_tokens (token_hash) {
        token_hash -> Text,
        session_id -> Text,
        expire_us -> BigInt,
        used_us -> Nullable<BigInt>,
        used_by -> Text,
    }
}

diesel::table! {
    roles (id) {
        id -> Text,
        uid -> Text,
        version -> BigInt,
        description -> Text,
        permissions -> Text,
        scope -> Integer,
    }
}

diesel::table! {
    role_bindings (id) {
        id -> Text,
        role -> Text,
        user_name -> Text,
        project -> Text,
        create_us -> BigInt,
        user_uid -> Text,
        project_uid -> Text,
    }
}

diesel::table! {
    blocked_users (user_name) {
        user_name -> Text,
        deleted -> Bool,
    }
}

diesel::table! {
    forgotten_projects (uid) {
        uid -> Text,
        forget_us -> BigInt,
    }
}
