//! Which parts of a snapshot are brought back: `--only`, and what that means for its sources.

use crate::repo::manifest::{Detail, Manifest, SourceEntry, SourceKind};
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
        let mut found = of_part(manifest, part)?;
        found.retain(|new| !out.iter().any(|known| known == new));
        out.extend(found);
    }
    Ok(out)
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
        Part::Database(name, _) => (by(SourceKind::Database, name), named("database", name)),
    };
    if found.is_empty() { Err(format!("the snapshot has {what}")) } else { Ok(found) }
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
    use super::Part;

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
