//! Reading YAML, and what Compose lets one write in several ways.

use super::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Larger Compose files are not read.
const BYTES_MAX: u64 = 8 << 20;

/// Reads the YAML file `path`.
///
/// # Errors
/// It cannot be read, is too large, or is no YAML.
pub fn read(path: &Path) -> Result<Value> {
    let cannot = |source| Error::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > BYTES_MAX {
        let message = format!("it has {size} bytes, and a Compose file has less than {BYTES_MAX}");
        return Err(Error::Yaml { path: path.to_path_buf(), message });
    }
    let text = crate::fs::read_text(path).map_err(cannot)?;
    parse(&text).map_err(|message| Error::Yaml { path: path.to_path_buf(), message })
}

/// Parses YAML; the first line of what is wrong otherwise, which shows nothing of the text.
///
/// # Errors
/// It is no YAML.
pub fn parse(text: &str) -> std::result::Result<Value, String> {
    serde_saphyr::from_str::<Value>(text).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// A scalar as Compose reads it.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The text at `key`; empty if there is none.
pub fn text_at(value: &Value, key: &str) -> String {
    value.get(key).and_then(text).unwrap_or_default()
}

/// True if `key` is there and says yes.
pub fn is_set(value: &Value, key: &str) -> bool {
    match value.get(key) {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => matches!(text.as_str(), "true" | "yes" | "on" | "1"),
        // `external: {name: x}` is the older way.
        Some(Value::Object(_)) => true,
        _ => false,
    }
}

/// A list of texts, or one text alone.
pub fn list(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
        Some(Value::Null) | None => Vec::new(),
        Some(other) => text(other).into_iter().collect(),
    }
}

/// A mapping, or a list of `key=value`; a key without a value has an empty one.
pub fn pairs(value: Option<&Value>) -> BTreeMap<String, String> {
    match value {
        Some(Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), text(value).unwrap_or_default())).collect()
        }
        Some(Value::Array(items)) => {
            let split = |item: String| match item.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (item, String::new()),
            };
            items.iter().filter_map(text).map(split).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// The members of a mapping; nothing for anything else.
pub fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compose_lets_one_write_is_read() {
        let text = "x: &a {k: 1, on: true}\ny: {<<: *a, k: 2}\nz: !reset null\nw: !override [a=1, b]\n";
        let value = parse(text).unwrap();
        assert_eq!(value["y"]["k"], 2);
        assert_eq!(value["y"]["on"], true);
        assert_eq!(pairs(value.get("w")), [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into());
        assert!(value["z"].is_null());
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        let message = parse("password: [s3cret\n").unwrap_err();
        assert!(!message.contains("s3cret") && message.contains("line 1"), "{message}");
    }
}
