//! Plain dumps of PostgreSQL: `pg_dump` and `pg_dumpall --globals-only`.
//!
//! Outside of data it is SQL: quotes, dollar quotes and comments are followed, because a function's body
//! may hold a line that looks like the end of the dump. `COPY … FROM stdin;` begins data, in which each
//! line is a row, up to `\.`. The dump is whole if its last comment is there, at the end of a statement,
//! and what follows it is at most the end of psql's restricted mode.

use super::{Follow, FoundTable, Verdict};

/// A statement's text is kept up to this length, to see what it begins.
const STATEMENT_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Between tokens of SQL.
    Sql,
    /// `'…'`; true if a backslash escapes.
    Text(bool),
    /// After a backslash in such a text.
    TextEscape,
    /// `"…"`.
    Name,
    /// `$tag$ … $tag$`.
    Dollar,
    /// `-- …` to the end of the line.
    LineComment,
    /// `/* … */`, which nest.
    BlockComment,
    /// `\connect …` to the end of the line.
    Command,
    /// After `COPY … FROM stdin;`, to the end of the line.
    CopyHead,
    /// Rows.
    Copy,
}

/// Follows a dump.
pub struct Dump {
    mode: Mode,
    trailer: &'static [u8],
    at: u64,
    previous: u8,
    /// The statement, comment or command that is being read.
    text: Vec<u8>,
    /// The text of a comment or command, apart from the statement that it may stand in.
    aside: Vec<u8>,
    tag: Vec<u8>,
    /// How much of the closing tag has been matched; or the opening tag so far.
    window: Vec<u8>,
    depth: u32,
    /// First bytes of the current line of data, and its length.
    line: Vec<u8>,
    line_bytes: u64,
    current: Option<FoundTable>,
    tables: Vec<FoundTable>,
    complete: bool,
    after_end: bool,
    restricted: bool,
    /// All statements but the rows, if they are wanted.
    statements: Option<Vec<Vec<u8>>>,
}

impl Dump {
    /// A dump of one database whose statements are kept.
    pub fn keeping_statements() -> Self {
        Self { statements: Some(Vec::new()), ..Self::of_database() }
    }

    /// The statements so far; one that was too long to be kept whole does not end with its semicolon.
    pub fn statements(&self) -> &[Vec<u8>] {
        self.statements.as_deref().unwrap_or_default()
    }

    /// A dump of one database.
    pub fn of_database() -> Self {
        Self::new(b"-- PostgreSQL database dump complete")
    }

    /// A dump of roles and their settings.
    pub fn of_globals() -> Self {
        Self::new(b"-- PostgreSQL database cluster dump complete")
    }

    fn new(trailer: &'static [u8]) -> Self {
        Self {
            mode: Mode::Sql,
            trailer,
            at: 0,
            previous: b'\n',
            text: Vec::new(),
            aside: Vec::new(),
            tag: Vec::new(),
            window: Vec::new(),
            depth: 0,
            line: Vec::new(),
            line_bytes: 0,
            current: None,
            tables: Vec::new(),
            complete: false,
            after_end: false,
            restricted: false,
            statements: None,
        }
    }

