//! How much memory a prune takes, and how many index objects it leaves: `SNAP_SCALE=2000000` makes so many
//! chunks in 500 snapshots; a few thousand otherwise, to see that it goes.

use super::*;
use crate::store::LocalStore;

/// Snapshots, chunks of a segment and segments of a pack, and of how many snapshots before it each needs the packs.
const SNAPSHOTS: u64 = 500;
const SEGMENT_CHUNKS: u64 = 16;
const PACK_SEGMENTS: u64 = 32;
const WINDOW: usize = 250;

/// The most memory that the process has had since [`forget_peak`], in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

fn forget_peak() {
    // Where that is not allowed the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn manifest(repository: &Repository, before: Vec<SnapshotId>, number: u64) -> Manifest {
    Manifest {
        version: 1,
        requires: Vec::new(),
        repository: repository.id(),
        predecessors: before,
        time: format!("{:.6}", jiff::Timestamp::from_second(1_790_000_000 + number as i64).unwrap_or_default()),
        host: "h".to_owned(),
        stack: "s".to_owned(),
        tags: Vec::new(),
        note: String::new(),
        tool: "test".to_owned(),
        project: None,
        git: None,
        complete: true,
        sources: Vec::new(),
        coverage: Vec::new(),
        warnings: Vec::new(),
        stats: Stats::default(),
        needs: Vec::new(),
    }
}

/// Adds a snapshot with `chunks` new chunks, that needs the packs of those before it in `recent`, too.
fn grow(
    repository: &Repository,
    recent: &mut Vec<Needs<PackId>>,
    last: &mut Vec<SnapshotId>,
    number: u64,
    chunks: u64,
) {
    let session = Session::begin(repository, 1).unwrap();
    let mut own: Needs<PackRef> = Needs::default();
    let mut made = 0;
    while made < chunks {
        let mut sink = session.sink(PackKind::Data).unwrap();
        for at in 0..(PACK_SEGMENTS * SEGMENT_CHUNKS).min(chunks - made) {
            let stored = sink.put(format!("{:>64}", number * chunks + made + at).as_bytes()).unwrap();
            own.add(stored.pack, stored.segment);
            if (at + 1).is_multiple_of(SEGMENT_CHUNKS) {
                sink.end_segment().unwrap();
            }
        }
        made += PACK_SEGMENTS * SEGMENT_CHUNKS;
        sink.finish().unwrap();
    }
    session.checkpoint().unwrap();
    let names = session.pack_names().unwrap();
    let mut named = Needs::default();
    named.absorb(&own, |pack| names[&pack]);
    recent.push(named);
    let numbers: std::collections::HashMap<PackId, PackRef> =
        names.into_iter().map(|(number, id)| (id, number)).collect();
    let mut needs = Needs::default();
    for one in recent.iter().rev().take(WINDOW) {
        needs.absorb(one, |id| numbers[&id]);
    }
    let id = session.commit(&needs, &mut manifest(repository, std::mem::take(last), number)).unwrap();
    last.push(id);
}

#[test]
fn chunks_cost_a_prune_little_memory() {
    let wanted = std::env::var("SNAP_SCALE").ok().and_then(|text| text.parse::<u64>().ok());
    let (total, snapshots) = wanted.map_or((2_000, 50), |total| (total, SNAPSHOTS));
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = LocalStore::at(dir.path().join("repo"));
    store.create_layout().unwrap();
    let person = PersonRecipient::parse(RECIPIENT).unwrap();
    let created = "2026-01-01T00:00:00.000000Z";
    let key = crate::repo::keys::NewKey { name: "k", recipients: &[person], log_n: 1, created, strict: true };
    let secrets = crate::repo::initialise(&store, &key).unwrap();
    let open = |name: &str| {
        let store = Arc::new(LocalStore::at(dir.path().join("repo")));
        Repository::open(store, secrets.clone(), "k", &dir.path().join(name)).unwrap()
    };
    let repository = open("cache");
    let (mut recent, mut last) = (Vec::new(), Vec::new());
    repository.sync_for_writing(&Quiet::default()).unwrap();
    for number in 0..snapshots {
        grow(&repository, &mut recent, &mut last, number, total / snapshots);
    }
    drop((recent, repository));
    let repository = open("cache");
    let set = repository.snapshots().unwrap();
    let old = set.snapshots.iter().take(set.snapshots.len() * 3 / 5);
    let old = old.map(|s| ForgottenSnapshot { id: s.id, reason: String::new() }).collect();
    let stamp = || Stamp { time: created.to_owned(), host: "h".to_owned() };
    repository.forget(&set, &Forgetting { snapshots: old, accepted: Vec::new() }, &stamp()).unwrap();
    drop(set);
    let options = PruneOptions {
        dry_run: false,
        supposed: &[],
        despite_damage: false,
        delay_seconds: 0,
        orphan_seconds: 0,
        share_max: 0.5,
        repack_below: 0.5,
        confirm: &|_| true,
        stamp: stamp(),
    };
    let mut reports = Vec::new();
    for _ in 0..2 {
        forget_peak();
        let begun = std::time::Instant::now();
        reports.push(prune(&repository, &options, &SystemClock, &Quiet::default()).unwrap());
        let seconds = begun.elapsed().as_secs();
        eprintln!("{total} chunks, {snapshots} snapshots: pruned in {seconds} s with {} MiB", peak_mib());
    }
    assert!(reports[0].repacked.packs > 0 && reports[1].deleted.packs >= reports[0].repacked.packs, "{reports:?}");
    let indexes = repository.index_ids().unwrap().len();
    assert!(indexes <= 1 + total as usize / (crate::limits::INDEX_CHUNKS_TARGET / 4), "{indexes}");
    // Whoever begins with nothing reads so few objects, and finds everything that is kept.
    let fresh = open("fresh");
    fresh.sync_indexes(&Quiet::default()).unwrap();
    let mut reader = Reader::new(&fresh).unwrap();
    for number in [snapshots * 2 / 5, snapshots - 1] {
        let text = format!("{:>64}", number * (total / snapshots));
        let id = reader.name(text.as_bytes());
        assert_eq!(reader.chunk(&id).unwrap(), text.as_bytes());
    }
}
