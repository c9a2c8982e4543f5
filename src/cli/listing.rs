//! The entries of a snapshot, a line each as they come, or one JSON document of all.

use super::exit::Exit;
use super::render::Output;
use super::text;
use crate::commands::show::{ListedEntry, WRITE_OUT};
use crate::commands::{Error, Result};
use std::io::Write as _;

/// Entries that are printed as they come.
pub struct Listing {
    output: Output,
    entries: Vec<ListedEntry>,
}

impl Listing {
    pub(super) fn new(output: Output) -> Self {
        Self { output, entries: Vec::new() }
    }

    /// One more.
    ///
    /// # Errors
    /// Standard output refuses.
    pub fn entry(&mut self, entry: &ListedEntry) -> Result<()> {
        if self.output.json {
            self.entries.push(entry.clone());
            return Ok(());
        }
        let target = entry.target.as_ref().map(|to| format!(" → {to}")).unwrap_or_default();
        let line = format!(
            "{}{} {:>6} {:>6} {:>10}  {}{target}\n",
            entry.kind,
            mode_text(entry.mode),
            entry.uid,
            entry.gid,
            entry.size,
            entry.path
        );
        std::io::stdout().lock().write_all(line.as_bytes()).map_err(|source| Error::Path {
            operation: WRITE_OUT,
            path: "standard output".into(),
            source,
        })
    }

    /// Ends the listing.
    pub fn finish(self, lost: &[String]) -> Exit {
        for what in lost.iter().take(self.output.limit()) {
            text::tell(&format!("damage: {what}"));
        }
        if lost.len() > self.output.limit() {
            text::tell(&format!("… and {} more (-v shows them all)", lost.len() - self.output.limit()));
        }
        let exit = if lost.is_empty() { Exit::Done } else { Exit::Damage };
        if !self.output.json {
            return exit;
        }
        let document = serde_json::json!({ "entries": self.entries, "lost": lost });
        self.output.give(&document, exit, |_, _| {})
    }
}

/// Permission bits as `ls` shows them.
fn mode_text(mode: u32) -> String {
    let mut out = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::mode_text;

    #[test]
    fn modes_look_as_ls_shows_them() {
        assert_eq!(mode_text(0o755), "rwxr-xr-x");
        assert_eq!(mode_text(0o4750), "rwsr-x---");
        assert_eq!(mode_text(0o1777), "rwxrwxrwt");
        assert_eq!(mode_text(0o2644), "rw-r-Sr--");
    }
}
