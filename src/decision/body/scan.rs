//! Passing over string content quickly: whole blocks of bytes that need no attention, and complete escapes.
//!
//! A string ends at `"`; `\` starts an escape; bytes below 0x20 may not stand in a string (RFC 8259 section 7). All else
//! is content. Blocks are compared by loops of fixed length without branches, which the compiler turns into vector
//! instructions; no `unsafe` is needed for it.

/// Bytes looked at in one step.
const BLOCK: usize = 64;

/// The first position at or after `from` where something other than content or a complete, valid escape stands: a quote,
/// a control character, an escape that is invalid or not wholly in `bytes`, or the end of `bytes`.
pub(super) fn skim(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    'blocks: while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let mut marks = marks(block);
        if marks == 0 {
            at += BLOCK;
            at += calm(bytes.get(at..).unwrap_or_default());
            continue;
        }
        loop {
            // At most 63, since a mark is left.
            let offset = marks.trailing_zeros() as usize;
            let escape = escape_len(bytes.get(at + offset..).unwrap_or_default());
            if escape == 0 {
                return at + offset;
            }
            let next = offset + escape;
            if next >= BLOCK {
                at += next;
                continue 'blocks;
            }
            marks &= u64::MAX << next;
            if marks == 0 {
                at += BLOCK;
                continue 'blocks;
            }
        }
    }
    while let Some(&byte) = bytes.get(at) {
        if is_content(byte) {
            at += 1;
            continue;
        }
        match escape_len(bytes.get(at..).unwrap_or_default()) {
            0 => break,
            escape => at += escape,
        }
    }
    at
}

/// Whether the byte is content that stands for itself.
fn is_content(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Length of the complete, valid escape at the start of `rest`, or 0.
fn escape_len(rest: &[u8]) -> usize {
    match rest {
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
        _ => 0,
    }
}

/// Bytes at the start of `bytes`, in whole strides, that are all content. May stop short of the first byte that is not.
fn calm(bytes: &[u8]) -> usize {
    let (strides, _) = bytes.as_chunks::<STRIDE>();
    strides.iter().take_while(|stride| is_calm(stride)).count() * STRIDE
}

/// Bytes looked at in one step while nothing but content comes, as in an image.
const STRIDE: usize = 128;

/// One bit a byte, lowest first: set where the byte is not content.
#[inline(always)]
fn marks(block: &[u8; BLOCK]) -> u64 {
    // Two passes, so that the comparisons are done on many bytes at once.
    let flags = block.map(|byte| u8::from(!is_content(byte)));
    let (eights, _) = flags.as_chunks::<8>();
    let mut marks = 0;
    for (index, eight) in eights.iter().enumerate() {
        // Flag i is bit 8i; the factor has bit 56 - 7i, so their product has it at 56 + i, and no two sums meet there.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        marks |= gathered << (8 * index);
    }
    marks
}

/// Whether all bytes are content. Without an early end, so that many bytes are compared at once; and by the least of
/// all, which costs less than comparing each. Exchanging 0x20 and 0x22 makes quote and control characters one range.
#[inline(always)]
fn is_calm<const N: usize>(bytes: &[u8; N]) -> bool {
    let mut least = ([u8::MAX; LANES], [u8::MAX; LANES]);
    let (rows, _) = bytes.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            least.0[lane] = least.0[lane].min(row[lane] ^ 0x02);
            least.1[lane] = least.1[lane].min(row[lane] ^ b'\\');
        }
    }
    least.0.iter().zip(&least.1).fold(true, |calm, (&low, &slashed)| calm & (low > 0x20) & (slashed > 0))
}

/// Bytes in a register of every x86-64 and aarch64 processor.
const LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_alike_at_every_place_of_a_block() {
        for byte in 0..=u8::MAX {
            let want = !is_content(byte);
            for place in 0..BLOCK {
                let mut bytes = [b'a'; BLOCK];
                bytes[place] = byte;
                let expected = u64::from(want) << place;
                assert_eq!(marks(&bytes), expected, "{byte:#x} at {place}");
            }
            for place in 0..STRIDE {
                let mut bytes = [0xC3; STRIDE];
                bytes[place] = byte;
                assert_eq!(is_calm(&bytes), !want, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn skimming_stops_where_a_walk_byte_by_byte_would_stop() {
        let walk = |bytes: &[u8]| {
            let mut at = 0;
            while at < bytes.len() {
                at += match bytes[at] {
                    byte if is_content(byte) => 1,
                    _ => match escape_len(&bytes[at..]) {
                        0 => return at,
                        escape => escape,
                    },
                };
            }
            at
        };
        let endings: [&[u8]; 9] =
            [b"", b"\"", b"\\\"", b"\\", b"\\u00e9\\n\"", b"\\u00e", b"\\u00eg\"", b"\\\\\\\"\"", b"\n"];
        for length in 0..300 {
            for ending in endings {
                for after in [0, 1, 63, 64, 200] {
                    let mut bytes = vec![b'x'; length];
                    bytes.extend(ending);
                    bytes.extend(vec![b'"'; after]);
                    assert_eq!(skim(&bytes, 0), walk(&bytes), "{length} x, then {ending:?}, then {after} quotes");
                }
            }
        }
    }
}
