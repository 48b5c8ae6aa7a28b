//! Credit: what the receiver of a lane has granted.

/// Messages and bytes that may still be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    messages: i64,
    bytes: i64,
}

impl Window {
    /// A first grant.
    pub fn new(messages: u32, bytes: u64) -> Self {
        let mut window = Self::default();
        window.grant(messages, bytes);
        window
    }

    /// Adds a grant.
    pub fn grant(&mut self, messages: u32, bytes: u64) {
        self.messages = self.messages.saturating_add(i64::from(messages));
        self.bytes = self
            .bytes
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Forgets what was granted beyond these.
    pub fn cap(&mut self, messages: u32, bytes: u64) {
        self.messages = self.messages.min(i64::from(messages));
        self.bytes = self.bytes.min(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Messages and bytes that are left.
    pub fn left(&self) -> (usize, u64) {
        (
            usize::try_from(self.messages).unwrap_or(0),
            u64::try_from(self.bytes).unwrap_or(0),
        )
    }

    /// Whether another message may go. A message may overdraw the bytes once, so that no body is too large for a window.
    pub fn open(&self) -> bool {
        self.messages > 0 && self.bytes > 0
    }

    /// Takes one message of `bytes`.
    pub fn take(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes as i64;
    }

    /// Whether a peer has sent more than it was granted; one frame of overdraft is allowed.
    pub fn overrun(&self, largest: usize) -> bool {
        self.messages < 0 || self.bytes < -(largest as i64)
    }
}
