//! Dumps of MariaDB and MySQL: `mariadb-dump`, `mysqldump`.
//!
//! A statement begins a line and ends with a semicolon outside of quotes; rows are the bracketed groups
//! after `VALUES` of an `INSERT`. Bodies of routines, triggers and events stand between `DELIMITER ;;` and
//! `DELIMITER ;`, where nothing is looked at. The dump is whole if its last comment is there, at the end
//! of a statement, and nothing follows it.

use super::{Follow, FoundTable, Verdict};

/// How much of a statement is kept to see what it is.
const HEAD_BYTES: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Before a statement.
    Start,
    /// A line that is no statement: a comment, a command of the client.
    Line,
    /// Inside a statement.
    Statement,
    /// Inside `'…'`, `"…"` or backticks, after a backslash if true.
    Quoted(u8, bool),
    /// Lines between two `DELIMITER`s.
    Body,
}

/// Follows a dump.
pub struct Dump {
    mode: Mode,
    at: u64,
    /// The beginning of the current statement or line.
    head: Vec<u8>,
    began: u64,
    depth: u32,
    /// Whether the statement is an `INSERT` whose `VALUES` have begun, into the last of `tables`.
    in_values: bool,
    word: Vec<u8>,
    tables: Vec<FoundTable>,
    target: Option<usize>,
    complete: bool,
    after_end: bool,
}

impl Default for Dump {
    fn default() -> Self {
        Self {
            mode: Mode::Start,
            at: 0,
            head: Vec::new(),
            began: 0,
            depth: 0,
            in_values: false,
            word: Vec::new(),
            tables: Vec::new(),
            target: None,
            complete: false,
            after_end: false,
        }
    }
}

