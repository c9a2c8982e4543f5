//! `snap prune`: frees what no snapshot needs.

use super::forget::stamp;
use super::{Env, Result};
use crate::id::SnapshotId;
use crate::repo::Repository;
use crate::repo::prune::{self, Deletion, PruneReport, SystemClock};

/// How to prune.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Seconds between marking and deleting.
    pub delay_seconds: u64,
    /// However much goes.
    pub confirmed: bool,
    /// Go on although something that snapshots need is lost.
    pub despite_damage: bool,
    /// Packs of which less than this share (0 to 1) is needed are copied, so that the rest goes.
    pub repack_below: f64,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            delay_seconds: DELAY_SECONDS,
            confirmed: false,
            despite_damage: false,
            repack_below: REPACK_BELOW,
        }
    }
}

/// Seconds between marking and deleting, if nothing else is asked for.
pub const DELAY_SECONDS: u64 = 86_400;

/// Below this share of needed bytes a pack is copied, if nothing else is asked for: then each copied byte
/// frees another one at the least.
pub const REPACK_BELOW: f64 = 0.5;

/// More than this share of the stored bytes goes only if a person confirms it.
pub const SHARE_MAX: f64 = 0.5;

/// Packs that no snapshot ever needed count as left behind after so many times the delay: until then
/// they may be of a capture that still runs.
const ORPHAN_DELAYS: u64 = 7;

/// Prunes. A dry run says what would be done if the snapshots `supposed` were forgotten too.
///
/// # Errors
/// The key is a writer's; not everything is known that has to be; the repository cannot be read or
/// written; the person stopped it.
pub fn prune(
    env: &Env,
    repository: &Repository,
    options: &PruneOptions,
    supposed: &[SnapshotId],
) -> Result<PruneReport> {
    let confirm = |deletion: &Deletion| {
        let megabytes = deletion.bytes.div_ceil(1_000_000);
        let question = format!(
            "{} snapshots and {} packs with {megabytes} MB are to go: more than half of what is stored. Go on?",
            deletion.snapshots, deletion.packs
        );
        options.confirmed || (!options.dry_run && env.prompt.confirm(&question, &format!("delete {megabytes} MB")))
    };
    let options = prune::PruneOptions {
        dry_run: options.dry_run,
        supposed,
        delay_seconds: options.delay_seconds,
        orphan_seconds: options.delay_seconds.saturating_mul(ORPHAN_DELAYS),
        share_max: SHARE_MAX,
        repack_below: options.repack_below,
        despite_damage: options.despite_damage,
        confirm: &confirm,
        stamp: stamp(),
    };
    Ok(prune::prune(repository, &options, &SystemClock, &*env.monitor)?)
}
