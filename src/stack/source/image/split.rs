//! A layer's own archive, put together again from what the engine keeps of it.
//!
//! When the engine unpacks a layer it keeps, beside the files, the bytes of the archive that are no
//! file's content: headers and padding, in their order (`tar-split.json.gz`, a JSON record a line).
//! Both together give the archive byte for byte, which the caller proves by its digest. The files are
//! opened below the layer's folder and never outside of it, whatever links an image has made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(rename = "type")]
    kind: u8,
    /// Bytes of a file's content.
    #[serde(default)]
    size: u64,
    #[serde(default, borrow)]
    name: Option<Cow<'a, str>>,
    /// A name that is no text, in base64.
    #[serde(default, borrow)]
    name_raw: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    payload: Option<Cow<'a, str>>,
}

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// What comes next of an archive.
enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A file's content.
    File { path: Vec<u8>, size: u64 },
}

/// The records of one layer, in order.
struct Records {
    lines: BufReader<MultiGzDecoder<BufReader<File>>>,
    line: Vec<u8>,
}

impl Records {
    fn open(path: &Path) -> io::Result<Self> {
        let lines = BufReader::with_capacity(64 << 10, MultiGzDecoder::new(BufReader::new(File::open(path)?)));
        Ok(Self { lines, line: Vec::new() })
    }

    fn next_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let read = self.lines.by_ref().take(RECORD_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        if read as u64 == RECORD_BYTES_MAX {
            return Err(damaged("a record is too long"));
        }
        Ok(read > 0)
    }

    fn record(&self) -> io::Result<Record<'_>> {
        serde_json::from_slice(&self.line).map_err(|_| damaged("a record is not understood"))
    }

    fn next(&mut self) -> io::Result<Option<Part>> {
        while self.next_line()? {
            let record = self.record()?;
            match record.kind {
                SEGMENT => return Ok(Some(Part::Bytes(decoded(record.payload.as_deref())?))),
                FILE if record.size > 0 => {
                    let path = match (record.name_raw, record.name) {
                        (Some(raw), _) if !raw.is_empty() => decoded(Some(&raw))?,
                        (_, Some(name)) => name.into_owned().into_bytes(),
                        _ => return Err(damaged("a file has no name")),
                    };
                    return Ok(Some(Part::File { path, size: record.size }));
                }
                FILE => {}
                _ => return Err(damaged("a record is of an unknown kind")),
            }
        }
        Ok(None)
    }

    /// Bytes of the archive that is left.
    fn total(&mut self) -> io::Result<u64> {
        let mut total = 0u64;
        while self.next_line()? {
            let record = self.record()?;
            let bytes = match record.kind {
                SEGMENT => payload_len(record.payload.as_deref().unwrap_or_default()),
                _ => record.size,
            };
            total = total.checked_add(bytes).ok_or_else(|| damaged("its size is impossible"))?;
        }
        Ok(total)
    }
}

fn decoded(text: Option<&str>) -> io::Result<Vec<u8>> {
    BASE64.decode(text.unwrap_or_default()).map_err(|_| damaged("a record is not base64"))
}

/// How many bytes padded base64 stands for.
fn payload_len(text: &str) -> u64 {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count() as u64;
    (text.len() as u64 / 4 * 3).saturating_sub(padding)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the engine's record of a layer is damaged: {what}"))
}

/// Bytes of the archive that `records` describe.
///
/// # Errors
/// They cannot be read or make no sense.
pub(super) fn archive_bytes(records: &Path) -> io::Result<u64> {
    Records::open(records)?.total()
}

/// Reads a layer's archive.
pub(super) struct Layer {
    records: Records,
    folder: OwnedFd,
    part: Current,
}

enum Current {
    None,
    Bytes { bytes: Vec<u8>, at: usize },
    File { file: File, left: u64 },
}

impl Layer {
    /// The layer whose files are in `folder`.
    ///
    /// # Errors
    /// Records or folder cannot be opened.
    pub fn open(records: &Path, folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        Ok(Self { records: Records::open(records)?, folder, part: Current::None })
    }

