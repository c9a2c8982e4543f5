//! Which parts of a snapshot are brought back: `--only`, and what that means for its sources.

use crate::repo::manifest::{DatabaseDetail, Detail, Manifest, SourceEntry, SourceKind};
use std::path::Path;

/// One part, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// `.env` and what stood in for it.
    Env,
    /// All folders, or one.
    Files(Option<String>),
    /// One file or folder of the project's folder.
    File(String),
    /// All images, or that of a service or tag.
    Image(Option<String>),
    /// All volumes, or one.
    Volume(Option<String>),
    /// All databases, or one, or a table of one.
    Database(Option<String>, Option<String>),
}

impl Part {
    /// `env`, `files`, `file:PATH`, `image[:NAME]`, `volume[:NAME]`, `db[:NAME[/TABLE]]`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name.to_owned())));
        if name.as_deref() == Some("") {
            return None;
        }
        match (kind, name) {
            ("env", None) => Some(Self::Env),
            ("files", name) => Some(Self::Files(name)),
            ("file", Some(path)) => Some(Self::File(path)),
            ("image" | "images", name) => Some(Self::Image(name)),
            ("volume" | "volumes", name) => Some(Self::Volume(name)),
            ("db" | "database" | "databases", None) => Some(Self::Database(None, None)),
            ("db" | "database", Some(name)) => match name.split_once('/') {
                Some((name, table)) => Some(Self::Database(Some(name.to_owned()), Some(table.to_owned()))),
                None => Some(Self::Database(Some(name), None)),
            },
            _ => None,
        }
    }
}

/// A source, and which paths of it; all of it if empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted<'m> {
    /// The source.
    pub source: &'m SourceEntry,
    /// Paths in it.
    pub only: Vec<Vec<u8>>,
}

/// The sources that `parts` name; all if there are none.
///
/// # Errors
/// A part that the snapshot does not have: a sentence.
pub fn choose<'m>(manifest: &'m Manifest, parts: &[Part]) -> Result<Vec<Wanted<'m>>, String> {
    let whole = |source| Wanted { source, only: Vec::new() };
    if parts.is_empty() {
        return Ok(manifest.sources.iter().map(whole).collect());
    }
    let mut out: Vec<Wanted<'m>> = Vec::new();
    for part in parts {
        of_part(manifest, part)?.into_iter().for_each(|new| add(&mut out, new));
    }
    Ok(out)
}

/// Adds what is wanted to `all`: what is wanted of one source stands in one place, and all of it comes before a part.
pub(super) fn add<'m>(all: &mut Vec<Wanted<'m>>, new: Wanted<'m>) {
    match all.iter_mut().find(|known| std::ptr::eq(known.source, new.source)) {
        Some(known) if known.only.is_empty() || new.only.is_empty() => known.only.clear(),
        Some(known) => {
            let unknown: Vec<Vec<u8>> = new.only.into_iter().filter(|path| !known.only.contains(path)).collect();
            known.only.extend(unknown);
        }
        None => all.push(new),
    }
}

fn of_part<'m>(manifest: &'m Manifest, part: &Part) -> Result<Vec<Wanted<'m>>, String> {
    let by = |kind: SourceKind, name: &Option<String>| {
        let fits =
            |source: &&SourceEntry| source.kind == kind && name.as_ref().is_none_or(|name| is_called(source, name));
        let found = manifest.sources.iter().filter(fits);
        found.map(|source| Wanted { source, only: Vec::new() }).collect::<Vec<_>>()
    };
    let (found, what) = match part {
        Part::Env => (env_files(manifest), "no .env".to_owned()),
        Part::File(path) => (file(manifest, path).into_iter().collect(), format!("no folder that {path} is in")),
        Part::Files(name) => (by(SourceKind::Files, name), named("folder", name)),
        Part::Image(name) => (by(SourceKind::Image, name), named("image", name)),
        Part::Volume(name) => (by(SourceKind::Volume, name), named("volume", name)),
        Part::Database(Some(name), None) => (database(manifest, name)?, format!("no database {name}")),
        Part::Database(name, _) => (by(SourceKind::Database, name), named("database", name)),
    };
    if found.is_empty() { Err(format!("the snapshot has {what}")) } else { Ok(found) }
}

/// A server by its service, or by the name of the one database that it holds: all of a server comes back together.
fn database<'m>(manifest: &'m Manifest, name: &str) -> Result<Vec<Wanted<'m>>, String> {
    let servers = || manifest.sources.iter().filter(|source| source.kind == SourceKind::Database);
    let detail = |source: &'m SourceEntry| match &source.detail {
        Some(Detail::Database(detail)) => Some((source, detail)),
        _ => None,
    };
    let whole = |source| vec![Wanted { source, only: Vec::new() }];
    let is_service = |found: &(&SourceEntry, &DatabaseDetail)| found.0.name == name || found.1.service == name;
    if let Some((source, _)) = servers().filter_map(detail).find(is_service) {
        return Ok(whole(source));
    }
    let holds = |found: &(&SourceEntry, &DatabaseDetail)| found.1.dumps.iter().any(|dump| dump.database == name);
    let Some((source, found)) = servers().filter_map(detail).find(holds) else { return Ok(Vec::new()) };
    let others = found.dumps.iter().filter(|dump| dump.database != name && !dump.tables.is_empty());
    let others: Vec<&str> = others.map(|dump| dump.database.as_str()).collect();
    match others.is_empty() {
        true => Ok(whole(source)),
        false => Err(format!(
            "{name} in a server that also holds {}, and all of a server comes back together: --only db:{}",
            others.join(", "),
            found.service
        )),
    }
}