    /// Rows, as many as `bytes` holds; gives how many bytes were taken.
    fn push_rows(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.mode == Mode::Copy {
            let rest = &bytes[taken..];
            let end = memchr::memchr(b'\n', rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            self.line.extend(&part[..part.len().min(3_usize.saturating_sub(self.line.len()))]);
            self.line_bytes += part.len() as u64;
            taken += part.len();
            if end.is_none() {
                break;
            }
            taken += 1;
            self.end_row(self.at + taken as u64);
        }
        taken
    }

    /// A line of data ends before the byte `next`.
    fn end_row(&mut self, next: u64) {
        let is_end = self.line_bytes == 2 && self.line == b"\\.";
        if let Some(table) = &mut self.current {
            if is_end {
                table.bytes = (next - 3).saturating_sub(table.offset);
                self.tables.extend(self.current.take());
                self.mode = Mode::Sql;
                self.previous = b'\n';
            } else {
                table.rows += 1;
            }
        }
        self.line.clear();
        self.line_bytes = 0;
    }

    fn push_sql(&mut self, byte: u8) {
        let in_comment = self.mode == Mode::BlockComment;
        match self.mode {
            Mode::Sql => self.sql(byte),
            Mode::Text(escapes) => match byte {
                b'\'' => self.mode = Mode::Sql,
                b'\\' if escapes => self.mode = Mode::TextEscape,
                _ => {}
            },
            Mode::TextEscape => self.mode = Mode::Text(true),
            Mode::Name if byte == b'"' => self.mode = Mode::Sql,
            Mode::Dollar => self.dollar(byte),
            Mode::LineComment | Mode::Command if byte == b'\n' => self.end_aside(),
            Mode::LineComment | Mode::Command if self.aside.len() < 256 => self.aside.push(byte),
            Mode::BlockComment => self.block_comment(byte),
            Mode::CopyHead if byte == b'\n' => {
                self.mode = Mode::Copy;
                if let Some(table) = &mut self.current {
                    table.offset = self.at + 1;
                }
            }
            Mode::Name | Mode::LineComment | Mode::Command | Mode::CopyHead | Mode::Copy => {}
        }
        let in_statement = matches!(self.mode, Mode::Text(_) | Mode::TextEscape | Mode::Name | Mode::Dollar);
        if !in_comment && (in_statement || self.mode == Mode::Sql) {
            self.keep(byte);
        }
        self.previous = byte;
    }

    /// Adds a byte to the statement, and ends it.
    fn keep(&mut self, byte: u8) {
        if self.text.is_empty() && byte.is_ascii_whitespace() {
            return;
        }
        if self.text.len() < STATEMENT_BYTES_MAX {
            self.text.push(byte);
        }
        if self.mode == Mode::Sql && byte == b';' {
            self.current = copied_table(&self.text);
            if self.current.is_some() {
                self.mode = Mode::CopyHead;
            }
            self.after_end |= self.complete;
            if let Some(statements) = &mut self.statements {
                statements.push(std::mem::take(&mut self.text));
            }
            self.text.clear();
        }
    }

    fn sql(&mut self, byte: u8) {
        match (byte, self.previous) {
            (b'\'', b'E' | b'e') if !self.word_before_e() => self.mode = Mode::Text(true),
            (b'\'', _) => self.mode = Mode::Text(false),
            (b'"', _) => self.mode = Mode::Name,
            (b'-', b'-') => self.begin_aside(Mode::LineComment, b"--"),
            (b'*', b'/') => {
                self.text.pop();
                self.depth = 1;
                self.mode = Mode::BlockComment;
            }
            (b'\\', _) if self.text.is_empty() => self.begin_aside(Mode::Command, b"\\"),
            (b'$', _) => self.maybe_dollar(),
            _ => {
                if !self.window.is_empty() {
                    if byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80 {
                        self.window.push(byte);
                    } else {
                        self.window.clear();
                    }
                }
            }
        }
    }

    /// Whether the `E` before a quote is the end of a longer word.
    fn word_before_e(&self) -> bool {
        let before = self.text.len().checked_sub(2).and_then(|at| self.text.get(at));
        before.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80)
    }

    fn begin_aside(&mut self, mode: Mode, head: &[u8]) {
        if mode == Mode::LineComment {
            self.text.pop();
        }
        self.aside.clear();
        self.aside.extend(head);
        self.mode = mode;
    }

    fn end_aside(&mut self) {
        let own_line = self.text.is_empty();
        if self.mode == Mode::Command {
            self.after_end |= self.complete && !self.aside.starts_with(b"\\unrestrict ");
            if self.aside.starts_with(b"\\restrict ") {
                self.restricted = true;
            } else if self.aside.starts_with(b"\\unrestrict ") {
                self.restricted = false;
            }
        } else if own_line && self.aside == self.trailer {
            self.complete = true;
        }
        self.mode = Mode::Sql;
    }

    fn maybe_dollar(&mut self) {
        if self.window.is_empty() {
            // A dollar sign inside a name opens nothing.
            if !(self.previous.is_ascii_alphanumeric() || self.previous == b'_' || self.previous >= 0x80) {
                self.window.push(b'$');
            }
            return;
        }
        self.window.push(b'$');
        self.tag = std::mem::take(&mut self.window);
        self.mode = Mode::Dollar;
    }

    fn dollar(&mut self, byte: u8) {
        self.window.push(byte);
        if self.window.len() > self.tag.len() {
            self.window.remove(0);
        }
        if self.window == self.tag {
            self.window.clear();
            self.mode = Mode::Sql;
        }
    }

    fn block_comment(&mut self, byte: u8) {
        match (self.previous, byte) {
            (b'/', b'*') => self.depth += 1,
            (b'*', b'/') => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.mode = Mode::Sql;
                }
            }
            _ => {}
        }
    }
}

impl Follow for Dump {
    fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            let taken = if self.mode == Mode::Copy {
                self.push_rows(rest)
            } else {
                self.push_sql(*byte);
                1
            };
            self.at += taken as u64;
            rest = &rest[taken..];
        }
    }

    fn finish(self) -> Verdict {
        if self.at == 0 {
            return Err("the dump is empty".to_owned());
        }
        if let Some(table) = &self.current {
            return Err(format!("dump ended inside table {} after {} rows", table.full_name(), table.rows));
        }
        if self.mode != Mode::Sql || !self.text.is_empty() {
            return Err("dump ended inside a statement".to_owned());
        }
        if !self.complete {
            return Err("dump ended without its trailer".to_owned());
        }
        if self.after_end {
            return Err("something follows the dump's trailer".to_owned());
        }
        if self.restricted {
            return Err("dump ended inside psql's restricted mode".to_owned());
        }
        Ok(self.tables)
    }
}

