//! Characters that stand for themselves in a JSON string, eight bytes at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A bit for each byte of the word that is a control character, a quotation mark or a backslash. The lowest is exact; borrows only disturb
/// the bytes above it.
fn stops(word: u64) -> u64 {
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

/// How many bytes at the front stand for themselves.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return index * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    words.len() * 8 + rest.iter().take_while(plain).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_prefix_ends_at_the_first_byte_that_needs_an_escape(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let wanted = bytes.iter().position(|byte| *byte < 0x20 || [b'"', b'\\'].contains(byte));
            prop_assert_eq!(prefix(&bytes), wanted.unwrap_or(bytes.len()));
        }

        #[test]
        fn text_without_escapes_is_plain_to_its_end(text in "[ !#-\\[\\]-~äß€\u{7f}]{0,40}") {
            prop_assert_eq!(prefix(text.as_bytes()), text.len());
        }
    }
}
