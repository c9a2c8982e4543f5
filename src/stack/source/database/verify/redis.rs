//! Redis' own format, RDB: every key is walked, and the sum over all bytes compared.
//!
//! Values are strings or sequences of strings, so they can be stepped over without being understood.
//! Modules' values cannot; then the keys are not counted, and the sum and the end still decide.

use super::{FoundTable, Verdict};
use std::collections::BTreeMap;
use std::io::{self, Read};

/// A string of more is not believed.
const STRING_BYTES_MAX: u64 = 512 << 20;
/// What the server may send behind the dump to mark its end.
const END_MARK_BYTES: usize = 40;

/// A dump, and the keys in it that may vanish by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Databases with the number of their keys.
    pub tables: Vec<FoundTable>,
    /// Of each, how many keys have a time to live.
    pub volatile: BTreeMap<String, u64>,
}

/// Reads a dump to its end; `keep` gets its bytes, without an end mark that the server may add.
///
/// # Errors
/// The stream or `keep` fails. That the dump is not whole is the verdict's business.
pub fn walk(stream: &mut dyn Read, keep: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Result<Keys, String>> {
    let mut walker = Walker { stream, keep, buffer: Vec::new(), at: 0, read: 0, passed: 0, sum: 0, summing: true };
    match walker.dump() {
        Ok(keys) => walker.end().map(|end| end.map(|()| keys)),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Bad(reason)) => {
            walker.drain()?;
            Ok(Err(reason))
        }
    }
}

/// The verdict without the keys that may vanish.
pub fn verdict(found: Result<Keys, String>) -> Verdict {
    found.map(|keys| keys.tables)
}

enum Stop {
    Io(io::Error),
    Bad(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn bad(reason: impl Into<String>) -> Stop {
    Stop::Bad(reason.into())
}

type Walk<T> = Result<T, Stop>;

struct Walker<'a> {
    stream: &'a mut dyn Read,
    keep: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    buffer: Vec<u8>,
    /// The next byte of the buffer, and how many are there.
    at: usize,
    read: usize,
    passed: u64,
    sum: u64,
    summing: bool,
}

impl Walker<'_> {
    fn fill(&mut self) -> Walk<()> {
        self.buffer.resize(64 << 10, 0);
        self.at = 0;
        self.read = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if self.read == 0 {
            let what =
                if self.passed == 0 { "the dump is empty".to_owned() } else { "dump ended before its end".to_owned() };
            return Err(bad(what));
        }
        Ok(())
    }

    /// Passes `count` bytes on; the first of them go into `out`.
    fn pass(&mut self, mut count: u64, out: &mut [u8]) -> Walk<()> {
        let mut filled = 0;
        while count > 0 {
            if self.at == self.read {
                self.fill()?;
            }
            let take = usize::try_from(count).unwrap_or(usize::MAX).min(self.read - self.at);
            let part = &self.buffer[self.at..self.at + take];
            let copy = take.min(out.len() - filled);
            out[filled..filled + copy].copy_from_slice(&part[..copy]);
            filled += copy;
            if self.summing {
                self.sum = crc64(self.sum, part);
            }
            (self.keep)(part)?;
            self.at += take;
            self.passed += take as u64;
            count -= take as u64;
        }
        Ok(())
    }

    fn byte(&mut self) -> Walk<u8> {
        let mut out = [0];
        self.pass(1, &mut out)?;
        Ok(out[0])
    }

    fn skip(&mut self, count: u64) -> Walk<()> {
        self.pass(count, &mut [])
    }

