//! Which fields and oneofs of a message were met.

/// A set of small numbers, on the stack for up to 128.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    low: u128,
    high: Vec<u64>,
}

impl Bits {
    pub(crate) fn new(bits: usize) -> Self {
        Self {
            low: 0,
            high: if bits > 128 {
                vec![0; (bits - 128).div_ceil(64)]
            } else {
                Vec::new()
            },
        }
    }

    pub(crate) fn has(&self, bit: usize) -> bool {
        if bit < 128 {
            self.low >> bit & 1 == 1
        } else {
            self.high[(bit - 128) / 64] >> (bit % 64) & 1 == 1
        }
    }

    /// Sets a bit; true when it was set before.
    #[inline]
    pub(crate) fn set(&mut self, bit: usize) -> bool {
        let had = self.has(bit);
        if bit < 128 {
            self.low |= 1 << bit;
        } else {
            self.high[(bit - 128) / 64] |= 1 << (bit % 64);
        }
        had
    }
}
