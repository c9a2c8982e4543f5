//! A table of MariaDB or MySQL that is gone, made again by the statements of its dump.
//!
//! No transaction of these servers can make a table. So it is made under another name, filled, proven, given its triggers,
//! and only then gets its own name, in one step. Whatever ends the client before that, the table of the other name is
//! dropped: a shell in the container, which outlives whoever began this, does it. Where the server itself has ended, the
//! next time begins with dropping it.

use super::super::client::Client;
use super::super::error::{Error, Result};
use super::super::mariadb::{Tools, USERS};
use super::TEXT_BYTES_MAX;
use super::mariadb_table::{Key, Side, conditions, keys_of, quoted, settings};
use super::table::{Part, Table, Words, outline};
use crate::repo::Repository;
use crate::stack::source::content::FileContent;
use std::io::{self, Read};

/// How the other name begins.
const PREFIX: &str = "snap_restore_";
/// Runs the client that follows, then lets one like it say the first argument.
const DROPS_AT_END: &str = "drop=$1; shift; \"$@\"; code=$?; printf '%s\\n' \"$drop\" | \"$@\"; exit $code";

/// What the client is told before and after the rows.
pub(super) fn words(
    client: &Client<'_>,
    tools: &Tools<'_>,
    repository: &Repository,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<Words> {
    let refused = |reason: &str| Error::database(subject, format!("{reason}: it comes back with its database"));
    let (database, table) = (wanted.dump.database.as_str(), wanted.table.name.as_str());
    let place = other_name(database, table);
    let (text, rows_at) = read(repository, wanted)?;
    let section = section(&text, rows_at, table).ok_or_else(|| refused("its dump does not say how it is made"))?;
    let create = String::from_utf8_lossy(section.create);
    let made = create.strip_prefix(&format!("CREATE TABLE {}", quoted(table)));
    let made = made.ok_or_else(|| refused("its dump does not say how it is made"))?;
    let triggers = triggers(section.rest, &place).ok_or_else(|| refused("its triggers are not understood"))?;
    let mut keys = keys_in(&create, database, table).ok_or_else(|| refused("its foreign keys are not understood"))?;
    keys.extend(keys_of(client, tools, subject, database, table, Side::Parent)?);
    let (prepared, checked) = conditions(wanted, &place, keys.iter().map(|key| key.broken(database, table, &place)));
    let grants = grants(client, tools, repository, wanted, subject)?;
    let (own, other) = (quoted(table), quoted(&place));
    let drop = format!("DROP TABLE IF EXISTS {}.{other};", quoted(database));
    let first = settings(database);
    let before = format!("{first}{drop}\n{prepared}CREATE TABLE {other}{made}START TRANSACTION;\n");
    let after = format!("\n{checked}COMMIT;\n{triggers}\n{first}RENAME TABLE {other} TO {own};\n{grants}");
    let shell = ["sh", "-c", DROPS_AT_END, "sh", &drop].map(str::to_owned);
    Ok(Words {
        argv: shell.into_iter().chain(tools.query_argv()).collect(),
        before: before.into(),
        after: after.into(),
        renamed: Some((format!("INSERT INTO {own} "), format!("INSERT INTO {other} "))),
    })
}

/// The same each time, so that one that was left behind is found.
fn other_name(database: &str, table: &str) -> String {
    let sum = blake3::hash(&[database.as_bytes(), b"\0", table.as_bytes()].concat()).to_hex();
    format!("{PREFIX}{}", &sum.as_str()[..16])
}

/// The dump without any rows, and where in it those of the table were.
fn read(repository: &Repository, wanted: &Table<'_>) -> Result<(Vec<u8>, Option<usize>)> {
    let (mut text, mut rows_at) = (Vec::new(), None);
    outline(repository, wanted, &mut |part| match part {
        Part::Bytes(bytes) => text.extend_from_slice(bytes),
        Part::Rows => rows_at = Some(text.len()),
    })?;
    Ok((text, rows_at))
}

/// What a dump says of one table.
struct Section<'a> {
    /// The statement that makes it.
    create: &'a [u8],
    /// All after its rows.
    rest: &'a [u8],
}

