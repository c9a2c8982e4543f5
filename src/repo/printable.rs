//! Words of others, made fit to be shown. Whoever may write a snapshot chooses its tags, its note and its
//! names, and a terminal obeys control characters: they are escaped as they are read.

use serde::{Deserialize, Deserializer};

/// `text` with its control characters escaped; `keep` is one that stays.
fn escaped(text: String, keep: Option<char>) -> String {
    let obeyed = |c: char| c.is_control() && Some(c) != keep;
    if !text.contains(obeyed) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if obeyed(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// `text` as one line.
pub fn one_line(text: &str) -> String {
    escaped(text.to_owned(), None)
}

/// Reads a line.
///
/// # Errors
/// It is no text.
pub fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(escaped(String::deserialize(deserializer)?, None))
}

/// Reads lines, each by itself.
///
/// # Errors
/// They are no texts.
pub fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.into_iter().map(|text| escaped(text, None)).collect())
}

/// Reads a text of several lines.
///
/// # Errors
/// It is no text.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(escaped(String::deserialize(deserializer)?, Some('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Words {
        #[serde(deserialize_with = "line")]
        line: String,
        #[serde(deserialize_with = "lines")]
        lines: Vec<String>,
        #[serde(deserialize_with = "text")]
        text: String,
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let json = r#"{"line":"a\u001b[31m\nb","lines":["über","c\r"],"text":"d\ne\u009b"}"#;
        let words: Words = serde_json::from_str(json).unwrap();
        assert_eq!(words.line, "a\\u{1b}[31m\\nb");
        assert_eq!(words.lines, ["über", "c\\r"]);
        assert_eq!(words.text, "d\ne\\u{9b}");
    }
}
