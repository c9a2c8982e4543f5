//! SHA-256 as images write it: `sha256:` and 64 hexadecimal digits.

use aws_lc_rs::digest::{Context, SHA256};
use std::io;

const PREFIX: &str = "sha256:";

/// A hash that grows.
#[derive(Clone)]
pub(super) struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn digest(self) -> String {
        let bytes = self.0.finish();
        let hex: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{hex}")
    }
}

impl io::Write for Sha256 {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of `bytes`.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    let mut hash = Sha256::default();
    hash.update(bytes);
    hash.digest()
}

/// The 64 digits of a digest; a file name that leads nowhere else.
pub(super) fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix(PREFIX)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (hex.len() == 64 && hex.bytes().all(is_digit)).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_images_write_them() {
        let empty = digest_of(b"");
        assert_eq!(empty, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(hex_of(&empty).is_some());
        for bad in ["sha256:..", "sha512:00", &empty.to_uppercase(), &empty[..70], "sha256:../../../etc/passwd"] {
            assert_eq!(hex_of(bad), None, "{bad}");
        }
    }
}