    fn open_file(&self, path: &[u8]) -> io::Result<File> {
        // A name may be written as if it were absolute. Nothing but regular files has content, and a
        // pipe must not make this wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let opened = openat2(&self.folder, OsStr::from_bytes(relative), flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let shown = || String::from_utf8_lossy(path).into_owned();
        let file = opened.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("the engine's store has no file {}: {error}", shown()))
        })?;
        Ok(File::from(file))
    }
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.part {
                Current::Bytes { bytes, at } if *at < bytes.len() => {
                    let count = buffer.len().min(bytes.len() - *at);
                    buffer[..count].copy_from_slice(&bytes[*at..*at + count]);
                    *at += count;
                    return Ok(count);
                }
                Current::File { file, left } if *left > 0 => {
                    let room = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                    let count = file.read(&mut buffer[..room])?;
                    if count == 0 {
                        return Err(damaged("a file in its store is shorter than it was"));
                    }
                    *left -= count as u64;
                    return Ok(count);
                }
                _ => match self.records.next()? {
                    None => return Ok(0),
                    Some(Part::Bytes(bytes)) => self.part = Current::Bytes { bytes, at: 0 },
                    Some(Part::File { path, size }) => {
                        self.part = Current::File { file: self.open_file(&path)?, left: size };
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write_records(path: &Path, lines: &[String]) {
        let mut out = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        lines.iter().for_each(|line| writeln!(out, "{line}").unwrap());
        out.finish().unwrap();
    }

    fn segment(bytes: &[u8]) -> String {
        format!(r#"{{"type":2,"payload":"{}","position":0}}"#, BASE64.encode(bytes))
    }

    #[test]
    fn an_archive_is_put_together_from_records_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let (records, folder) = (dir.path().join("records"), dir.path().join("diff"));
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::fs::write(folder.join("real/x"), "content").unwrap();
        std::fs::write(folder.join(OsStr::from_bytes(b"\xff")), "raw").unwrap();
        std::os::unix::fs::symlink("/real", folder.join("link")).unwrap();
        write_records(
            &records,
            &[
                segment(b"head-"),
                r#"{"type":1,"name":"./link/x","size":7,"payload":"AA==","position":1}"#.to_owned(),
                segment(b"-p"),
                r#"{"type":1,"name":"empty","payload":"","position":3}"#.to_owned(),
                r#"{"type":1,"name_raw":"/w==","size":3,"payload":"","position":4}"#.to_owned(),
                segment(b""),
                segment(b"-end"),
            ],
        );
        let mut text = String::new();
        Layer::open(&records, &folder).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "head-content-praw-end");
        assert_eq!(archive_bytes(&records).unwrap(), text.len() as u64);
    }

    #[test]
    fn no_image_makes_snap_read_outside_of_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        let (records, folder) = (dir.path().join("records"), dir.path().join("diff"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("direct")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let absolute = dir.path().join("secret").display().to_string();
        for name in ["../secret", "up/secret", "direct", &absolute, "pipe", "gone"] {
            write_records(&records, &[format!(r#"{{"type":1,"name":"{name}","size":6,"position":0}}"#)]);
            let outcome = Layer::open(&records, &folder).unwrap().read_to_end(&mut Vec::new());
            assert!(outcome.is_err(), "{name}");
        }
    }

    #[test]
    fn damaged_records_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("records");
        let broken = ["{", r#"{"type":9}"#, r#"{"type":2,"payload":"%"}"#, r#"{"type":1,"size":5}"#];
        for line in broken {
            write_records(&records, &[line.to_owned()]);
            let outcome = Layer::open(&records, dir.path()).unwrap().read_to_end(&mut Vec::new());
            assert!(outcome.is_err(), "{line}");
        }
        std::fs::write(&records, b"no gzip").unwrap();
        assert!(archive_bytes(&records).is_err());
    }
}
