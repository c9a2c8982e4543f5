//! Numbers and byte strings of variable length, as trees and the file-state cache use them.
//!
//! A number is seven bits a byte, lowest first, the high bit set on all but the last (LEB128); a
//! signed one is folded first (0, −1, 1, −2, …). A string is its length and its bytes.

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number.
pub fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is wrong with bytes that were to be decoded.
pub type Malformed = &'static str;

/// A cursor over bytes that are not trusted.
#[derive(Debug, Clone)]
pub struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    /// Begins at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True at the end.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or("it is cut short")?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("it is cut short")?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next number.
    ///
    /// # Errors
    /// Cut short, or larger than 64 bits.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number is too large");
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long")
    }

    /// The next number, which fits 32 bits.
    ///
    /// # Errors
    /// Cut short, or larger.
    pub fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    /// The next signed number.
    ///
    /// # Errors
    /// Cut short, or larger than 64 bits.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let folded = self.number()?;
        Ok(((folded >> 1) as i64) ^ -((folded & 1) as i64))
    }

    /// The next string, of at most `max` bytes.
    ///
    /// # Errors
    /// Cut short, or longer.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = self.number()?;
        match usize::try_from(len) {
            Ok(len) if len <= max => self.take(len),
            _ => Err("a string is longer than any can be"),
        }
    }

    /// The next 32 bytes.
    ///
    /// # Errors
    /// Cut short.
    pub fn array32(&mut self) -> Result<[u8; 32], Malformed> {
        let mut out = [0; 32];
        out.copy_from_slice(self.take(32)?);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_inverse() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, number);
            assert_eq!(Wire::new(&out).number(), Ok(number));
        }
        for number in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_signed(&mut out, number);
            assert_eq!(Wire::new(&out).signed(), Ok(number));
        }
    }

    #[test]
    fn too_long_is_refused() {
        assert!(Wire::new(&[0xff; 11]).number().is_err());
        assert!(Wire::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number().is_err());
        assert!(Wire::new(&[5, 1, 2]).bytes(10).is_err());
        assert!(Wire::new(&[5, 1, 2, 3, 4, 5]).bytes(4).is_err());
    }
}
