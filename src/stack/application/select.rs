//! What of an application is captured, and what stands still meanwhile.

use crate::repo::manifest::{Level, SourceKind};
use std::collections::BTreeSet;

/// `--only KIND[:NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    /// Which kind.
    pub kind: SourceKind,
    /// Which one of it; all if absent.
    pub name: Option<String>,
}

impl Only {
    /// Reads `files`, `volume:media`, `image`, `db:app`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        let kind = match kind {
            "files" | "file" => SourceKind::Files,
            "volume" | "volumes" => SourceKind::Volume,
            "image" | "images" => SourceKind::Image,
            "database" | "databases" | "db" => SourceKind::Database,
            _ => return None,
        };
        let name = name.map(str::to_owned);
        name.as_deref().is_none_or(|name| !name.is_empty()).then_some(Self { kind, name })
    }

    /// True if it means this one, which goes by any of `names`.
    pub fn means(&self, kind: SourceKind, names: &[&str]) -> bool {
        self.kind == kind && self.name.as_deref().is_none_or(|name| names.contains(&name))
    }

    /// As it is written.
    pub fn text(&self) -> String {
        match &self.name {
            Some(name) => format!("{}:{name}", self.kind.word()),
            None => self.kind.word().to_owned(),
        }
    }
}

/// True if something of `kind`, which goes by any of `names`, is selected.
pub fn is_selected(only: &[Only], kind: SourceKind, names: &[&str]) -> bool {
    only.is_empty() || only.iter().any(|only| only.means(kind, names))
}

/// True if it is selected by its own name.
pub fn is_named(only: &[Only], kind: SourceKind, names: &[&str]) -> bool {
    only.iter().any(|only| only.name.is_some() && only.means(kind, names))
}

/// Which services stand still while what they write to is captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stops {
    /// Stopped.
    pub stop: BTreeSet<String>,
    /// Paused.
    pub pause: BTreeSet<String>,
}

impl Stops {
    /// True if nothing does.
    pub fn is_empty(&self) -> bool {
        self.stop.is_empty() && self.pause.is_empty()
    }

    /// True if the service does.
    pub fn holds(&self, service: &str) -> bool {
        self.stop.contains(service) || self.pause.contains(service)
    }
}

/// A running container that can write to something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// Its service; empty for a container that is not the project's.
    pub service: String,
    /// Its name.
    pub container: String,
    /// True if it is paused already.
    pub paused: bool,
}

/// How consistent a copy is that is made while `writers` are there, except those that stand still.
pub fn level_of(writers: &BTreeSet<Writer>, stops: &Stops) -> Level {
    let level = |writer: &Writer| match writer {
        _ if stops.stop.contains(&writer.service) => Level::Stopped,
        _ if writer.paused || stops.pause.contains(&writer.service) => Level::Paused,
        _ => Level::Live,
    };
    writers.iter().map(level).max().unwrap_or(Level::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_consistent_as_its_worst_writer() {
        let writer = |service: &str, paused| Writer { service: service.into(), container: service.into(), paused };
        let stops = Stops { stop: ["web".to_owned()].into(), pause: ["job".to_owned()].into() };
        let of = |writers: &[Writer]| level_of(&writers.iter().cloned().collect(), &stops);
        assert_eq!(of(&[]), Level::Stopped);
        assert_eq!(of(&[writer("web", false)]), Level::Stopped);
        assert_eq!(of(&[writer("web", false), writer("job", false)]), Level::Paused);
        assert_eq!(of(&[writer("other", true)]), Level::Paused);
        assert_eq!(of(&[writer("web", false), writer("", false)]), Level::Live);
    }

    #[test]
    fn what_is_selected_is_read() {
        let volume = Only::parse("volume:media").unwrap();
        assert!(volume.means(SourceKind::Volume, &["clinic_media", "media"]));
        assert!(!volume.means(SourceKind::Volume, &["x"]) && !volume.means(SourceKind::Image, &["media"]));
        assert_eq!(Only::parse("db:app").unwrap().kind, SourceKind::Database);
        for wrong in ["", "volume:", "table:x"] {
            assert!(Only::parse(wrong).is_none(), "{wrong}");
        }
        assert!(is_selected(&[], SourceKind::Files, &["x"]) && !is_named(&[], SourceKind::Files, &["x"]));
    }
}