fn named(kind: &str, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("no {kind} {name}"),
        None => format!("no {kind}"),
    }
}

fn is_called(source: &SourceEntry, name: &str) -> bool {
    let is = |text: &String| text == name;
    source.name == name
        || match &source.detail {
            Some(Detail::Volume(volume)) => volume.volume == name,
            Some(Detail::Image(image)) => image.services.iter().any(is) || image.tags.iter().any(is),
            Some(Detail::Database(database)) => {
                database.service == name || database.dumps.iter().any(|dump| dump.database == name)
            }
            None => source.root == name,
        }
}

/// The folder of the project itself.
pub fn project_folder(manifest: &Manifest) -> Option<&SourceEntry> {
    let directory = manifest.project.as_ref().map(|project| project.directory.as_str());
    let folders = || manifest.sources.iter().filter(|source| source.kind == SourceKind::Files);
    folders().find(|source| Some(source.root.as_str()) == directory).or_else(|| folders().next())
}

fn env_files(manifest: &Manifest) -> Vec<Wanted<'_>> {
    let listed = manifest.project.iter().flat_map(|project| &project.env_files);
    let directory = manifest.project.as_ref().map(|project| format!("{}/.env", project.directory));
    listed.chain(&directory).filter_map(|path| file(manifest, path)).collect()
}

fn file<'m>(manifest: &'m Manifest, path: &str) -> Option<Wanted<'m>> {
    let path = Path::new(path);
    let within = |source: &'m SourceEntry| {
        let rest = if path.is_absolute() { path.strip_prefix(&source.root).ok()? } else { path };
        let bytes = rest.as_os_str().as_encoded_bytes();
        let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
        crate::repo::entry::is_valid_path(bytes).then(|| Wanted { source, only: vec![bytes.to_vec()] })
    };
    if !path.is_absolute() {
        return project_folder(manifest).and_then(within);
    }
    let folders = manifest.sources.iter().filter(|source| source.kind == SourceKind::Files);
    // The one that is nearest.
    folders.filter_map(within).max_by_key(|wanted| wanted.source.root.len())
}

#[cfg(test)]
mod tests {
    use super::{Part, choose};
    use crate::repo::manifest::{Authority, DatabaseDetail, Detail, Dump, DumpedTable, Manifest, SourceEntry};

    fn server(service: &str, databases: &[(&str, u64)]) -> SourceEntry {
        let table = |rows| DumpedTable { name: "t".to_owned(), rows, offset: None, bytes: None };
        let dump = |(name, rows): &(&str, u64)| Dump {
            file: String::new(),
            database: (*name).to_owned(),
            tables: if *rows > 0 { vec![table(*rows)] } else { Vec::new() },
        };
        let detail = DatabaseDetail {
            engine: "postgresql".to_owned(),
            version: String::new(),
            service: service.to_owned(),
            authority: Authority::Dump,
            dumps: databases.iter().map(dump).collect(),
        };
        let json = serde_json::json!({
            "kind": "database", "name": service, "root": "", "level": "dump", "tree": { "level": 0, "chunks": [] },
            "entries": 0, "files": 0, "bytes": 0, "new_bytes": 0
        });
        SourceEntry { detail: Some(Detail::Database(detail)), ..serde_json::from_value(json).unwrap() }
    }

    #[test]
    fn all_of_a_server_comes_back_together() {
        let json = serde_json::json!({
            "version": 1, "repository": "00".repeat(32), "predecessors": [], "time": "", "host": "", "stack": "", "tags": [],
            "note": "", "tool": "", "complete": true, "sources": [], "coverage": [], "warnings": [], "needs": [],
            "stats": { "files": 0, "files_changed": 0, "bytes_read": 0, "bytes_new": 0, "bytes_stored": 0, "seconds": 0.0 }
        });
        let sources =
            vec![server("db", &[("", 0), ("postgres", 0), ("shop", 5)]), server("sql", &[("a", 1), ("b", 2)])];
        let manifest = Manifest { sources, ..serde_json::from_value(json).unwrap() };
        let chosen = |text: &str| {
            choose(&manifest, &[Part::parse(text).unwrap()])
                .map(|all| all.iter().map(|wanted| wanted.source.name.clone()).collect::<Vec<_>>())
        };
        for text in ["db:db", "db:shop"] {
            assert_eq!(chosen(text), Ok(vec!["db".to_owned()]), "{text}");
        }
        assert_eq!(chosen("db:sql"), Ok(vec!["sql".to_owned()]));
        assert!(chosen("db:a").unwrap_err().contains("also holds b"));
        assert_eq!(chosen("db:none"), Err("the snapshot has no database none".to_owned()));
    }

    #[test]
    fn parts_are_read() {
        let text = |text: &str| Some(text.to_owned());
        for (said, part) in [
            ("env", Part::Env),
            ("files", Part::Files(None)),
            ("file:conf/app.ini", Part::File("conf/app.ini".to_owned())),
            ("image:web", Part::Image(text("web"))),
            ("volume:static", Part::Volume(text("static"))),
            ("db:app", Part::Database(text("app"), None)),
            ("db:app/public.users", Part::Database(text("app"), text("public.users"))),
        ] {
            assert_eq!(Part::parse(said), Some(part), "{said}");
        }
        for wrong in ["", "env:x", "file", "file:", "volume:", "x", "db:"] {
            assert_eq!(Part::parse(wrong), None, "{wrong}");
        }
    }
}
