//! Passes over string content quickly: whole blocks of bytes that need no attention, and complete escapes.
//!
//! A string ends at `"`; `\` starts an escape; bytes below 0x20 may not stand in a string (RFC 8259 section 7). All
//! else is content. Blocks are compared by loops of fixed length without branches, which the compiler turns into vector
//! instructions; no `unsafe` is needed for it.

/// Returns the first position at or after `from` of something other than content or a complete, valid escape: a quote,
/// a control character, an escape that is invalid or not wholly in `bytes`, or the end of `bytes`.
///
/// There are three speeds: [`walk`] for short strings and whatever the others do not accept, [`is_tame`] for text,
/// [`is_dense`] for images.
pub(super) fn skim(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    // Most strings are short, and a quote soon ends them.
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>())
        && at - from < SHORT
    {
        let plain = first_mark(eight);
        at += plain;
        if plain < 8 {
            match escape_len(bytes.get(at..).unwrap_or_default()) {
                0 => return at,
                escape => at += escape,
            }
        }
    }
    let (mut try_dense_at, mut wait) = (at, STRIDE);
    loop {
        if at >= try_dense_at {
            let rest = bytes.get(at..).unwrap_or_default();
            let strides = rest.as_chunks::<STRIDE>().0.iter().take_while(|stride| is_dense(stride)).count();
            // Text is not dense, so each failed attempt makes the next one rarer.
            wait = if strides == 0 { wait.saturating_mul(2) } else { STRIDE };
            at += strides * STRIDE;
            try_dense_at = at.saturating_add(wait);
        }
        let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) else {
            return walk_end(bytes, at);
        };
        let shifted = |by: usize| at.checked_sub(by).and_then(|from| bytes.get(from..)?.first_chunk::<BLOCK>());
        if let (Some(two), Some(one)) = (shifted(2), shifted(1))
            && is_tame(two, one, block)
        {
            // An escape that begins with the last byte is left for the next block; the second backslash of a `\\`
            // begins none.
            let open = block[BLOCK - 1] == b'\\' && one[BLOCK - 1] != b'\\';
            at += BLOCK - usize::from(open);
            continue;
        }
        match walk(bytes, at, block) {
            Ok(next) => at = next,
            Err(stop) => return stop,
        }
    }
}

/// Length in bytes below which a string is read in small steps only.
const SHORT: usize = 32;

/// Bytes in a block.
const BLOCK: usize = 64;

/// Bytes examined in one step while nothing but an image comes.
const STRIDE: usize = 512;

/// Walks through one block from mark to mark. Returns `Ok` with the position after the block and after an escape across
/// its end, or `Err` with the position to stop at.
fn walk(bytes: &[u8], at: usize, block: &[u8; BLOCK]) -> Result<usize, usize> {
    let mut marks = marks(block);
    while marks != 0 {
        // At most 63, since a mark is left.
        let offset = marks.trailing_zeros() as usize;
        let next = match escape_len(bytes.get(at + offset..).unwrap_or_default()) {
            0 => return Err(at + offset),
            escape => offset + escape,
        };
        if next >= BLOCK {
            return Ok(at + next);
        }
        marks &= u64::MAX << next;
    }
    Ok(at + BLOCK)
}

