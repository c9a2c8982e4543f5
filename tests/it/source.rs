//! A Rust source file as the tidy test sees it: comments, strings and tests blanked out, so that
//! plain searches find only code that runs.

use std::path::Path;

/// One source file.
pub struct Source {
    /// Relative to the project, parts joined by `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// The same lines without comments, strings and `#[cfg(test)]` items.
    code: String,
    /// Lines that `#[cfg(test)]` items take.
    test_lines: usize,
}

impl Source {
    /// Reads the file `path` of the project in `root`.
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a source file");
        let relative = path.strip_prefix(root).expect("a path in the project");
        Self::new(&relative.to_string_lossy(), &text)
    }

    /// The file `path` with the content `text`.
    pub fn new(path: &str, text: &str) -> Self {
        let mut code = blank(text);
        let test_lines = blank_tests(&mut code);
        let code = String::from_utf8_lossy(&code).into_owned();
        Self { path: path.to_owned(), text: text.to_owned(), code, test_lines }
    }

    /// Part of the program, not of its tests: those are in tests/, in folders and in files of that name.
    pub fn is_program(&self) -> bool {
        let is_tests = |part: &str| part == "tests" || part == "tests.rs";
        self.path.starts_with("src/") && !self.path.split('/').any(is_tests)
    }

    /// The module of the crate's root that the file belongs to; none for the roots and for tests.
    pub fn top_module(&self) -> Option<&str> {
        if !self.is_program() {
            return None;
        }
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "main" && name != "lib").then_some(name)
    }

    /// How many modules the file is below the crate's root.
    fn depth(&self) -> usize {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "lib" || path == "main" { 0 } else { path.split('/').count() }
    }

    pub fn lines_outside_tests(&self) -> usize {
        self.text.lines().count() - self.test_lines
    }

    fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Where the code has one of `words`, with its line. A word that starts with a letter is found
    /// only where no identifier goes on into it.
    pub fn find_words<'a>(&self, words: &[&'a str]) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        for word in words {
            for (at, _) in self.code.match_indices(word) {
                if starts_word(self.code.as_bytes(), at) || !word.starts_with(|c: char| c.is_alphanumeric()) {
                    found.push((self.line_of(at), *word));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The modules of the crate's root that the code names, by `crate::` or by enough `super::`,
    /// each with its line.
    pub fn crate_modules(&self) -> Vec<(usize, String)> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("crate::").filter(|(at, _)| starts_word(bytes, *at)) {
            found.extend(self.named(at + "crate::".len()));
        }
        for (at, _) in self.code.match_indices("super::").filter(|(at, _)| starts_word(bytes, *at)) {
            if self.code[..at].ends_with("super::") {
                continue;
            }
            let supers = self.code[at..].split("super::").take_while(|part| part.is_empty()).count();
            if self.is_program() && supers == self.depth() {
                found.extend(self.named(at + supers * "super::".len()));
            }
        }
        found.sort();
        found
    }

    /// The first names of what stands at `at`, a path or a group of paths.
    fn named(&self, at: usize) -> Vec<(usize, String)> {
        let rest = &self.code[at..];
        let end =
            if rest.starts_with('{') { close(rest.as_bytes(), 0) + 1 } else { rest.find(';').unwrap_or(rest.len()) };
        let mut names = Vec::new();
        for name in idents_after(&rest[..end]) {
            let within = rest[..end].find(&name).unwrap_or(0);
            names.push((self.line_of(at + within), name));
        }
        names
    }

    /// The functions outside tests: line, name, number of lines.
    pub fn functions(&self) -> Vec<(usize, String, usize)> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("fn ").filter(|(at, _)| starts_word(bytes, *at)) {
            let name: String = self.code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(open) = body(bytes, at) else { continue };
            let (first, last) = (self.line_of(at), self.line_of(close(bytes, open)));
            found.push((first, name, last - first + 1));
        }
        found
    }
}

