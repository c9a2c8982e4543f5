//! What is asked of the catalog and written into it.

use super::lookup::{Located, tag};
use super::{Catalog, Result};
use crate::id::{IndexId, PackId, SnapshotId};
use crate::monitor::lock;
use crate::pack::{IndexedPack, Origin, PackKind};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// What the catalog knows of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The catalog's number for it.
    pub number: u32,
    /// Its name.
    pub id: PackId,
    /// Its size in the store, in bytes.
    pub sealed_bytes: u64,
    /// What its chunks are pieces of.
    pub kind: PackKind,
    /// False if it is missing, cut short or known to be damaged.
    pub usable: bool,
}

/// A manifest that was once read and found genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// Its manifest, as it was opened.
    pub manifest: Vec<u8>,
}

fn insert_pack(transaction: &Transaction<'_>, pack: &IndexedPack) -> rusqlite::Result<u32> {
    let bytes = i64::try_from(pack.sealed_bytes).unwrap_or(i64::MAX);
    let number: u32 = transaction
        .prepare_cached(
            "INSERT INTO pack (name, bytes, kind, present) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes, present = max(present, 1) RETURNING no",
        )?
        .query_row(params![pack.id.0, bytes, pack.footer.kind as u8], |row| row.get(0))?;
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO segment VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (segment, at) in pack.footer.segments.iter().zip(0u32..) {
        let offset = i64::try_from(segment.offset).unwrap_or(i64::MAX);
        insert.execute(params![number, at, segment.codec as u8, offset, segment.stored_len, segment.plain_len])?;
    }
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO origin VALUES (?1, ?2, ?3, ?4)")?;
    for (segment, at) in pack.footer.segments.iter().zip(0u32..) {
        for origin in &segment.origins {
            insert.execute(params![origin.pack.0, origin.segment, number, at])?;
        }
    }
    Ok(number)
}

/// Rows of `chunk` in the order of their ids: random ids inserted in order touch each page once.
fn insert_chunks(transaction: &Transaction<'_>, packs: &[IndexedPack], numbers: &[u32]) -> rusqlite::Result<()> {
    let mut rows = Vec::new();
    for (pack, number) in packs.iter().zip(numbers) {
        for (at, segment) in pack.footer.segments.iter().enumerate() {
            for (offset, chunk) in segment.placed() {
                let segment = u32::try_from(at).unwrap_or(u32::MAX);
                rows.push((chunk.id, Located { pack: *number, segment, offset, len: chunk.len }));
            }
        }
    }
    rows.sort_unstable_by_key(|(id, place)| (*id, place.pack));
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (id, place) in &rows {
        insert.execute(params![id.0, place.pack, place.segment, place.offset, place.len, tag(id, *place)])?;
    }
    Ok(())
}

