//! Where a repository is: a folder, or a prefix in a bucket of an S3 server.
//!
//! `s3://BUCKET/PREFIX` takes its server from the surroundings; `?endpoint=URL` and `?region=NAME` behind it
//! say it for this one address, so that two buckets on two servers can be named in one command.

use super::{Error, Result};
use std::fmt;
use std::path::PathBuf;

/// The way an address of a bucket begins.
pub const BUCKET_SCHEME: &str = "s3://";

/// A place that an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder, absolute.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket(Bucket),
}

/// A part of a bucket on some server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// What comes before the names of all objects: no slash at its ends, empty for the whole bucket.
    pub prefix: String,
    /// The server, such as `https://minio.example:9000`; Amazon's own if absent.
    pub endpoint: Option<String>,
    /// The region; the surroundings' if absent.
    pub region: Option<String>,
}

impl Location {
    /// Understands an address. `endpoint` is the server of a bucket whose address names none.
    ///
    /// # Errors
    /// It is none that this build knows.
    pub fn parse(text: &str, endpoint: Option<&str>) -> Result<Self> {
        let wrong = |reason: &str| Error::Address { address: text.to_owned(), reason: reason.to_owned() };
        if let Some(rest) = text.strip_prefix(BUCKET_SCHEME) {
            return Bucket::parse(rest, endpoint).map(Self::Bucket).map_err(|reason| wrong(&reason));
        }
        if let Some((scheme, _)) = text.split_once("://")
            && scheme != "file"
        {
            return Err(wrong("a repository is in a folder or at s3://BUCKET/PREFIX"));
        }
        let path = PathBuf::from(text.strip_prefix("file://").unwrap_or(text));
        if path.as_os_str().is_empty() {
            return Err(wrong("the address is empty"));
        }
        std::path::absolute(&path).map(Self::Folder).map_err(|source| wrong(&source.to_string()))
    }

    /// Its name, the same for each way of spelling it; also of a folder that is not there now.
    pub fn settled(&self) -> String {
        match self {
            Self::Folder(path) => crate::fs::real_path(path).display().to_string(),
            Self::Bucket(_) => self.to_string(),
        }
    }

    /// An address that names it and nothing else, wherever it is read: with the server of a bucket.
    pub fn whole_address(&self) -> String {
        let Self::Bucket(bucket) = self else { return self.settled() };
        let named = [("endpoint", &bucket.endpoint), ("region", &bucket.region)];
        let said = named.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_deref()?)));
        let said = said.collect::<Vec<_>>().join("&");
        if said.is_empty() { bucket.to_string() } else { format!("{bucket}?{said}") }
    }

    /// True if it is `other`, or lies inside it.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(inner), Self::Folder(outer)) => {
                crate::fs::real_path(inner).starts_with(crate::fs::real_path(outer))
            }
            (Self::Bucket(inner), Self::Bucket(outer)) => {
                let behind = inner.prefix.strip_prefix(&outer.prefix);
                let below =
                    behind.is_some_and(|rest| rest.is_empty() || outer.prefix.is_empty() || rest.starts_with('/'));
                below && (&inner.name, &inner.endpoint) == (&outer.name, &outer.endpoint)
            }
            _ => false,
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&std::path::Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }
}

