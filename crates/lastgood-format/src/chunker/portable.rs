//! The value of a window in plain Rust: the reference that every other path must equal, and what
//! runs where the CPU has no AES.
//!
//! It looks up a table by secret-dependent bytes, so it is not constant-time: an attacker who can
//! watch this machine's cache is not one the cut key defends against (`docs/threat-model.md`).

use super::{BLOCK_BYTES, RoundKeys, WINDOW_BYTES};

/// The smallest value of the windows of `block`.
pub(super) fn block_minimum(keys: &RoundKeys, block: &[u8; BLOCK_BYTES]) -> u32 {
    windows(block).map(|window| value(keys, window)).min().unwrap_or(u32::MAX)
}

/// Index of the first window of `block` with this value.
pub(super) fn block_find(
    keys: &RoundKeys,
    block: &[u8; BLOCK_BYTES],
    wanted: u32,
) -> Option<usize> {
    windows(block).position(|window| value(keys, window) == wanted)
}

fn windows(block: &[u8; BLOCK_BYTES]) -> impl Iterator<Item = &[u8; WINDOW_BYTES]> {
    block.windows(WINDOW_BYTES).filter_map(<[u8]>::first_chunk)
}

/// The value of one window. spec: chunker §3
///
/// Of the second round only the first column is wanted, which needs one byte of each column of
/// the first round.
pub(super) fn value(keys: &RoundKeys, window: &[u8; WINDOW_BYTES]) -> u32 {
    let [k0, k1, k2] = keys.0.map(columns);
    let [w0, w1, w2, w3] = columns(*window);
    let [x0, x1, x2, x3] = k0;
    let (w0, w1, w2, w3) = (w0 ^ x0, w1 ^ x1, w2 ^ x2, w3 ^ x3);
    let [y0, y1, y2, y3] = k1;
    let c0 = round_column([w0, w1, w2, w3]) ^ y0;
    let c1 = round_column([w1, w2, w3, w0]) ^ y1;
    let c2 = round_column([w2, w3, w0, w1]) ^ y2;
    let c3 = round_column([w3, w0, w1, w2]) ^ y3;
    let [z0, ..] = k2;
    round_column([c0, c1, c2, c3]) ^ z0
}

/// The columns of an AES state; row 0 is the lowest byte.
fn columns(state: [u8; WINDOW_BYTES]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = state;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_le_bytes)
}

/// One column of MixColumns(ShiftRows(SubBytes(state))), given the columns from it on: row `r`
/// comes from column `r`.
fn round_column(columns: [u32; 4]) -> u32 {
    let [a, b, c, d] = columns.map(u32::to_le_bytes);
    mixed(a[0])
        ^ mixed(b[1]).rotate_left(8)
        ^ mixed(c[2]).rotate_left(16)
        ^ mixed(d[3]).rotate_left(24)
}

#[expect(clippy::indexing_slicing, reason = "a byte indexes a table of 256")]
fn mixed(byte: u8) -> u32 {
    MIXED[usize::from(byte)]
}

/// For each byte of row 0, what its substitute adds to the rows of a mixed column: 2, 1, 1, 3
/// times it.
static MIXED: [u32; 256] = mixed_table();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated when compiled, where a slip does not compile"
)]
const fn mixed_table() -> [u32; 256] {
    let sbox = sbox();
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let once = sbox[i];
        let twice = double(once);
        table[i] = u32::from_le_bytes([twice, once, once, twice ^ once]);
        i += 1;
    }
    table
}

/// The S-box of FIPS 197: the inverse in GF(2⁸), then an affine map. Runs through the powers of 3
/// and, beside each, the same power of 1/3, its inverse.
#[expect(clippy::indexing_slicing, reason = "a byte indexes a table of 256")]
const fn sbox() -> [u8; 256] {
    let mut sbox = [0; 256];
    let (mut power, mut inverse) = (1_u8, 1_u8);
    loop {
        power ^= double(power);
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        if inverse & 0x80 != 0 {
            inverse ^= 0x09;
        }
        sbox[power as usize] = 0x63
            ^ inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        if power == 1 {
            break;
        }
    }
    sbox[0] = 0x63;
    sbox
}

/// Twice a byte in GF(2⁸) modulo x⁸+x⁴+x³+x+1.
const fn double(byte: u8) -> u8 {
    (byte << 1) ^ (if byte & 0x80 != 0 { 0x1b } else { 0 })
}
