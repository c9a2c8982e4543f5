//! The file-state cache: what the last capture saw, so that unchanged files are not read again.
//!
//! A flat local file in canonical order, read side by side with the new scan, never as a whole:
//! memory stays flat for any number of files. It is worth nothing to a restore and can be deleted.
//! A wrong one could make a changed file pass for unchanged, so it is bound to the repository's
//! secret by a keyed hash over every byte, checked before the first record is believed.
//!
//! ```text
//! record*  u32 packs  32-byte pack names  trailer
//! record:  entry as in a tree, more extents with it   inode  signed(ctime s)  ctime ns  size
//!          string(fingerprint of side files)  { pack number  segment }, one for each chunk
//! trailer: u64 records' bytes  i64 start s  u32 start ns  u64 records  32-byte hash  "SNST0001"
//! ```

use super::entry::{Entry, Extent, Node, Time, compare_paths};
use super::record::{EXTENTS_PER_RECORD, Record, put_entry, put_more, take_record};
use super::wire::{Wire, put_bytes, put_number, put_signed};
use super::writer::PackRef;
use crate::fs::PRIVATE_FILE;
use crate::id::PackId;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SNST0001";
const TRAILER: usize = 8 + 8 + 4 + 8 + 32 + 8;
/// Records are read in pieces of this size, in bytes.
const BUFFER: usize = 256 << 10;
/// The longest record that is read: a file of a million extents.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// What a file looked like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileStat {
    /// Inode number.
    pub inode: u64,
    /// Time of last change of content or attributes.
    pub ctime: Time,
    /// Size as the file system tells it, in bytes.
    pub size: u64,
    /// What lies beside it and belongs to it (a database's log), in the capturer's own words.
    pub beside: Vec<u8>,
}

/// A record of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    /// The entry as the tree has it.
    pub entry: Entry,
    /// What it looked like.
    pub stat: FileStat,
    /// For each chunk among the extents, where it is.
    pub places: Vec<(PackRef, u32)>,
}

/// Writes a new cache beside the old one.
pub struct StateWriter {
    path: PathBuf,
    hidden: PathBuf,
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    start: Time,
    previous: Vec<u8>,
    record: Vec<u8>,
    bytes: u64,
    records: u64,
    numbers: HashMap<PackRef, u32>,
    packs: Vec<PackRef>,
}

