//! Reading the engine's JSON: absent and null are the same, and what is not used is not looked at.

use serde::{Deserialize, Deserializer};

/// The value, or its default for null.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// One part of a path or a value of a query, with everything escaped that is no letter or digit.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `path?name=value&…`; pairs whose value is empty are left out.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let set = pairs.iter().filter(|(_, value)| !value.is_empty());
    let query: Vec<String> = set.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_change_the_path() {
        assert_eq!(escaped("a/../b?c=d e"), "a%2F..%2Fb%3Fc%3Dd%20e");
        assert_eq!(with_query("/x", &[("a", "1"), ("b", ""), ("c", "{\"l\"}")]), "/x?a=1&c=%7B%22l%22%7D");
        assert_eq!(with_query("/x", &[("b", "")]), "/x");
    }
}