/// The table whose rows follow, if the statement is a `COPY … FROM stdin;`.
fn copied_table(statement: &[u8]) -> Option<FoundTable> {
    let text = std::str::from_utf8(statement).map_or_else(|_| String::from_utf8_lossy(statement), Into::into);
    let rest = text.strip_prefix("COPY ").filter(|rest| rest.ends_with(" FROM stdin;"))?;
    let (first, rest) = identifier(rest)?;
    let (schema, name) = match rest.strip_prefix('.') {
        Some(rest) => (first, identifier(rest)?.0),
        None => (String::new(), first),
    };
    Some(FoundTable { schema, name, rows: 0, offset: 0, bytes: 0 })
}

/// A name at the beginning of `text`, without its quotes, and what follows it.
pub fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '.', ';', '(', '\n', ',']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match (char, chars.peek()) {
            ('"', Some((_, '"'))) => {
                chars.next();
                name.push('"');
            }
            ('"', _) => return Some((name, &quoted[at + 1..])),
            (other, _) => name.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::source::database::verify::follow;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict key\n\n-- Dumped from 15\nSET x = on;\n\
        CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS $_$\n\
        COPY public.fake (a) FROM stdin;\n-- PostgreSQL database dump complete\n$_$;\n\
        COMMENT ON TABLE a IS 'it''s; -- no /* comment';\nSELECT E'a\\'b;' /* x /* y; */ ' */;\n\
        COPY public.users (id, name) FROM stdin;\n1\tanna\n2\tbo\\nb\n\\.x\n\\.\n\n\
        COPY public.\"Weird \"\"t;\" (id) FROM stdin;\n\\.\n\n\
        CREATE VIEW v AS SELECT 1 AS \"a;b\";\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict key\n\n";

    fn judge(text: &str, piece: usize) -> Verdict {
        let mut dump = Dump::of_database();
        text.as_bytes().chunks(piece).for_each(|part| dump.push(part));
        dump.finish()
    }

    #[test]
    fn tables_are_found_whatever_the_pieces_are() {
        for piece in [1, 2, 3, 7, 64, 100_000] {
            let tables = judge(DUMP, piece).unwrap();
            let names: Vec<(String, u64)> = tables.iter().map(|t| (t.full_name(), t.rows)).collect();
            assert_eq!(names, [("public.users".to_owned(), 3), ("public.Weird \"t;".to_owned(), 0)], "{piece}");
            let users = &tables[0];
            let rows = &DUMP[users.offset as usize..][..users.bytes as usize];
            assert_eq!(rows, "1\tanna\n2\tbo\\nb\n\\.x\n");
            assert_eq!(tables[1].bytes, 0);
        }
        assert_eq!(follow(Dump::of_database(), &mut DUMP.as_bytes()).unwrap().unwrap().len(), 2);
    }

    #[test]
    fn no_shorter_dump_is_whole() {
        let end = DUMP.find("\\unrestrict key\n").unwrap() + "\\unrestrict key\n".len();
        for at in 0..end {
            assert!(judge(&DUMP[..at], 4096).is_err(), "cut at {at}: {:?}", &DUMP[at.saturating_sub(40)..at]);
        }
        assert!(judge(&DUMP[..end], 4096).is_ok());
    }

    #[test]
    fn the_reason_names_what_is_missing() {
        let cases = [
            ("", "the dump is empty"),
            ("SET x = 1;\n", "dump ended without its trailer"),
            ("COPY a.b (c) FROM stdin;\n1\n2\n3", "dump ended inside table a.b after 2 rows"),
            ("SET x = 'y", "dump ended inside a statement"),
        ];
        for (text, reason) in cases {
            assert_eq!(judge(text, 5), Err(reason.to_owned()));
        }
        let more = format!("{DUMP}DROP TABLE x;\n");
        assert_eq!(judge(&more, 99), Err("something follows the dump's trailer".to_owned()));
        // What a terminal does to a dump.
        assert!(judge(&DUMP.replace('\n', "\r\n"), 99).is_err());
    }

    #[test]
    fn names_are_read_with_and_without_quotes() {
        assert_eq!(identifier("a_b.c"), Some(("a_b".to_owned(), ".c")));
        assert_eq!(identifier("\"a\"\"b\" x"), Some(("a\"b".to_owned(), " x")));
        assert_eq!(identifier("\"a"), None);
    }
}