/// Walks byte by byte through a rest that is shorter than a block.
fn walk_end(bytes: &[u8], mut at: usize) -> usize {
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

/// Returns how many of 8 bytes are content before the first that is not.
fn first_mark(eight: &[u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let bytes = u64::from_le_bytes(*eight);
    // The high bit of each byte that is below a bound. A borrow may spoil the bytes above the first such byte, never
    // those below it.
    let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes & HIGHS;
    let quote = below(bytes ^ (ONES * 0x22), 1);
    let backslash = below(bytes ^ (ONES * 0x5C), 1);
    (below(bytes, 0x20) | quote | backslash).trailing_zeros() as usize / 8
}

/// Returns whether the byte is content that stands for itself.
pub(super) fn is_content(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Returns the length of the complete, valid escape at the start of `rest`, or 0.
fn escape_len(rest: &[u8]) -> usize {
    match rest {
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
        _ => 0,
    }
}

/// Returns one bit a byte, the first byte in the lowest bit: set if the byte is not content.
fn marks(block: &[u8; BLOCK]) -> u64 {
    // Two passes, so that many bytes are compared at once.
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

/// Returns whether all bytes are content or one of the usual short escapes. `two` and `one` are the block as it stands
/// two bytes and one byte earlier; no escape may lie across its start.
///
/// Each byte is judged by the two before it. A byte ends an escape if a backslash precedes it that is not itself the
/// end of a `\\`: then it must be `n`, `r`, `t`, a quote or a backslash, and only then may it be a quote. That holds
/// while no three backslashes stand in a row; three in a row are not tame, nor is any other escape. The caller must
/// look at a backslash at the very end that begins an escape.
fn is_tame(two: &[u8; BLOCK], one: &[u8; BLOCK], block: &[u8; BLOCK]) -> bool {
    const ROW: usize = BLOCK / 4;
    let mut wild = 0;
    for column in 0..ROW {
        let (mut least, mut astray) = (u8::MAX, false);
        for row in 0..4 {
            let place = column + row * ROW;
            let (two, one, byte) = (two[place] == b'\\', one[place] == b'\\', block[place]);
            let ends = one & !two;
            let short = (byte == b'n') | (byte == b't') | (byte == b'r') | (byte == b'\\');
            astray |= (ends ^ (byte == b'"')) & !short;
            astray |= one & two & (byte == b'\\');
            least = least.min(byte);
        }
        wild |= u8::from(astray) | u8::from(least < 0x20);
    }
    wild == 0
}

/// Returns whether all bytes are content that stands for itself, and above 0x22, as all of base64 is.
///
/// This bound takes one operation, the least of several bytes; rows are combined before they are compared, which keeps
/// the chain of dependent operations short.
fn is_dense(stride: &[u8; STRIDE]) -> bool {
    const ROW: usize = STRIDE / 8;
    let mut sparse = 0;
    for column in 0..ROW {
        let (mut least, mut slashed) = (u8::MAX, u8::MAX);
        for row in 0..8 {
            let byte = stride[column + row * ROW];
            least = least.min(byte);
            slashed = slashed.min(byte ^ b'\\');
        }
        sparse |= u8::from(least <= 0x22) | u8::from(slashed == 0);
    }
    sparse == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_alike_at_every_place_of_a_block() {
        for byte in 0..=u8::MAX {
            let want = !is_content(byte);
            for place in 0..8 {
                let mut bytes = [b'a'; 8];
                bytes[place] = byte;
                assert_eq!(first_mark(&bytes), if want { place } else { 8 }, "{byte:#x} at {place}");
            }
            for place in 0..BLOCK {
                let mut bytes = [b'a'; BLOCK];
                bytes[place] = byte;
                assert_eq!(marks(&bytes), u64::from(want) << place, "{byte:#x} at {place}");
                let plain = [b'a'; BLOCK];
                let tame = is_tame(&plain, &plain, &bytes);
                assert_eq!(tame, !want || byte == b'\\', "{byte:#x} at {place}");
                let mut slashed = plain;
                slashed[place] = b'\\';
                let tame = is_tame(&plain, &slashed, &bytes);
                assert_eq!(tame, b"nrt\"\\".contains(&byte), "{byte:#x} after a backslash at {place}");
                let tame = is_tame(&slashed, &slashed, &bytes);
                assert_eq!(tame, !want, "{byte:#x} after two backslashes at {place}");
            }
            for place in 0..STRIDE {
                let mut bytes = [0xC3; STRIDE];
                bytes[place] = byte;
                assert_eq!(is_dense(&bytes), !want && byte > 0x22, "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn skimming_stops_where_a_walk_byte_by_byte_would_stop() {
        let plod = |bytes: &[u8]| {
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
        for length in (0..300).chain(500..800) {
            for ending in endings {
                for after in [0, 1, 63, 64, 200] {
                    let mut bytes = vec![b'x'; length];
                    bytes.extend(ending);
                    bytes.extend(vec![b'"'; after]);
                    assert_eq!(skim(&bytes, 0), plod(&bytes), "{length} x, then {ending:?}, then {after} quotes");
                }
            }
        }
    }

    #[test]
    fn text_of_every_mixture_is_skimmed_as_byte_by_byte() {
        let pieces: [&str; 12] =
            ["a", "b c", "\\n", "\\\"", "\\\\", "\\u00e9", "\\/", "é", "llama llama llama", "\\t", "n", "\\f"];
        let mut state = 1u32;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..state % 200 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                text.push_str(pieces[(state >> 16) as usize % pieces.len()]);
            }
            state = state.wrapping_add(0x9E37);
            let length = text.len();
            text.push_str(["\"", "\n", "\\x", ""][state as usize % 4]);
            assert_eq!(skim(text.as_bytes(), 0), length, "{text:?}");
        }
    }
}
