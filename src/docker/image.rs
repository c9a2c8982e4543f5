//! Images: finding, tagging, saving, loading.

use super::json::{escaped, nullable, with_query};
use super::link::SMALL_CALL;
use super::{Body, Engine, Error, Result};
use crate::limits::PROGRESS_LINE_BYTES_MAX;
use crate::monitor::Monitor;
use hyper::Method;
use serde::Deserialize;
use std::io::Read;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, `sha256:…`; with a containerd store, of its manifest.
    pub id: String,
    /// Its tags, `name:tag`.
    pub tags: Vec<String>,
    /// The digests under which registries know it, `name@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes of its layers.
    pub size: u64,
    /// Its operating system.
    pub os: String,
    /// Its processor, as images write it (`amd64`).
    pub architecture: String,
    /// The variant of that processor.
    pub variant: String,
    /// Digests of its layers' uncompressed content, bottom first. Empty in lists.
    pub layers: Vec<String>,
}

impl Image {
    /// Operating system, processor and its variant, `linux/amd64`.
    pub fn platform(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageAnswer {
    id: String,
    #[serde(default, deserialize_with = "nullable")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    repo_digests: Vec<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default, rename = "RootFS", deserialize_with = "nullable")]
    root_fs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default, deserialize_with = "nullable")]
    layers: Vec<String>,
}

impl From<ImageAnswer> for Image {
    fn from(answer: ImageAnswer) -> Self {
        // Engines before 25 list images without a tag as `<none>`.
        let named = |names: Vec<String>| names.into_iter().filter(|name| !name.contains("<none>")).collect();
        Self {
            id: answer.id,
            tags: named(answer.repo_tags),
            digests: named(answer.repo_digests),
            size: answer.size,
            os: answer.os,
            architecture: answer.architecture,
            variant: answer.variant,
            layers: answer.root_fs.layers,
        }
    }
}

/// What the engine says after loading images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// The images' names, or ids where they have none.
    pub images: Vec<String>,
}

impl Engine {
    /// All images, those without a tag too, without their layers.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn images(&self) -> Result<Vec<Image>> {
        let found: Vec<ImageAnswer> = self.get("list", "images", "/images/json")?;
        Ok(found.into_iter().map(Image::from).collect())
    }

    /// The image with this id, tag or digest.
    ///
    /// # Errors
    /// It is not there, or the engine does not answer.
    pub fn image(&self, image: &str) -> Result<Image> {
        let found: ImageAnswer =
            self.get("inspect", &format!("image {image}"), &format!("/images/{}/json", escaped(image)))?;
        Ok(found.into())
    }

    /// Gives an image the tag `name:tag`; another image that has it loses it.
    ///
    /// # Errors
    /// The image is not there, or the name is none.
    pub fn tag_image(&self, image: &str, name: &str) -> Result<()> {
        let (repository, tag) = split_tag(name);
        let tail = with_query("/tag", &[("repo", repository), ("tag", tag)]);
        let path = format!("/images/{}{tail}", escaped(image));
        self.done(self.call("tag", format!("image {image} as {name}"), Method::POST, &path)).map(drop)
    }

    /// Takes a tag away; the image itself goes with its last tag, but its untagged parents stay.
    ///
    /// # Errors
    /// It is not there, or a container uses it (a conflict).
    pub fn remove_image(&self, name: &str) -> Result<()> {
        let path = with_query(&format!("/images/{}", escaped(name)), &[("noprune", "1")]);
        let call = self.call("remove", format!("image {name}"), Method::DELETE, &path);
        self.done(call.limit(Some(SMALL_CALL * 5))).map(drop)
    }

    /// The images as an archive that [`Engine::load_images`] takes. The engine ends it in the same way
    /// whether it is whole or not: whoever reads it must see that it is.
    ///
    /// # Errors
    /// An image is not there, or the engine does not answer.
    pub fn export_images<'m>(&self, images: &[&str], monitor: &'m dyn Monitor) -> Result<Body<'m>> {
        let names: Vec<(&str, &str)> = images.iter().map(|image| ("names", *image)).collect();
        let path = with_query("/images/get", &names);
        let mut call = self.call("save", format!("image {}", images.join(", ")), Method::GET, &path).limit(None);
        self.inner.link.stream(&mut call, monitor)
    }

    /// Loads the images of an archive.
    ///
    /// # Errors
    /// `archive` cannot be read, or the engine refuses it, also in the middle of its report.
    pub fn load_images(&self, object: &str, archive: &mut dyn Read, monitor: &dyn Monitor) -> Result<Loaded> {
        let mut call = self.call("load", object, Method::POST, "/images/load?quiet=1").limit(None).monitor(monitor);
        let answer = self.inner.link.upload(&mut call, archive)?;
        if let Some(error) = call.refusal(answer.status, &answer.body) {
            return Err(error);
        }
        let mut loaded = Loaded::default();
        for line in answer.body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let line = line.get(..PROGRESS_LINE_BYTES_MAX).unwrap_or(line);
            let Ok(step) = serde_json::from_slice::<serde_json::Value>(line) else {
                return Err(call.answer_error("its report is no JSON"));
            };
            if let Some(message) = step["error"].as_str().or_else(|| step["errorDetail"]["message"].as_str()) {
                let (operation, object) = (call.operation, call.object.clone());
                return Err(Error::Refused {
                    operation,
                    object,
                    status: answer.status.as_u16(),
                    message: message.into(),
                });
            }
            let said = step["stream"].as_str().unwrap_or_default().trim();
            let name = said.strip_prefix("Loaded image ID: ").or_else(|| said.strip_prefix("Loaded image: "));
            loaded.images.extend(name.map(str::to_owned));
        }
        Ok(loaded)
    }
}

/// Repository and tag of `name:tag`; a colon before a slash is a port.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_tag("a/b:1"), ("a/b", "1"));
        assert_eq!(split_tag("host:5000/b"), ("host:5000/b", "latest"));
        assert_eq!(split_tag("host:5000/b:x"), ("host:5000/b", "x"));
    }
}
