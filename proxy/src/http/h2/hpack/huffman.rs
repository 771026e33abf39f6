//! HPACK's Huffman code (RFC 7541 section 5.2 and appendix B), decoding only: this side sends text as it is.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, so that the
//! lengths alone say all. A byte of look-ahead decides codes of up to eight bits, which text mostly has; a
//! longer code is found by its length.

use super::HpackError;

/// How many bits each symbol's code has; the last one is the end of the string, which is never sent.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Bits of the longest code.
const LONGEST: usize = 30;

/// The symbol that ends a string.
const END: u16 = 256;

/// Symbols in the order of their codes.
const SYMBOLS: [u16; 257] = {
    let mut symbols = [0; 257];
    let (mut filled, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                symbols[filled] = symbol as u16;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// The codes of one length.
#[derive(Clone, Copy)]
struct Codes {
    /// The first code, its bits at the top of a word.
    first: u32,
    /// Where its symbol stands in [`SYMBOLS`].
    place: usize,
    /// The first code of any greater length, at the top of a word too; never reached by these.
    end: u64,
}

const CODES: [Codes; LONGEST + 1] = {
    let mut codes = [Codes { first: 0, place: 0, end: 0 }; LONGEST + 1];
    let (mut code, mut place, mut length) = (0_u64, 0, 1);
    while length <= LONGEST {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < 257 {
            count += (LENGTHS[symbol] as usize == length) as usize;
            symbol += 1;
        }
        let shift = 32 - length;
        let end = (code + count as u64) << shift;
        codes[length] = Codes { first: (code << shift) as u32, place, end };
        code = (code + count as u64) << 1;
        place += count;
        length += 1;
    }
    codes
};

/// For each next byte: the symbol whose code it begins with, and that code's bits; no bits for a longer code.
const SHORT: [(u8, u8); 256] = {
    let mut short = [(0, 0); 256];
    let mut next = 0;
    while next < 256 {
        let word = (next as u64) << 24;
        let mut length = 1;
        while length <= 8 && short[next].1 == 0 {
            let codes = CODES[length];
            if word < codes.end && word >= codes.first as u64 {
                let nth = (word as u32 - codes.first) >> (32 - length);
                short[next] = (SYMBOLS[codes.place + nth as usize] as u8, length as u8);
            }
            length += 1;
        }
        next += 1;
    }
    short
};

/// Appends what `coded` stands for.
///
/// # Errors
/// The end of a string inside it, or something else than the beginning of that behind it.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), HpackError> {
    // The next bits, at the top; `held` of them are bits of the string.
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while held <= 56 {
            let Some(byte) = rest.next() else { break };
            bits |= u64::from(*byte) << (56 - held);
            held += 8;
        }
        let (mut symbol, mut length) = SHORT[(bits >> 56) as usize];
        if length == 0 {
            (symbol, length) = long(bits)?;
        }
        if u32::from(length) > held {
            return padding(bits, held);
        }
        text.push(symbol);
        bits <<= length;
        held -= u32::from(length);
        if held == 0 && rest.as_slice().is_empty() {
            return Ok(());
        }
    }
}

/// A symbol of more than eight bits, and how many.
fn long(bits: u64) -> Result<(u8, u8), HpackError> {
    let word = bits >> 32;
    for (length, codes) in (9_u8..).zip(&CODES[9..]) {
        if word < codes.end {
            let nth = (word as u32 - codes.first) >> (32 - u32::from(length));
            return match SYMBOLS[codes.place + nth as usize] {
                // Without another bit behind it, it is padding, which is shorter than a byte.
                END => Err(HpackError("a string with its end inside")),
                symbol => Ok((symbol as u8, length)),
            };
        }
    }
    Err(HpackError("a string with its end inside"))
}

/// What is left must be the beginning of the end's code, ones, and less than a byte.
fn padding(bits: u64, held: u32) -> Result<(), HpackError> {
    if held >= 8 {
        return Err(HpackError("more than a byte of padding"));
    }
    match bits.leading_ones() >= held {
        true => Ok(()),
        false => Err(HpackError("padding that is not ones")),
    }
}