/// The first identifier of a path, or of each path in a group; `*` and nothing give none.
pub fn idents_after(path: &str) -> Vec<String> {
    let first = |text: &str| -> Option<String> {
        let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    };
    let Some(group) = path.strip_prefix('{') else { return first(path).into_iter().collect() };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.extend(first(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn starts_word(code: &[u8], at: usize) -> bool {
    at == 0 || !(code[at - 1].is_ascii_alphanumeric() || code[at - 1] == b'_')
}

/// Where the body of the item at `at` opens; none for one that ends with a semicolon.
fn body(code: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in code[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at + offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the brace that opens at `open` closes.
fn close(code: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in code[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset;
        }
    }
    code.len() - 1
}

/// Blanks the items marked `#[cfg(test)]`, and tells how many lines they take.
fn blank_tests(code: &mut [u8]) -> usize {
    const MARK: &[u8] = b"#[cfg(test)]";
    let mut lines = 0;
    while let Some(at) = code.windows(MARK.len()).position(|window| window == MARK) {
        let semicolon =
            || code[at..].iter().position(|byte| *byte == b';').map_or(code.len() - 1, |offset| at + offset);
        let end = body(code, at + MARK.len()).map_or_else(semicolon, |open| close(code, open));
        lines += code[at..=end].iter().filter(|byte| **byte == b'\n').count() + 1;
        erase(&mut code[at..=end]);
    }
    lines
}

fn erase(code: &mut [u8]) {
    code.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// `text` with comments, strings and character literals blanked; the lines stay where they are.
fn blank(text: &str) -> Vec<u8> {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let length = literal(&code[at..], at > 0 && !starts_word(&code, at));
        if length == 0 {
            at += 1;
        } else {
            erase(&mut code[at..at + length]);
            at += length;
        }
    }
    code
}

/// The length of the comment or literal that starts here; 0 where code does.
fn literal(code: &[u8], within_word: bool) -> usize {
    match code {
        [b'/', b'/', ..] => code.iter().position(|byte| *byte == b'\n').unwrap_or(code.len()),
        [b'/', b'*', ..] => comment(code),
        [b'"', ..] => quoted(code),
        [b'r' | b'b' | b'c', ..] if !within_word => prefixed(code),
        [b'\'', ..] => character(code),
        _ => 0,
    }
}

fn comment(code: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < code.len() {
        match code[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A string from its opening quotation mark on.
fn quoted(code: &[u8]) -> usize {
    let mut at = 1;
    while at < code.len() && code[at] != b'"' {
        at += if code[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(code.len())
}

/// A string or character with a prefix: `b"…"`, `r#"…"#`, `br"…"`, `b'x'`.
fn prefixed(code: &[u8]) -> usize {
    let letters = code.iter().take(2).take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let hashes = code[letters..].iter().take_while(|byte| **byte == b'#').count();
    let start = letters + hashes;
    let raw = code[..letters].contains(&b'r');
    match code.get(start) {
        Some(b'"') if raw => {
            let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let body = &code[start + 1..];
            let length = body.windows(end.len()).position(|window| window == end).unwrap_or(body.len());
            (start + 1 + length + end.len()).min(code.len())
        }
        Some(b'"') if hashes == 0 => start + quoted(&code[start..]),
        Some(b'\'') if hashes == 0 && code[0] == b'b' => start + character(&code[start..]),
        _ => 0,
    }
}

/// A character literal; 0 for a lifetime.
fn character(code: &[u8]) -> usize {
    if code.get(1) == Some(&b'\\') {
        let end = code.iter().skip(3).position(|byte| *byte == b'\'');
        return end.map_or(code.len(), |offset| offset + 4);
    }
    // One character of up to four bytes, then the closing mark; a lifetime has none so near.
    let text = String::from_utf8_lossy(&code[1..code.len().min(9)]).into_owned();
    let first = text.chars().next().map_or(0, char::len_utf8);
    if code.get(1 + first) == Some(&b'\'') { first + 2 } else { 0 }
}