impl StateWriter {
    /// A cache that will take the place of `path`; `start` is when the capture began, by the clock
    /// that stamps the files.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(path: &Path, key: &[u8; 32], start: Time) -> io::Result<Self> {
        let hidden = path.with_extension(format!("{}.new", crate::fs::random_hex()?));
        let file = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(&hidden)?;
        Ok(Self {
            path: path.to_path_buf(),
            hidden,
            out: BufWriter::with_capacity(BUFFER, file),
            hasher: blake3::Hasher::new_keyed(key),
            start,
            previous: Vec::new(),
            record: Vec::new(),
            bytes: 0,
            records: 0,
            numbers: HashMap::new(),
            packs: Vec::new(),
        })
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// The disk is full.
    pub fn add(&mut self, record: &StateRecord) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.record);
        bytes.clear();
        put_entry(&mut bytes, &self.previous, &record.entry);
        let path = &record.entry.path;
        if let Node::File(extents) = &record.entry.node {
            let more: Vec<&[Extent]> = extents.chunks(EXTENTS_PER_RECORD).skip(1).collect();
            put_number(&mut bytes, more.len() as u64);
            for extents in more {
                put_more(&mut bytes, path, path, extents);
            }
        }
        put_number(&mut bytes, record.stat.inode);
        put_signed(&mut bytes, record.stat.ctime.seconds);
        put_number(&mut bytes, u64::from(record.stat.ctime.nanos));
        put_number(&mut bytes, record.stat.size);
        put_bytes(&mut bytes, &record.stat.beside);
        put_number(&mut bytes, record.places.len() as u64);
        for (pack, segment) in &record.places {
            put_number(&mut bytes, u64::from(self.number(*pack)));
            put_number(&mut bytes, u64::from(*segment));
        }
        self.previous.clone_from(path);
        let mut framed = Vec::with_capacity(5);
        put_number(&mut framed, bytes.len() as u64);
        self.write(&framed)?;
        self.write(&bytes)?;
        self.bytes += (framed.len() + bytes.len()) as u64;
        self.records += 1;
        self.record = bytes;
        Ok(())
    }

    fn number(&mut self, pack: PackRef) -> u32 {
        let packs = &mut self.packs;
        *self.numbers.entry(pack).or_insert_with(|| {
            packs.push(pack);
            u32::try_from(packs.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    /// Ends the cache and puts it in the place of the old one.
    ///
    /// # Errors
    /// The disk is full; the old cache is still there.
    pub fn finish(mut self, names: &HashMap<PackRef, PackId>) -> io::Result<()> {
        let packs = std::mem::take(&mut self.packs);
        self.write(&u32::try_from(packs.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        for pack in packs {
            let name = names.get(&pack).copied().unwrap_or(PackId([0; 32]));
            self.write(&name.0)?;
        }
        let (bytes, start, records) = (self.bytes, self.start, self.records);
        self.write(&bytes.to_le_bytes())?;
        self.write(&start.seconds.to_le_bytes())?;
        self.write(&start.nanos.to_le_bytes())?;
        self.write(&records.to_le_bytes())?;
        let hash = self.hasher.finalize();
        self.out.write_all(hash.as_bytes())?;
        self.out.write_all(MAGIC)?;
        self.out.flush()?;
        std::fs::rename(&self.hidden, &self.path)
    }
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        // After `finish` the hidden name is gone, and this finds nothing.
        let _ = std::fs::remove_file(&self.hidden);
    }
}

/// Reads a cache in step with a scan.
pub struct StateReader {
    input: BufReader<io::Take<File>>,
    start: Time,
    packs: Vec<Option<u32>>,
    previous: Vec<u8>,
    next: Option<StateRecord>,
    record: Vec<u8>,
}

impl StateReader {
    /// Opens the cache `path`. `None` where there is none, or none that was written whole under
    /// `key`. `number` gives a pack's number in the catalog if the repository still has it.
    pub fn open(path: &Path, key: &[u8; 32], number: &dyn Fn(&PackId) -> Option<u32>) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let (bytes, start, packs) = verify(&mut file, key, number)?;
        file.seek(SeekFrom::Start(0)).ok()?;
        let mut reader = Self {
            input: BufReader::with_capacity(BUFFER, file.take(bytes)),
            start,
            packs,
            previous: Vec::new(),
            next: None,
            record: Vec::new(),
        };
        reader.next = reader.read();
        Some(reader)
    }

    /// When the capture that wrote it began.
    pub fn start(&self) -> Time {
        self.start
    }

    /// The record of `path`, if there is one. Paths are asked for in canonical order.
    pub fn take(&mut self, path: &[u8]) -> Option<StateRecord> {
        loop {
            match compare_paths(&self.next.as_ref()?.entry.path, path) {
                Ordering::Less => self.next = self.read(),
                Ordering::Equal => {
                    let found = self.next.take();
                    self.next = self.read();
                    return found;
                }
                Ordering::Greater => return None,
            }
        }
    }

    fn read(&mut self) -> Option<StateRecord> {
        let len = self.read_length()?;
        let mut bytes = std::mem::take(&mut self.record);
        bytes.resize(len, 0);
        self.input.read_exact(&mut bytes).ok()?;
        let record = self.decode(&bytes);
        self.record = bytes;
        let record = record?;
        self.previous.clone_from(&record.entry.path);
        Some(record)
    }

    fn read_length(&mut self) -> Option<usize> {
        let mut length = 0usize;
        for shift in (0..35).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return (length <= RECORD_BYTES_MAX).then_some(length);
            }
        }
        None
    }

    fn decode(&self, bytes: &[u8]) -> Option<StateRecord> {
        let mut wire = Wire::new(bytes);
        let Ok(Record::Entry(mut entry)) = take_record(&mut wire, &self.previous) else { return None };
        if let Node::File(extents) = &mut entry.node {
            for _ in 0..wire.number().ok()? {
                match take_record(&mut wire, &entry.path).ok()? {
                    Record::More(_, more) => extents.extend(more),
                    Record::Entry(_) => return None,
                }
            }
        }
        let inode = wire.number().ok()?;
        let ctime = Time { seconds: wire.signed().ok()?, nanos: wire.small().ok()? };
        let size = wire.number().ok()?;
        let beside = wire.bytes(bytes.len()).ok()?.to_vec();
        let stat = FileStat { inode, ctime, size, beside };
        let count = wire.number().ok()?;
        let mut places = Vec::new();
        let mut lost = false;
        for _ in 0..count {
            let pack = self.packs.get(wire.small().ok()? as usize)?;
            let segment = wire.small().ok()?;
            match pack {
                Some(number) => places.push((PackRef::Known(*number), segment)),
                None => lost = true,
            }
        }
        if lost {
            // A chunk's pack is gone: the file must be read again. Inode 0 fits no file.
            return Some(StateRecord { entry, stat: FileStat::default(), places: Vec::new() });
        }
        Some(StateRecord { entry, stat, places })
    }
}

type Verified = (u64, Time, Vec<Option<u32>>);

fn verify(file: &mut File, key: &[u8; 32], number: &dyn Fn(&PackId) -> Option<u32>) -> Option<Verified> {
    let len = file.metadata().ok()?.len();
    let body = len.checked_sub(TRAILER as u64)?;
    let mut trailer = [0; TRAILER];
    file.seek(SeekFrom::Start(body)).ok()?;
    file.read_exact(&mut trailer).ok()?;
    let (fields, seal) = trailer.split_at(28);
    let (hash, magic) = seal.split_at(32);
    if magic != MAGIC {
        return None;
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update_reader(Read::by_ref(file).take(body + 28)).ok()?;
    if hasher.finalize().as_bytes() != hash {
        return None;
    }
    let u64_at = |at: usize| fields.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let bytes = u64_at(0)?;
    let seconds = u64_at(8)? as i64;
    let nanos = fields.get(16..20).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)?;
    file.seek(SeekFrom::Start(bytes)).ok()?;
    let mut table = Vec::new();
    Read::by_ref(file).take(body.checked_sub(bytes)?).read_to_end(&mut table).ok()?;
    let names = table.get(4..)?;
    let packs = names.chunks_exact(32).map(|name| {
        let mut id = [0; 32];
        id.copy_from_slice(name);
        number(&PackId(id))
    });
    Some((bytes, Time { seconds, nanos }, packs.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::samples;
    use super::*;

    fn write(path: &Path, key: &[u8; 32]) -> Vec<StateRecord> {
        let mut writer = StateWriter::new(path, key, Time { seconds: 100, nanos: 5 }).unwrap();
        let mut records = Vec::new();
        for (at, entry) in samples().into_iter().enumerate() {
            let chunks = match &entry.node {
                Node::File(extents) => extents.iter().filter(|e| e.chunk().is_some()).count(),
                _ => 0,
            };
            let stat = FileStat { inode: at as u64 + 1, size: 7, beside: vec![1, 2], ..FileStat::default() };
            let places = vec![(PackRef::Known(4), at as u32); chunks];
            records.push(StateRecord { entry, stat, places });
            writer.add(&records[at]).unwrap();
        }
        writer.finish(&HashMap::from([(PackRef::Known(4), PackId([4; 32]))])).unwrap();
        records
    }

    #[test]
    fn records_come_back_in_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let records = write(&path, &[1; 32]);
        let number = |id: &PackId| (id.0 == [4; 32]).then_some(4);
        let mut reader = StateReader::open(&path, &[1; 32], &number).unwrap();
        assert_eq!(reader.start(), Time { seconds: 100, nanos: 5 });
        assert_eq!(reader.take(b""), Some(records[0].clone()));
        assert_eq!(reader.take(b"a/b"), Some(records[2].clone()));
        assert_eq!(reader.take(b"a/bb"), None);
        assert_eq!(reader.take(b"f"), Some(records[6].clone()));
        assert_eq!(reader.take(b"h"), Some(records[8].clone()));
        assert_eq!(reader.take(b"i"), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_in_a_lost_pack_fits_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, &[1; 32]);
        let mut reader = StateReader::open(&path, &[1; 32], &|_| None).unwrap();
        assert_eq!(reader.take(b"a/b").unwrap().stat.inode, 0);
    }

    #[test]
    fn every_changed_byte_and_every_other_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, &[1; 32]);
        assert!(StateReader::open(&path, &[2; 32], &|_| Some(1)).is_none());
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            std::fs::write(&path, &changed).unwrap();
            assert!(StateReader::open(&path, &[1; 32], &|_| Some(1)).is_none(), "{at}");
        }
    }
}
