//! Defaults and hard caps of a session (what `Welcome` may say, and what nobody may exceed).

/// Bytes of one frame before it is split into fragments.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Bytes of one object's body that the ledger accepts.
pub const BODY_BYTES: usize = 1024 * 1024;
/// Bytes of one joined frame, with everything around the body.
pub const JOINED_BYTES: usize = 3 * 1024 * 1024;
/// Keys of one agent.
pub const KEYS: u32 = 200_000;
/// Keys that an agent applies at the same time.
pub const APPLY_WORKERS: u32 = 32;
/// Messages in flight in the desired lane, by default.
pub const DESIRED_MESSAGES: u32 = 512;
/// Bytes in flight in the desired lane, by default.
pub const DESIRED_BYTES: u64 = 2 * 1024 * 1024;
/// The largest desired window that a hub grants itself, whatever the agent says: messages, bytes.
pub const DESIRED_CAP: (u32, u64) = (4_096, 16 * 1024 * 1024);
/// Messages in flight in the status lane, by default.
pub const STATUS_MESSAGES: u32 = 1_024;
/// Bytes in flight in the status lane, by default.
pub const STATUS_BYTES: u64 = 2 * 1024 * 1024;
/// Messages in flight in the bulk lane, by default.
pub const BULK_MESSAGES: u32 = 64;
/// Bytes in flight in the bulk lane, by default.
pub const BULK_BYTES: u64 = 4 * 1024 * 1024;
/// Results that an agent may have without acknowledgement: a store that takes 100 ms for each commit does not hold up 5,000 per second.
pub const RESULT_MESSAGES: u64 = 2_560;
/// Objects smaller than this are not worth a patch, in bytes.
pub const PATCH_BYTES: usize = 512;
/// Updates in one status batch.
pub const STATUS_BATCH: usize = 256;
/// Condition edges kept per key.
pub const EDGES: usize = 16;
/// Bytes of all frames of a session that are being joined.
pub const JOINING_BYTES: usize = 2 * JOINED_BYTES;
/// Bytes of results that wait to be committed.
pub const RESULT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that a session holds at most of what its peer sent and of what it has to send: 16 MiB and one frame of overdraft for each lane.
pub const SESSION_BYTES: usize = 16 * 1024 * 1024 + 3 * JOINED_BYTES;
/// Frames that may wait in the control lane before its taker counts as one that does not read.
pub const CONTROL_FRAMES: usize = 1_024;
/// Agents per second and replica that may come back after the hub was lost.
pub const RETURNS_PER_SECOND: u64 = 1_000;
/// The least and the longest time over which agents spread their return, in milliseconds.
pub const RECONNECT_SPREAD_MS: (u64, u64) = (200, 30_000);
/// Milliseconds between heartbeats.
pub const HEARTBEAT_MS: u64 = 5_000;
/// Milliseconds of silence after which the other side is dead.
pub const DEAD_MS: u64 = 15_000;
/// Milliseconds without progress of acks while something is in flight after which a session is wedged.
pub const WEDGED_MS: u64 = 30_000;
/// Milliseconds for the first frame.
pub const HELLO_MS: u64 = 10_000;
/// Frames after which a bookmark is due.
pub const BOOKMARK_FRAMES: u32 = 256;
/// Milliseconds after which a bookmark is due while frames are sent.
pub const BOOKMARK_MS: u64 = 1_000;
/// Milliseconds between anti-entropy bookmarks, ±20 %.
pub const ANTI_ENTROPY_MS: u64 = 600_000;
/// Milliseconds of a session's life, ±20 %.
pub const SESSION_AGE_MS: u64 = 3_600_000;
/// Buckets of a digest report.
pub const BUCKETS: usize = 256;
/// Objects that a verified snapshot may prune without confirmation: this many, or a tenth of what is owned if that is more.
pub const PRUNE_FLOOR: usize = 10;
