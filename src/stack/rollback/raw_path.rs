//! Paths in JSON: text where they are text, else an object with their bytes in hexadecimal digits.
//! A journal must name the very file.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Text(String),
    Bytes { hex: String },
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let shape = match path.to_str() {
        Some(text) => Shape::Text(text.to_owned()),
        None => Shape::Bytes { hex: crate::id::to_hex(path.as_os_str().as_bytes()) },
    };
    shape.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    match Shape::deserialize(deserializer)? {
        Shape::Text(text) => Ok(text.into()),
        Shape::Bytes { hex } => match from_hex(&hex) {
            Some(bytes) => Ok(OsString::from_vec(bytes).into()),
            None => Err(D::Error::custom("a path in hexadecimal digits is not one")),
        },
    }
}

/// The bytes of an even number of hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}
