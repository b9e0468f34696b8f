//! Numbers that mostly are small, in as few bytes as they need: seven bits each, the lowest first (LEB128).

/// Writes a number.
pub fn write(mut number: u64, to: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

/// Reads a number and goes on behind it. `None` where it does not end.
pub fn read(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_as_it_was() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            write(number, &mut bytes);
            assert_eq!(
                bytes.len(),
                (64 - number.leading_zeros()).div_ceil(7).max(1) as usize
            );
            bytes.push(1);
            let mut rest = &*bytes;
            assert_eq!((read(&mut rest), rest), (Some(number), &[1_u8][..]));
            assert_eq!(read(&mut bytes.get(..bytes.len() - 2).unwrap()), None);
        }
    }
}