/// Lines at which the part of another thing begins.
const OTHERS: [&[u8]; 8] = [
    b"DROP TABLE IF EXISTS ",
    b"-- Table structure for ",
    b"-- Temporary ",
    b"-- Dumping events ",
    b"-- Dumping routines ",
    b"-- Final view ",
    b"-- Sequence structure ",
    b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE",
];

fn section<'a>(text: &'a [u8], rows_at: Option<usize>, table: &str) -> Option<Section<'a>> {
    let head = format!("CREATE TABLE {} ", quoted(table)).into_bytes();
    let (mut at, mut in_body) = (0, false);
    let (mut create, mut end) = (None, None);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let next = at + line.len();
        match line.trim_ascii_end() {
            b"DELIMITER ;" => in_body = false,
            line if line.starts_with(b"DELIMITER ") => in_body = true,
            line if !in_body => match create {
                None if line.starts_with(&head) => create = Some(at),
                // Texts in the statement have no lines of their own.
                Some(_) if end.is_none() && line.ends_with(b";") => end = Some(next),
                Some(from) if end.is_some() && OTHERS.iter().any(|other| line.starts_with(other)) => {
                    let rest = &text[end?.max(rows_at.unwrap_or(0))..at];
                    return Some(Section { create: &text[from..end?], rest });
                }
                _ => {}
            },
            _ => {}
        }
        at = next;
    }
    None
}

/// The triggers, on the table `place`; `None` if one is not understood.
fn triggers(rest: &[u8], place: &str) -> Option<String> {
    let rest = std::str::from_utf8(rest).ok()?;
    let mut out = String::new();
    let mut body: Option<String> = None;
    for line in rest.lines() {
        match (line, &mut body) {
            ("DELIMITER ;", Some(text)) => {
                out.push_str(&retargeted(text, place)?);
                out.push_str("DELIMITER ;\n");
                body = None;
            }
            (line, Some(text)) => {
                text.push_str(line);
                text.push('\n');
            }
            ("DELIMITER ;;", None) => {
                out.push_str("DELIMITER ;;\n");
                body = Some(String::new());
            }
            (line, None) if line.starts_with("/*!50003 SET ") => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    body.is_none().then_some(out)
}

/// The statement of a trigger with another table after its `ON`.
fn retargeted(text: &str, place: &str) -> Option<String> {
    let start = text.find("TRIGGER ")?;
    let mut at = start + "TRIGGER ".len();
    let end_of_name = |from: usize| {
        let rest = &text[from..];
        match rest.strip_prefix('`') {
            Some(inner) => identifier(inner).map(|(_, after)| text.len() - after.len()),
            None => rest.find(|c: char| c.is_whitespace() || c == '.' || c == '(').map(|len| from + len),
        }
    };
    let blank = |from: usize| text.len() - text[from..].trim_start().len();
    loop {
        let from = blank(at);
        let to = end_of_name(from).filter(|to| *to > from)?;
        at = to + usize::from(text[to..].starts_with('.'));
        if text[from..to].eq_ignore_ascii_case("on") {
            let first = blank(at);
            let mut last = end_of_name(first)?;
            if text[last..].starts_with('.') {
                last = end_of_name(last + 1)?;
            }
            return Some(format!("{}{}{}", &text[..first], quoted(place), &text[last..]));
        }
    }
}

/// The foreign keys that a `CREATE TABLE` names, a line each.
fn keys_in(create: &str, database: &str, table: &str) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    for line in create.lines().map(str::trim_start).filter(|line| line.starts_with("CONSTRAINT `")) {
        let (_, rest) = identifier(line.strip_prefix("CONSTRAINT `")?)?;
        let Some(rest) = rest.strip_prefix(" FOREIGN KEY ") else { continue };
        let (here, rest) = identifiers(rest)?;
        let (mut parent, mut rest) = identifier(rest.strip_prefix(" REFERENCES `")?)?;
        let mut schema = database.to_owned();
        if let Some(inner) = rest.strip_prefix(".`") {
            schema = std::mem::take(&mut parent);
            (parent, rest) = identifier(inner)?;
        }
        let (there, _) = identifiers(rest.strip_prefix(' ')?)?;
        if here.len() != there.len() {
            return None;
        }
        keys.push(Key {
            child: (database.to_owned(), table.to_owned()),
            parent: (schema, parent),
            columns: here.into_iter().zip(there).collect(),
        });
    }
    Some(keys)
}

/// Names in brackets, and what follows.
fn identifiers(text: &str) -> Option<(Vec<String>, &str)> {
    let mut rest = text.strip_prefix('(')?;
    let mut names = Vec::new();
    loop {
        let (name, after) = identifier(rest.trim_start().strip_prefix('`')?)?;
        names.push(name);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some((names, after.strip_prefix(')')?)),
        }
    }
}