impl Dump {
    fn push_byte(&mut self, byte: u8) {
        match self.mode {
            Mode::Start => self.start(byte),
            Mode::Line | Mode::Body => self.line(byte),
            Mode::Statement => self.statement(byte),
            Mode::Quoted(quote, true) => self.mode = Mode::Quoted(quote, false),
            Mode::Quoted(quote, false) => {
                if byte == b'\\' && quote != b'`' {
                    self.mode = Mode::Quoted(quote, true);
                } else if byte == quote {
                    self.mode = Mode::Statement;
                }
                self.keep(byte);
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.target.is_none() && self.head.len() < HEAD_BYTES {
            self.head.push(byte);
        }
    }

    fn start(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() {
            return;
        }
        self.head.clear();
        self.began = self.at;
        self.depth = 0;
        self.in_values = false;
        self.target = None;
        self.word.clear();
        self.mode = Mode::Statement;
        self.statement(byte);
    }

    /// A line that is read whole.
    fn line(&mut self, byte: u8) {
        if byte != b'\n' {
            return self.keep(byte);
        }
        let line = std::mem::take(&mut self.head);
        let text = line.trim_ascii_end();
        match self.mode {
            Mode::Body if text == b"DELIMITER ;" => self.mode = Mode::Start,
            Mode::Body => {}
            _ if text.starts_with(b"DELIMITER ") => self.mode = Mode::Body,
            _ => {
                self.complete |= text == b"-- Dump completed" || text.starts_with(b"-- Dump completed on ");
                self.mode = Mode::Start;
            }
        }
    }

    fn statement(&mut self, byte: u8) {
        self.keep(byte);
        if self.is_line() {
            self.mode = Mode::Line;
            if byte == b'\n' {
                self.head.pop();
                self.line(byte);
            }
            return;
        }
        self.after_end |= self.complete && self.head.len() > 4;
        match byte {
            b'\'' | b'"' | b'`' => self.mode = Mode::Quoted(byte, false),
            b'(' => {
                if self.in_values && self.depth == 0 {
                    self.add_row();
                }
                self.depth += 1;
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            b';' => self.end_statement(),
            _ => {}
        }
        if byte.is_ascii_alphabetic() {
            self.word.push(byte);
            self.word.truncate(16);
        } else {
            if self.depth == 0 && self.word == b"VALUES" && !self.in_values {
                self.begin_values();
                if byte == b'(' {
                    self.add_row();
                }
            }
            self.word.clear();
        }
    }

    /// Whether what began is no statement: a comment, the line that forbids commands, a new delimiter.
    fn is_line(&self) -> bool {
        let is = |word: &[u8]| self.head.len() == word.len() && self.head == word;
        is(b"--") || is(b"#") || is(b"/*M!999999") || is(b"DELIMITER ")
    }

    fn end_statement(&mut self) {
        if let Some(name) = named(&self.head, &["CREATE TABLE `", "CREATE TABLE IF NOT EXISTS `"]) {
            self.table(name);
        }
        if let Some(table) = self.target.and_then(|at| self.tables.get_mut(at)) {
            table.bytes = self.at + 1 - table.offset;
        }
        self.target = None;
        self.mode = Mode::Start;
        self.head.clear();
    }

    fn begin_values(&mut self) {
        let kinds = ["INSERT INTO `", "INSERT  IGNORE INTO `", "INSERT IGNORE INTO `", "REPLACE INTO `"];
        if let Some(name) = named(&self.head, &kinds) {
            let at = self.table(name);
            if self.tables[at].rows == 0 {
                self.tables[at].offset = self.began;
            }
            self.target = Some(at);
            self.in_values = true;
        }
    }

    fn add_row(&mut self) {
        if let Some(table) = self.target.and_then(|at| self.tables.get_mut(at)) {
            table.rows += 1;
        }
    }

    fn table(&mut self, name: String) -> usize {
        if let Some(at) = self.tables.iter().rposition(|table| table.name == name) {
            return at;
        }
        self.tables.push(FoundTable { schema: String::new(), name, rows: 0, offset: 0, bytes: 0 });
        self.tables.len() - 1
    }
}

impl Follow for Dump {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push_byte(*byte);
            self.at += 1;
        }
    }

    fn finish(self) -> Verdict {
        if self.at == 0 {
            return Err("the dump is empty".to_owned());
        }
        if let Some(table) = self.target.and_then(|at| self.tables.get(at)) {
            return Err(format!("dump ended inside table {} after {} rows", table.name, table.rows));
        }
        match self.mode {
            Mode::Start if self.after_end => Err("something follows the dump's trailer".to_owned()),
            Mode::Start if self.complete => Ok(self.tables),
            Mode::Start | Mode::Line => Err("dump ended without its trailer".to_owned()),
            Mode::Body => Err("dump ended inside a routine, trigger or event".to_owned()),
            Mode::Statement | Mode::Quoted(..) => Err("dump ended inside a statement".to_owned()),
        }
    }
}

/// The name in backticks after one of `kinds` at the beginning of a statement.
fn named(head: &[u8], kinds: &[&str]) -> Option<String> {
    let rest = kinds.iter().find_map(|kind| head.strip_prefix(kind.as_bytes()))?;
    let mut name = Vec::new();
    let mut bytes = rest.iter().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'`', Some(b'`')) => {
                bytes.next();
                name.push(b'`');
            }
            (b'`', _) => return Some(String::from_utf8_lossy(&name).into_owned()),
            (byte, _) => name.push(*byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19\n--\n\n\
        /*!40101 SET @OLD=@@CHARACTER_SET_CLIENT */;\nUSE `shop`;\n\
        DROP TABLE IF EXISTS `users`;\nCREATE TABLE `users` (\n  `id` int COMMENT 'a; (b) \\' c',\n  `name` text\n) ENGINE=InnoDB;\n\
        LOCK TABLES `users` WRITE;\n\
        INSERT INTO `users` VALUES\n(1,'it\\'s; (x),(y)\\\\'),\n(2,'b''c (z'),\n(3,NULL);\n\
        INSERT INTO `users` VALUES (4,0xAB);\nUNLOCK TABLES;\n\
        CREATE TABLE `none``x` (`a` int);\n\
        CREATE TABLE `gen` (`a` int, `b` int);\nINSERT INTO `gen` (`a`) VALUES (1),(2);\n\
        DELIMITER ;;\nCREATE PROCEDURE p() BEGIN SELECT 'x;' ; -- it's\n INSERT INTO `users` VALUES (9); END ;;\nDELIMITER ;\n\
        /*!50001 VIEW `v` AS select `a` AS `a;b` from `gen` */;\n\
        /*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;\n\n-- Dump completed\n";

    fn judge(text: &str, piece: usize) -> Verdict {
        let mut dump = Dump::default();
        text.as_bytes().chunks(piece).for_each(|part| dump.push(part));
        dump.finish()
    }

    #[test]
    fn rows_are_counted_whatever_they_hold() {
        for piece in [1, 3, 64, 100_000] {
            let tables = judge(DUMP, piece).unwrap();
            let found: Vec<(&str, u64)> = tables.iter().map(|t| (t.name.as_str(), t.rows)).collect();
            assert_eq!(found, [("users", 4), ("none`x", 0), ("gen", 2)], "{piece}");
            let rows = &DUMP[tables[0].offset as usize..][..tables[0].bytes as usize];
            assert!(rows.starts_with("INSERT INTO `users` VALUES\n(1") && rows.ends_with("(4,0xAB);"), "{rows}");
        }
    }

    #[test]
    fn no_shorter_dump_is_whole() {
        for at in 0..DUMP.len() {
            assert!(judge(&DUMP[..at], 4096).is_err(), "cut at {at}: {:?}", &DUMP[at.saturating_sub(40)..at]);
        }
        assert_eq!(
            judge(&DUMP[..DUMP.find("),\n(2").unwrap()], 9),
            Err("dump ended inside table users after 1 rows".into())
        );
        let more = format!("{DUMP}DROP TABLE `x`;\n");
        assert_eq!(judge(&more, 99), Err("something follows the dump's trailer".to_owned()));
    }
}
