//! What becomes of files and folders of the host: the project's own folder, and what is mounted from elsewhere.
//!
//! What lies in the project's folder is captured with it. Everything else that takes part becomes a source of its
//! own: a folder, or single files of one folder. The host's own system is left out: nobody wants `/etc/localtime`,
//! `/var/run/docker.sock` or `/` put back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What is below these is the host's own.
const SYSTEM: [&str; 14] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/boot",
    "/etc/ssl/certs",
    "/var/lib/docker",
    "/var/lib/containerd",
];
/// These are the host's own as they are; what is below them may not be.
const SYSTEM_EXACT: [&str; 20] = [
    "/",
    "/etc",
    "/var",
    "/var/lib",
    "/var/log",
    "/home",
    "/root",
    "/tmp",
    "/opt",
    "/srv",
    "/mnt",
    "/media",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/machine-id",
];

/// What a path of the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below the project's folder.
    Inside,
    /// A folder elsewhere.
    Folder(PathBuf),
    /// A file elsewhere.
    File(PathBuf),
    /// Nothing that is captured, and why.
    Left(&'static str),
    /// It cannot be captured, and why.
    Closed(String),
}

/// What `path` is to a project in `root`. Links are followed: what is mounted is what they lead to.
pub fn place_of(path: &Path, root: &Path) -> Place {
    let is_system = |path: &Path| {
        SYSTEM_EXACT.iter().any(|system| path == Path::new(system))
            || SYSTEM.iter().any(|system| path.starts_with(system))
    };
    let real = match std::fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Place::Left("nothing is there"),
        Err(error) => return Place::Closed(error.to_string()),
    };
    let is_own = real.starts_with(root);
    if !is_own && (is_system(path) || is_system(&real)) {
        return Place::Left("it belongs to the host's own system");
    }
    let Ok(kind) = std::fs::metadata(&real).map(|found| found.file_type()) else {
        return Place::Closed("it cannot be looked at".to_owned());
    };
    if kind.is_socket() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        return Place::Left("it is a socket, a pipe or a device");
    }
    if is_own {
        return Place::Inside;
    }
    if kind.is_dir() { Place::Folder(real) } else { Place::File(real) }
}

/// Sources outside the project's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Whole folders; none lies in another.
    pub folders: BTreeSet<PathBuf>,
    /// Single files by their folders.
    pub files: BTreeMap<PathBuf, BTreeSet<String>>,
}

/// Joins places outside: what lies in a folder that is captured whole is captured with it.
pub fn outside(places: impl IntoIterator<Item = Place>) -> Outside {
    let mut out = Outside::default();
    let mut files = Vec::new();
    for place in places {
        match place {
            Place::Folder(path) => {
                out.folders.insert(path);
            }
            Place::File(path) => files.push(path),
            _ => {}
        }
    }
    let all = out.folders.clone();
    out.folders.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    for file in files.into_iter().filter(|file| !out.folders.iter().any(|folder| file.starts_with(folder))) {
        if let (Some(folder), Some(name)) = (file.parent(), file.file_name()) {
            out.files.entry(folder.to_path_buf()).or_default().insert(name.to_string_lossy().into_owned());
        }
    }
    out
}

/// Patterns that leave everything of a folder out but the files `names`.
pub fn only_names(names: &BTreeSet<String>) -> Vec<String> {
    let mut out = vec!["/*".to_owned()];
    out.extend(names.iter().map(|name| format!("!/{}", escaped(name))));
    out
}

/// The pattern that leaves out the folder `inner` of the source at `root`.
pub fn without(root: &Path, inner: &Path) -> Option<String> {
    let path = inner.strip_prefix(root).ok()?.to_str()?;
    (!path.is_empty()).then(|| format!("/{}/", escaped(path)))
}

/// `text` so that a pattern means it as it is.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "*?[]\\!# ".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_is_left_out() {
        let root = Path::new("/srv/none");
        for path in ["/", "/etc/localtime", "/var/run/docker.sock", "/proc/1", "/usr/share/zoneinfo"] {
            assert!(matches!(place_of(Path::new(path), root), Place::Left(_)), "{path}");
        }
        let dir = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::write(real.join("a b.conf"), "x").unwrap();
        assert_eq!(place_of(&real, root), Place::Folder(real.clone()));
        assert_eq!(place_of(&real.join("a b.conf"), root), Place::File(real.join("a b.conf")));
        assert_eq!(place_of(&real.join("a b.conf"), &real), Place::Inside);
        assert_eq!(place_of(&real.join("gone"), root), Place::Left("nothing is there"));
    }

    #[test]
    fn what_lies_in_a_folder_goes_with_it() {
        let path = PathBuf::from;
        let places = [
            Place::Folder(path("/srv/a/deep")),
            Place::Folder(path("/srv/a")),
            Place::File(path("/srv/a/x")),
            Place::File(path("/etc/app/b")),
            Place::File(path("/etc/app/c")),
            Place::Inside,
        ];
        let out = outside(places);
        assert_eq!(out.folders, [path("/srv/a")].into());
        assert_eq!(out.files, [(path("/etc/app"), ["b".to_owned(), "c".to_owned()].into())].into());
        assert_eq!(only_names(&["a*b".to_owned()].into()), ["/*", "!/a\\*b"]);
        assert_eq!(without(Path::new("/p"), Path::new("/p/x y")).as_deref(), Some("/x\\ y/"));
        assert_eq!(without(Path::new("/p"), Path::new("/p")), None);
    }
}