/// A name up to its closing backtick, and what follows that.
fn identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        if char != '`' {
            name.push(char);
        } else if text[at + 1..].starts_with('`') {
            chars.next();
            name.push('`');
        } else {
            return Some((name, &text[at + 1..]));
        }
    }
    None
}

/// What users could do with this table alone, as far as they cannot do it now. Dropping a table takes no grants away.
fn grants(
    client: &Client<'_>,
    tools: &Tools<'_>,
    repository: &Repository,
    wanted: &Table<'_>,
    subject: &str,
) -> Result<String> {
    let unread = |error: io::Error| Error::database(subject, format!("{USERS} cannot be read: {error}"));
    let mut text = String::new();
    let content = FileContent::of(repository, &wanted.source.tree, USERS.as_bytes(), 1)?;
    content.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(unread)?;
    let about = format!(" ON {}.{} TO ", quoted(&wanted.dump.database), quoted(&wanted.table.name));
    let mut lacking = String::new();
    for line in text.lines().filter(|line| line.starts_with("GRANT ")) {
        let Some((_, to)) = line.split_once(&about) else { continue };
        let to = to.trim_end_matches(';');
        let to = to.split_once(" WITH GRANT OPTION").map_or(to, |(to, _)| to);
        let has = tools.query(client, subject, &format!("SHOW GRANTS FOR {to}"))?;
        if !has.iter().any(|has| *has == line.trim_end_matches(';')) {
            lacking.push_str(line);
            lacking.push('\n');
        }
    }
    Ok(lacking)
}

/// Rows whose statements name another table: each begins a line, and rows have none of their own.
pub(super) struct Renamed<R> {
    rows: R,
    from: Vec<u8>,
    to: Vec<u8>,
    /// How much of `from` has been seen at the beginning of the line; `None` inside of one.
    matched: Option<usize>,
    ready: Vec<u8>,
    at: usize,
}

impl<R: Read> Renamed<R> {
    /// Writes `to` where a line of `rows` begins with `from`.
    pub(super) fn new(rows: R, from: &str, to: &str) -> Self {
        let (from, to) = (from.into(), to.into());
        Self { rows, from, to, matched: Some(0), ready: Vec::new(), at: 0 }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            match self.matched {
                Some(count) if self.from.get(count) == Some(first) => {
                    self.matched = Some(count + 1);
                    bytes = rest;
                    if count + 1 == self.from.len() {
                        self.ready.extend_from_slice(&self.to);
                        self.matched = None;
                    }
                }
                Some(count) => {
                    self.ready.extend_from_slice(&self.from[..count]);
                    self.matched = None;
                }
                None => {
                    let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    self.ready.extend_from_slice(line);
                    self.matched = end.map(|_| 0);
                    bytes = rest;
                }
            }
        }
    }
}