impl Bucket {
    fn parse(rest: &str, endpoint: Option<&str>) -> std::result::Result<Self, String> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() {
            return Err("there is no name of a bucket in it: write s3://BUCKET/PREFIX".to_owned());
        }
        if !name.chars().all(fine) {
            return Err(format!("“{name}” can be no bucket's name: it may have letters, digits and . - _"));
        }
        let prefix = prefix.trim_matches('/');
        let plain = |c: char| fine(c) || matches!(c, '/' | '@' | '+' | '=' | ',' | ' ');
        if !prefix.chars().all(plain)
            || prefix.split('/').any(|part| matches!(part, "." | ".."))
            || prefix.contains("//")
        {
            let message = "the part behind the bucket may have letters, digits and . - _ @ + = , between slashes";
            return Err(message.to_owned());
        }
        let mut bucket = Self {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", value)) => bucket.endpoint = Some(value.to_owned()),
                Some(("region", value)) => bucket.region = Some(value.to_owned()),
                _ => return Err("behind the question mark it may have endpoint=URL and region=NAME".to_owned()),
            }
        }
        if let Some(endpoint) = &mut bucket.endpoint {
            endpoint.truncate(endpoint.trim_end_matches('/').len());
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if host.is_none() && !endpoint.contains("://") && !endpoint.contains('@') {
                return Err(format!(
                    "the endpoint “{endpoint}” lacks its beginning: write http://{endpoint}, or https://"
                ));
            }
            if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@'])) {
                return Err("the endpoint must be http://HOST:PORT or https://HOST:PORT".to_owned());
            }
        }
        Ok(bucket)
    }
}

/// As the store there names itself.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BUCKET_SCHEME)?;
        f.write_str(&self.name)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(text: &str, endpoint: Option<&str>) -> Bucket {
        match Location::parse(text, endpoint).unwrap() {
            Location::Bucket(bucket) => bucket,
            folder @ Location::Folder(_) => panic!("{folder:?}"),
        }
    }

    #[test]
    fn addresses_of_buckets_are_understood() {
        let one = bucket("s3://vault/clinic/main/", Some("http://127.0.0.1:9000/"));
        assert_eq!((one.name.as_str(), one.prefix.as_str()), ("vault", "clinic/main"));
        assert_eq!(one.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(one.to_string(), "s3://vault/clinic/main");
        assert_eq!(bucket("s3://vault", None).to_string(), "s3://vault");
        let own = bucket("s3://vault/x?endpoint=https://s3.example&region=eu-1", Some("http://other"));
        assert_eq!(own.endpoint.as_deref(), Some("https://s3.example"));
        assert_eq!(own.region.as_deref(), Some("eu-1"));
        assert_eq!(own.to_string(), "s3://vault/x");
    }

    #[test]
    fn a_place_inside_another_one_is_told() {
        let within = |inner: &str, outer: &str| {
            let place = |text: &str| Location::parse(text, None).unwrap();
            place(inner).is_within(&place(outer))
        };
        for (inner, outer) in
            [("s3://b/x", "s3://b"), ("s3://b/x/y", "s3://b/x"), ("/r/y", "/r"), ("s3://b/x", "s3://b/x/")]
        {
            assert!(within(inner, outer), "{inner} {outer}");
        }
        for (inner, outer) in [("s3://b/xy", "s3://b/x"), ("s3://b", "s3://b/x"), ("/ry", "/r"), ("s3://c/x", "s3://b")]
        {
            assert!(!within(inner, outer), "{inner} {outer}");
        }
        assert!(!within("s3://b/x?endpoint=http://one", "s3://b"));
        let place = Location::parse("s3://b/x?region=eu", Some("http://one/")).unwrap();
        assert_eq!(Location::parse(&place.whole_address(), None).unwrap(), place);
    }

    #[test]
    fn folders_are_absolute() {
        for text in ["/mnt/backup", "file:///mnt/backup"] {
            let place = Location::parse(text, Some("http://ignored")).unwrap();
            assert_eq!(place.folder(), Some(std::path::Path::new("/mnt/backup")));
        }
        assert!(Location::parse("backup", None).unwrap().folder().unwrap().is_absolute());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let wrong = ["", "file://", "ftp://x/y", "s3://", "s3:///x", "s3://b/../x", "s3://b/a//b", "s3://b/x?y=z"];
        for text in wrong {
            assert!(Location::parse(text, None).is_err(), "{text}");
        }
        for endpoint in ["minio:9000", "ftp://minio", "https://", "https://key@minio", "https://minio/path"] {
            assert!(Location::parse("s3://b/x", Some(endpoint)).is_err(), "{endpoint}");
        }
    }
}
