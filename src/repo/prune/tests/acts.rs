//! What the actors of a history do.

use super::*;

impl History {
    pub(super) fn create(&self, actor: usize) -> Result<()> {
        let repository = self.open(actor)?;
        let before = repository.snapshots()?;
        repository.sync_for_writing(&Quiet::default())?;
        let session = Session::begin(&repository, 1)?;
        let mut sink = session.sink(PackKind::Data)?;
        let mut needs: Needs<PackRef> = Needs::default();
        let mut chunks = Vec::new();
        for _ in 0..=self.roll(4) {
            let content = [self.roll(CONTENTS) as u8; 300];
            let stored = sink.put(&content)?;
            needs.add(stored.pack, stored.segment);
            chunks.push(stored.id);
            if self.roll(2) == 0 {
                sink.end_segment()?;
            }
        }
        sink.finish()?;
        session.checkpoint()?;
        let (host, stack) = (format!("host-{}", actor.min(1)), "stack".to_owned());
        let wall = self.actors[actor].moment().wall_seconds;
        let mut manifest = Manifest {
            version: 1,
            requires: Vec::new(),
            repository: repository.id(),
            predecessors: before.heads(&host, &stack),
            time: format!("{:.6}", jiff::Timestamp::from_second(wall).unwrap_or_default()),
            host,
            stack,
            tags: Vec::new(),
            note: String::new(),
            tool: "test".to_owned(),
            project: None,
            git: None,
            complete: self.roll(8) > 0,
            sources: Vec::new(),
            coverage: Vec::new(),
            warnings: Vec::new(),
            stats: Stats::default(),
            needs: Vec::new(),
        };
        let id = session.commit(&needs, &mut manifest)?;
        self.say(format!("acknowledged {}", id.short()));
        let known = if lock(&self.forgotten).contains(&id) { Known::Open } else { Known::Kept };
        lock(&self.kept).push((id, chunks, known));
        Ok(())
    }

    pub(super) fn stamp() -> Stamp {
        Stamp { time: "2026-01-01T00:00:00.000000Z".to_owned(), host: "h".to_owned() }
    }

    pub(super) fn know(&self, id: SnapshotId, known: Known) {
        for one in lock(&self.kept).iter_mut().filter(|one| one.0 == id) {
            one.2 = known;
        }
    }

    pub(super) fn forget(&self, actor: usize) -> Result<()> {
        let repository = self.open(actor)?;
        let set = repository.snapshots()?;
        let chosen: Vec<SnapshotId> = set.snapshots.iter().map(|s| s.id).filter(|_| self.roll(2) == 0).collect();
        lock(&self.forgotten).extend(&chosen);
        for id in &chosen {
            self.know(*id, Known::Open);
        }
        let snapshots = chosen.iter().map(|id| ForgottenSnapshot { id: *id, reason: String::new() }).collect();
        repository.forget(&set, &Forgetting { snapshots, accepted: Vec::new() }, &Self::stamp()).map(drop)
    }

    pub(super) fn undelete(&self, actor: usize) -> Result<()> {
        let repository = self.open(actor)?;
        let set = repository.snapshots()?;
        if set.forgotten.is_empty() {
            return Ok(());
        }
        let id = set.forgotten[self.roll(set.forgotten.len() as u64) as usize].id;
        repository.undelete(&set, &[id], &Self::stamp())?;
        // Another may have forgotten it once more meanwhile, and a mark that is seen late cannot be undone.
        if self.fresh().snapshots().is_ok_and(|set| set.snapshots.iter().any(|s| s.id == id)) {
            self.say(format!("taken back {}", id.short()));
            self.know(id, Known::Kept);
        }
        Ok(())
    }

    pub(super) fn prune(&self, actor: usize) -> Result<()> {
        let repository = self.open(actor)?;
        let options = PruneOptions {
            dry_run: self.roll(10) == 0,
            supposed: &[],
            despite_damage: false,
            delay_seconds: DAY,
            orphan_seconds: 2 * DAY,
            share_max: 0.5,
            repack_below: [0.0, 0.5, 0.9][self.roll(3) as usize],
            confirm: &|_| true,
            stamp: Self::stamp(),
        };
        let report = prune(&repository, &options, &self.actors[actor], &Quiet::default())?;
        *lock(&self.deleted) += report.deleted.packs + report.deleted.snapshots;
        *lock(&self.repacked) += if report.dry_run { 0 } else { report.repacked.packs };
        Ok(())
    }

    pub(super) fn time_passes(&self) -> Result<()> {
        let passed = [3600, DAY + 1, DAY + 1, 3 * DAY][self.roll(4) as usize];
        lock(&self.world).now += passed;
        Ok(())
    }

    pub(super) fn something_happens(&self, actor: usize) -> Result<()> {
        match self.roll(3) {
            0 => lock(&self.world).skew = [0, -2_000_000, 50_000_000, -3_600][self.roll(4) as usize],
            1 => {
                let mut world = lock(&self.world);
                world.boot += 1;
                world.booted = world.now;
            }
            _ => {
                let _ = std::fs::remove_dir_all(&self.actors[actor].catalog);
            }
        }
        Ok(())
    }
}