impl<R: Read> Read for Renamed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            self.ready.clear();
            self.at = 0;
            let mut part = vec![0; 64 << 10];
            match self.rows.read(&mut part)? {
                0 => match self.matched.take() {
                    Some(count) if count > 0 => self.ready.extend_from_slice(&self.from[..count]),
                    _ => return Ok(0),
                },
                count => self.push(&part[..count]),
            }
        }
        let count = buffer.len().min(self.ready.len() - self.at);
        buffer[..count].copy_from_slice(&self.ready[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "DROP TABLE IF EXISTS `other`;\nCREATE TABLE `other` (\n  `id` int\n) ENGINE=InnoDB;\n\
        DELIMITER ;;\nCREATE TABLE `people` (\nEND ;;\nDELIMITER ;\n\n--\n-- Table structure for table `people`\n--\n\n\
        DROP TABLE IF EXISTS `people`;\n/*!40101 SET character_set_client = utf8mb4 */;\nCREATE TABLE `people` (\n  \
        `id` int(11) COMMENT 'a;',\n  `a``b` int,\n  CONSTRAINT `k` FOREIGN KEY (`id`, `a``b`) REFERENCES `far`.`x` (`p`, `q`),\n  \
        CONSTRAINT `c` CHECK (`id` > 0)\n) ENGINE=InnoDB;\n\nLOCK TABLES `people` WRITE;\n@\nUNLOCK TABLES;\n\
        /*!50003 SET sql_mode = '' */ ;\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER `on` \
        after insert\non shop.people FOR EACH ROW BEGIN\n-- Table structure for nobody\nINSERT INTO log SELECT 1 ON people; END */;;\n\
        DELIMITER ;\n/*!50003 SET sql_mode = @saved_sql_mode */ ;\n\n--\n-- Dumping events for database 'shop'\n--\n";

    #[test]
    fn a_section_is_what_makes_the_table() {
        let found = section(DUMP.as_bytes(), DUMP.find('@'), "people").expect("a section");
        let create = String::from_utf8(found.create.to_vec()).unwrap();
        assert!(
            create.starts_with("CREATE TABLE `people` (\n  `id`") && create.ends_with("ENGINE=InnoDB;\n"),
            "{create}"
        );
        let keys = keys_in(&create, "shop", "people").expect("keys");
        let columns = vec![("id".to_owned(), "p".to_owned()), ("a`b".to_owned(), "q".to_owned())];
        assert_eq!(keys.len(), 1);
        assert_eq!((keys[0].parent.clone(), &keys[0].columns), (("far".to_owned(), "x".to_owned()), &columns));
        let triggers = triggers(found.rest, "other name").expect("a trigger");
        assert!(
            triggers.contains("TRIGGER `on` after insert\non `other name` FOR EACH ROW BEGIN\n-- Table"),
            "{triggers}"
        );
        assert!(triggers.starts_with("/*!50003 SET sql_mode = '' */ ;\nDELIMITER ;;\n"), "{triggers}");
        assert!(triggers.contains("SELECT 1 ON people; END */;;\nDELIMITER ;\n/*!50003 SET"), "{triggers}");
        assert!(section(DUMP.as_bytes(), None, "nobody").is_none());
        let text = "DELIMITER ;;\nTRIGGER t\n";
        assert!(super::triggers(text.as_bytes(), "x").is_none(), "it has no end");
    }

    #[test]
    fn rows_go_to_another_table() {
        let rows =
            "INSERT INTO `people` VALUES\n(1,'INSERT INTO `people` '),\n(2,'x');\nINSERT INTO `peoples` x\nINSERT IN";
        let wanted = rows.replacen("INSERT INTO `people` V", "INSERT INTO `q` V", 1);
        for piece in [1, 2, 7, 1000] {
            let mut renamed = Renamed::new(Pieces(rows.as_bytes(), piece), "INSERT INTO `people` ", "INSERT INTO `q` ");
            let mut found = String::new();
            renamed.read_to_string(&mut found).unwrap();
            assert_eq!(found, wanted, "{piece}");
        }
    }

    struct Pieces(&'static [u8], usize);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.1);
            self.0.read(&mut buffer[..count])
        }
    }
}