impl Catalog {
    /// The index objects whose content the catalog has.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn indexes(&self) -> Result<HashSet<IndexId>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the index objects");
        let mut query = connection.prepare("SELECT name FROM index_object").map_err(&failed)?;
        let rows = query.query_map([], |row| row.get::<_, [u8; 32]>(0)).map_err(&failed)?;
        rows.map(|row| row.map(IndexId)).collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Remembers the content of an index object.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn add_index(&self, id: IndexId, packs: &[IndexedPack]) -> Result<()> {
        let mut connection = lock(&self.connection);
        let failed = self.failed("add an index object");
        let mut add = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let numbers =
                packs.iter().map(|pack| insert_pack(&transaction, pack)).collect::<rusqlite::Result<Vec<_>>>()?;
            insert_chunks(&transaction, packs, &numbers)?;
            transaction.execute("INSERT OR IGNORE INTO index_object VALUES (?1)", params![id.0])?;
            transaction.commit()
        };
        add().map_err(failed)?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Forgets all chunks and packs, so that they are learnt again; pack numbers stay as they are.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn forget_packs(&self) -> Result<()> {
        let connection = lock(&self.connection);
        let batch = "BEGIN IMMEDIATE; DELETE FROM chunk; DELETE FROM segment; DELETE FROM origin;
                     DELETE FROM index_object; UPDATE pack SET present = 0; COMMIT;";
        connection.execute_batch(batch).map_err(self.failed("forget the packs"))?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// All packs that the index objects name.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn packs(&self) -> Result<Vec<PackRow>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the packs");
        let mut query = connection
            .prepare("SELECT no, name, bytes, kind, present FROM pack WHERE present > 0 ORDER BY no")
            .map_err(&failed)?;
        let rows = query
            .query_map([], |row| {
                let kind = if row.get::<_, u8>(3)? == 1 { PackKind::Tree } else { PackKind::Data };
                let bytes: i64 = row.get(2)?;
                let sealed_bytes = u64::try_from(bytes).unwrap_or(0);
                let usable = row.get::<_, u8>(4)? == 1;
                Ok(PackRow { number: row.get(0)?, id: PackId(row.get(1)?), sealed_bytes, kind, usable })
            })
            .map_err(&failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// The segments that are copies of others, each with the place that it was copied from.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn copies(&self) -> Result<Vec<(Origin, Origin)>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read which segments have moved");
        let mut query = connection
            .prepare(
                "SELECT origin.name, origin.segment, pack.name, origin.at FROM origin JOIN pack ON no = origin.pack
                 WHERE present > 0",
            )
            .map_err(&failed)?;
        let rows = query
            .query_map([], |row| {
                let from = Origin { pack: PackId(row.get(0)?), segment: row.get(1)? };
                Ok((from, Origin { pack: PackId(row.get(2)?), segment: row.get(3)? }))
            })
            .map_err(&failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Says which packs cannot be relied on; all others can.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn set_unusable(&self, packs: &HashSet<PackId>) -> Result<()> {
        let mut connection = lock(&self.connection);
        let failed = self.failed("mark packs");
        let mut mark = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("UPDATE pack SET present = 1 WHERE present = 2", [])?;
            for pack in packs {
                let mut update = transaction.prepare_cached("UPDATE pack SET present = 2 WHERE name = ?1")?;
                update.execute([&pack.0[..]])?;
            }
            transaction.commit()
        };
        mark().map_err(failed)?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Packs that a check has found damaged at this place, and when (seconds since 1970).
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn bad_packs(&self) -> Result<std::collections::HashMap<PackId, i64>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the damaged packs");
        let mut query = connection.prepare("SELECT pack, at FROM bad WHERE place = ?1").map_err(&failed)?;
        let rows =
            query.query_map([&self.place.bytes], |row| Ok((PackId(row.get(0)?), row.get(1)?))).map_err(&failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// How many chunks the catalog knows.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn has_chunks(&self) -> Result<bool> {
        let connection = lock(&self.connection);
        let found = connection.query_row("SELECT 1 FROM chunk LIMIT 1", [], |_| Ok(())).optional();
        Ok(found.map_err(self.failed("look for chunks"))?.is_some())
    }

    /// One manifest, if it is known.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotRow>> {
        let connection = lock(&self.connection);
        let mut query = connection
            .prepare_cached("SELECT manifest FROM snapshot WHERE name = ?1")
            .map_err(self.failed("look for a snapshot"))?;
        let manifest = query.query_row([id.0], |row| row.get(0)).optional().map_err(self.failed("read a snapshot"))?;
        Ok(manifest.map(|manifest| SnapshotRow { id, manifest }))
    }

    /// The manifests, in no order.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the snapshots");
        let mut query = connection.prepare("SELECT name, manifest FROM snapshot").map_err(&failed)?;
        let rows = query
            .query_map([], |row| Ok(SnapshotRow { id: SnapshotId(row.get(0)?), manifest: row.get(1)? }))
            .map_err(&failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Remembers manifests.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn add_snapshots(&self, rows: &[SnapshotRow]) -> Result<()> {
        let mut connection = lock(&self.connection);
        let failed = self.failed("add snapshots");
        let mut add = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for row in rows {
                let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO snapshot VALUES (?1, ?2)")?;
                insert.execute(params![row.id.0, row.manifest])?;
            }
            transaction.commit()
        };
        add().map_err(failed)
    }

    /// The snapshots that were seen at this place.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn sightings(&self) -> Result<HashSet<SnapshotId>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the snapshots seen");
        let mut query = connection.prepare("SELECT name FROM sighting WHERE place = ?1").map_err(&failed)?;
        let rows = query.query_map([&self.place.address], |row| row.get::<_, [u8; 32]>(0)).map_err(&failed)?;
        rows.map(|row| row.map(SnapshotId)).collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Remembers that these snapshots were seen at this place.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn add_sightings(&self, ids: &[SnapshotId]) -> Result<()> {
        let mut connection = lock(&self.connection);
        let mut add = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in ids {
                let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO sighting VALUES (?1, ?2)")?;
                insert.execute(params![self.place.address, id.0])?;
            }
            transaction.commit()
        };
        add().map_err(self.failed("add snapshots seen"))
    }

    /// When each pack's content was last read at this place and found right: seconds since 1970.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn readings(&self) -> Result<std::collections::HashMap<PackId, i64>> {
        let connection = lock(&self.connection);
        let failed = self.failed("read the verification ledger");
        let mut query = connection.prepare("SELECT pack, at FROM reading WHERE place = ?1").map_err(&failed)?;
        let rows =
            query.query_map([&self.place.bytes], |row| Ok((PackId(row.get(0)?), row.get(1)?))).map_err(&failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Notes at `at` (seconds since 1970) that `good` packs were read whole and are sound, and that
    /// `bad` ones are damaged.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn note_readings(&self, good: &[PackId], bad: &[PackId], at: i64) -> Result<()> {
        let mut connection = lock(&self.connection);
        let failed = self.failed("write the verification ledger");
        let mut note = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (packs, into, out_of) in [(good, "reading", "bad"), (bad, "bad", "reading")] {
                let mut insert = transaction.prepare(&format!("INSERT OR REPLACE INTO {into} VALUES (?1, ?2, ?3)"))?;
                let mut delete =
                    transaction.prepare(&format!("DELETE FROM {out_of} WHERE place = ?1 AND pack = ?2"))?;
                for pack in packs {
                    insert.execute(params![self.place.bytes, pack.0, at])?;
                    delete.execute(params![self.place.bytes, pack.0])?;
                }
            }
            transaction.commit()
        };
        note().map_err(failed)
    }

    /// A value kept under `key`, if there is one.
    ///
    /// # Errors
    /// The catalog is damaged.
    pub fn value(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let connection = lock(&self.connection);
        let found = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional();
        found.map_err(self.failed("read a value"))
    }

    /// Keeps `value` under `key`.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn set_value(&self, key: &str, value: &[u8]) -> Result<()> {
        let connection = lock(&self.connection);
        let done = connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value]);
        done.map(|_| ()).map_err(self.failed("write a value"))
    }
}