    /// A length, or the number of a special encoding.
    fn length_or_encoding(&mut self) -> Walk<Result<u64, u8>> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Ok(u64::from(first & 0x3f)),
            1 => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => {
                let mut out = [0; 4];
                self.pass(4, &mut out)?;
                Ok(u64::from(u32::from_be_bytes(out)))
            }
            2 if first == 0x81 => {
                let mut out = [0; 8];
                self.pass(8, &mut out)?;
                Ok(u64::from_be_bytes(out))
            }
            3 => Err(first & 0x3f),
            _ => return Err(bad("the dump holds a length of an unknown kind")),
        })
    }

    fn length(&mut self) -> Walk<u64> {
        self.length_or_encoding()?.map_err(|_| bad("the dump holds a text where a length belongs"))
    }

    fn string(&mut self) -> Walk<()> {
        let bytes = match self.length_or_encoding()? {
            Ok(length) => length,
            Err(0) => 1,
            Err(1) => 2,
            Err(2) => 4,
            Err(3) => {
                let packed = self.length()?;
                self.length()?;
                packed
            }
            Err(_) => return Err(bad("the dump holds a text of an unknown encoding")),
        };
        if bytes > STRING_BYTES_MAX {
            return Err(bad("the dump holds a text that is impossibly long"));
        }
        self.skip(bytes)
    }

    fn strings(&mut self, count: u64) -> Walk<()> {
        (0..count).try_for_each(|_| self.string())
    }

    /// Steps over a value; false if it is of a kind that cannot be stepped over.
    fn value(&mut self, kind: u8) -> Walk<bool> {
        match kind {
            0 | 9..=13 | 16 | 17 | 20 => self.string()?,
            1 | 2 | 14 => {
                let count = self.length()?;
                self.strings(count)?;
            }
            4 => {
                let count = self.length()?;
                self.strings(count.saturating_mul(2))?;
            }
            3 | 5 => {
                for _ in 0..self.length()? {
                    self.string()?;
                    let bytes = if kind == 5 { 8 } else { old_double(self.byte()?) };
                    self.skip(bytes)?;
                }
            }
            18 => {
                for _ in 0..self.length()? {
                    self.length()?;
                    self.string()?;
                }
            }
            15 | 19 | 21 => self.stream(kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn stream(&mut self, kind: u8) -> Walk<()> {
        let nodes = self.length()?;
        self.strings(nodes.saturating_mul(2))?;
        for _ in 0..if kind == 15 { 3 } else { 8 } {
            self.length()?;
        }
        for _ in 0..self.length()? {
            self.string()?;
            for _ in 0..if kind == 15 { 2 } else { 3 } {
                self.length()?;
            }
            // Entries that were delivered and not acknowledged, for the group and for each consumer.
            for _ in 0..self.length()? {
                self.skip(16 + 8)?;
                self.length()?;
            }
            for _ in 0..self.length()? {
                self.string()?;
                self.skip(if kind == 21 { 16 } else { 8 })?;
                let pending = self.length()?;
                self.skip(pending.saturating_mul(16))?;
            }
        }
        Ok(())
    }

    fn dump(&mut self) -> Walk<Keys> {
        let mut magic = [0; 9];
        self.pass(9, &mut magic)?;
        if !magic.starts_with(b"REDIS") || !magic[5..].iter().all(u8::is_ascii_digit) {
            return Err(bad("the dump does not begin as Redis' dumps do"));
        }
        let mut keys = Keys { tables: Vec::new(), volatile: BTreeMap::new() };
        let mut database = "db0".to_owned();
        let mut expires = false;
        loop {
            match self.byte()? {
                0xff => break,
                0xfe => database = format!("db{}", self.length()?),
                0xfb => {
                    self.length()?;
                    self.length()?;
                }
                0xfa => self.strings(2)?,
                0xfd => {
                    self.skip(4)?;
                    expires = true;
                }
                0xfc => {
                    self.skip(8)?;
                    expires = true;
                }
                0xf8 => {
                    self.length()?;
                }
                0xf9 => self.skip(1)?,
                // A library of functions.
                0xf5 => self.string()?,
                kind => {
                    let offset = self.passed - 1;
                    self.string()?;
                    if !self.value(kind)? {
                        return Err(bad(format!("the dump holds a value of a kind that is not known ({kind})")));
                    }
                    count(&mut keys, &database, offset, self.passed, expires);
                    expires = false;
                }
            }
        }
        self.summing = false;
        let mut stored = [0; 8];
        self.pass(8, &mut stored)?;
        let stored = u64::from_le_bytes(stored);
        // A server that is told not to compute the sum writes none.
        if stored != 0 && stored != self.sum {
            return Err(bad("the dump's sum over its bytes is wrong"));
        }
        Ok(keys)
    }

    /// Nothing but an end mark may follow.
    fn end(&mut self) -> io::Result<Result<(), String>> {
        let mut rest = self.read - self.at;
        rest += self.drain()?;
        Ok(if rest == 0 || rest == END_MARK_BYTES {
            Ok(())
        } else {
            Err("something follows the dump's end".to_owned())
        })
    }

    fn drain(&mut self) -> io::Result<usize> {
        let (mut count, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn count(keys: &mut Keys, database: &str, offset: u64, end: u64, expires: bool) {
    if keys.tables.last().is_none_or(|table| table.name != database) {
        let (schema, name) = (String::new(), database.to_owned());
        keys.tables.push(FoundTable { schema, name, rows: 0, offset, bytes: 0 });
    }
    if let Some(table) = keys.tables.last_mut() {
        table.rows += 1;
        table.bytes = end - table.offset;
    }
    if expires {
        *keys.volatile.entry(database.to_owned()).or_default() += 1;
    }
}

/// How long a number is that is written as text, by its first byte.
fn old_double(first: u8) -> u64 {
    if first >= 253 { 0 } else { u64::from(first) }
}

/// CRC-64 as Redis computes it ("Jones"), continued from `sum`.
fn crc64(sum: u64, bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut value = at as u64;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    bytes.iter().fold(sum, |sum, byte| TABLE[usize::from((sum as u8) ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two keys in database 0, one of which expires, and one in database 3.
    fn dump() -> Vec<u8> {
        let mut out = b"REDIS0011".to_vec();
        out.extend(b"\xfa\x09redis-ver\x057.2.4\xfe\x00\xfb\x02\x01");
        out.extend(b"\x00\x01a\x05hello");
        out.extend(b"\xfc\0\0\0\0\0\0\0\x01\x04\x01h\x01\x01f\xc0\x07");
        out.extend(b"\xfe\x03\xfb\x01\x00\x12\x01l\x01\x02\x03xyz");
        out.push(0xff);
        let sum = crc64(0, &out);
        out.extend(sum.to_le_bytes());
        out
    }

    fn judge(mut bytes: &[u8]) -> (Result<Keys, String>, Vec<u8>) {
        let mut kept = Vec::new();
        let found = walk(&mut bytes, &mut |part| {
            kept.extend_from_slice(part);
            Ok(())
        });
        (found.unwrap(), kept)
    }

    #[test]
    fn the_sum_is_redis_own() {
        // The check value that Redis' own sources give.
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn keys_are_counted_and_an_end_mark_is_not_kept() {
        let (found, kept) = judge(&[dump(), vec![b'x'; 40]].concat());
        let found = found.unwrap();
        let rows: Vec<(&str, u64)> = found.tables.iter().map(|t| (t.name.as_str(), t.rows)).collect();
        assert_eq!(rows, [("db0", 2), ("db3", 1)]);
        assert_eq!(found.volatile, BTreeMap::from([("db0".to_owned(), 1)]));
        assert_eq!(kept, dump());
        assert!(judge(&[dump(), vec![b'x'; 39]].concat()).0.is_err());
    }

    #[test]
    fn nothing_shorter_and_nothing_changed_is_whole() {
        let whole = dump();
        for at in 0..whole.len() {
            assert!(judge(&whole[..at]).0.is_err(), "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            assert!(judge(&changed).0.is_err(), "changed at {at}");
        }
        assert_eq!(judge(b"").0, Err("the dump is empty".to_owned()));
    }
}
