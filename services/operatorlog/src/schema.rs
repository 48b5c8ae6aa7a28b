//! The tables as diesel sees them.

diesel::table! {
    entries (sequence) {
        sequence -> BigInt,
        id -> Text,
        event_us -> BigInt,
        principal -> Text,
        source_address -> Text,
        module -> Text,
        method -> Text,
        resource -> Text,
        code -> Integer,
        reason -> Text,
        request -> Text,
        diff -> Text,
        trace_id -> Text,
        hash -> Text,
        previous_hash -> Text,
    }
}

diesel::table! {
    chain_head (id) {
        id -> Integer,
        sequence -> BigInt,
        hash -> Text,
        signature -> Text,
    }
}
