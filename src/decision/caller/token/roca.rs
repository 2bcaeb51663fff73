//! RSA moduli of the shape that a broken key generator made (ROCA, CVE-2017-15361): their private keys can be computed.

/// Primes whose product divides the generator's modulus for every key size; 2 tells nothing.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Returns whether `modulus` (big endian) has the mark of that generator: modulo every small prime it is a power of
/// 65537. A modulus of a sound generator has it with a chance of about one in 2^27.
pub fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| is_power(remainder(modulus, prime), prime))
}

fn remainder(number: &[u8], prime: u32) -> u32 {
    // At most 166 × 256 + 255.
    number.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

/// Returns whether `rest` is a power of 65537 modulo `prime`.
fn is_power(rest: u32, prime: u32) -> bool {
    let base = 65_537 % prime;
    let mut power = 1;
    for _ in 0..prime {
        if power == rest {
            return true;
        }
        power = power * base % prime;
    }
    false
}
