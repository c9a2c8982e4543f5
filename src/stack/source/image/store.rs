//! Reading images from the store of an engine on this host, as root.
//!
//! With a graph driver of the overlay kind (`overlay2`, `fuse-overlayfs`) a layer is a folder of
//! files and a record of its archive. Read side by side they give the archive without the copy that
//! the engine's own `save` makes first. The image's configuration and every layer are compared with
//! their digests. What comes out is an archive that every engine loads: the files of an OCI layout
//! and the older `manifest.json`, always the same bytes for the same image, without tags.

use super::digest::{Sha256, digest_of, hex_of};
use super::split::{Layer, archive_bytes};
use crate::docker::Info;
use crate::limits::MANIFEST_BYTES_MAX;
use serde_json::json;
use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

const DRIVERS: [&str; 2] = ["overlay2", "fuse-overlayfs"];
const BLOCK: u64 = 512;

/// An image in the engine's store.
#[derive(Debug)]
pub(super) struct StoredImage {
    id: String,
    config: Vec<u8>,
    layers: Vec<StoredLayer>,
}

#[derive(Debug)]
struct StoredLayer {
    diff_id: String,
    records: PathBuf,
    folder: PathBuf,
    bytes: u64,
}

/// Finds an image; `None` if this store is not of the kind that is read here, or does not have it.
///
/// # Errors
/// What is there is damaged.
pub(super) fn find(info: &Info, id: &str) -> io::Result<Option<StoredImage>> {
    let driver = info.storage_driver.as_str();
    if info.containerd_store || !DRIVERS.contains(&driver) || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let Some(hex) = hex_of(id) else { return Ok(None) };
    let database = info.root_dir.join("image").join(driver);
    let Some(config) = read_small(&database.join("imagedb/content/sha256").join(hex))? else { return Ok(None) };
    if digest_of(&config) != id {
        return Err(damaged("the configuration of the image does not have the digest that is its name"));
    }
    let Some(diff_ids) = diff_ids(&config) else { return Ok(None) };
    let mut chain = String::new();
    let mut layers = Vec::new();
    for diff_id in diff_ids {
        chain = if chain.is_empty() { diff_id.clone() } else { digest_of(format!("{chain} {diff_id}").as_bytes()) };
        let Some(hex) = hex_of(&chain) else { return Ok(None) };
        let Some(layer) = find_layer(info, &database.join("layerdb/sha256").join(hex), diff_id)? else {
            return Ok(None);
        };
        layers.push(layer);
    }
    Ok(Some(StoredImage { id: id.to_owned(), config, layers }))
}

fn find_layer(info: &Info, entry: &Path, diff_id: String) -> io::Result<Option<StoredLayer>> {
    let text = |name: &str| Ok::<_, io::Error>(read_small(&entry.join(name))?.map(|text| text.trim_ascii().to_vec()));
    let (Some(cache), Some(diff)) = (text("cache-id")?, text("diff")?) else { return Ok(None) };
    if diff != diff_id.as_bytes() {
        return Err(damaged("a layer is listed under another's name"));
    }
    // It becomes a part of a path.
    let Some(cache) = String::from_utf8(cache).ok().filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric()))
    else {
        return Err(damaged("a layer's folder has an impossible name"));
    };
    let records = entry.join("tar-split.json.gz");
    let folder = info.root_dir.join(&info.storage_driver).join(cache).join("diff");
    if !records.is_file() || !folder.is_dir() {
        return Ok(None);
    }
    let bytes = archive_bytes(&records)?;
    Ok(Some(StoredLayer { diff_id, records, folder, bytes }))
}

fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn diff_ids(config: &[u8]) -> Option<Vec<String>> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let ids = config["rootfs"]["diff_ids"].as_array()?;
    ids.iter().map(|id| hex_of(id.as_str()?).map(|_| id.as_str().unwrap_or_default().to_owned())).collect()
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the engine's store is damaged: {what}"))
}

impl StoredImage {
    /// Its archive.
    pub fn archive(self) -> Archive {
        let mut parts = VecDeque::new();
        let manifest = self.oci_manifest();
        let mut file = |name: &str, content: &[u8]| {
            parts.push_back(Part::Bytes(header(name, content.len() as u64)));
            parts.push_back(Part::Bytes(padded(content)));
        };
        let (config_blob, manifest_blob) = (blob(&self.id), blob(&digest_of(&manifest)));
        file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        file("index.json", index(&manifest).as_bytes());
        file("manifest.json", self.docker_manifest().as_bytes());
        file(&config_blob, &self.config);
        if manifest_blob != config_blob {
            file(&manifest_blob, &manifest);
        }
        // The same layer twice in an image is stored once.
        let mut seen = std::collections::BTreeSet::new();
        for layer in self.layers {
            if seen.insert(layer.diff_id.clone()) {
                parts.push_back(Part::Bytes(header(&blob(&layer.diff_id), layer.bytes)));
                let padding = layer.bytes.wrapping_neg() % BLOCK;
                parts.push_back(Part::Layer(layer));
                parts.push_back(Part::Bytes(vec![0; padding as usize]));
            }
        }
        parts.push_back(Part::Bytes(vec![0; 2 * BLOCK as usize]));
        Archive { parts, current: Current::Bytes(Cursor::new(Vec::new())) }
    }

    fn docker_manifest(&self) -> String {
        let layers: Vec<String> = self.layers.iter().map(|layer| blob(&layer.diff_id)).collect();
        json!([{ "Config": blob(&self.id), "RepoTags": null, "Layers": layers }]).to_string()
    }

    fn oci_manifest(&self) -> Vec<u8> {
        let part = |kind: &str, digest: &str, size: u64| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size });
        let layers: Vec<_> =
            self.layers.iter().map(|layer| part("layer.v1.tar", &layer.diff_id, layer.bytes)).collect();
        let config = part("config.v1+json", &self.id, self.config.len() as u64);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }).to_string().into_bytes()
    }
}

fn index(manifest: &[u8]) -> String {
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(manifest), "size": manifest.len()
    });
    let kind = "application/vnd.oci.image.index.v1+json";
    json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [entry] }).to_string()
}

fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    // Every name here is shorter than the field.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(BLOCK as usize), 0);
    bytes
}

/// An image's archive, read to its end or to the first layer that is not what its digest says.
pub(super) struct Archive {
    parts: VecDeque<Part>,
    current: Current,
}

enum Part {
    Bytes(Vec<u8>),
    Layer(StoredLayer),
}

enum Current {
    Bytes(Cursor<Vec<u8>>),
    Layer { layer: Box<Layer>, hash: Sha256, diff_id: String, left: u64 },
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = match &mut self.current {
                Current::Bytes(bytes) => bytes.read(buffer)?,
                Current::Layer { layer, hash, left, .. } => {
                    let count = layer.read(buffer)?;
                    hash.update(&buffer[..count]);
                    *left = left.checked_sub(count as u64).ok_or_else(|| damaged("a layer has become longer"))?;
                    count
                }
            };
            if count > 0 {
                return Ok(count);
            }
            let next = match self.parts.pop_front() {
                None => None,
                Some(Part::Bytes(bytes)) => Some(Current::Bytes(Cursor::new(bytes))),
                Some(Part::Layer(StoredLayer { diff_id, records, folder, bytes })) => Some(Current::Layer {
                    layer: Box::new(Layer::open(&records, &folder)?),
                    hash: Sha256::default(),
                    diff_id,
                    left: bytes,
                }),
            };
            let ended = std::mem::replace(&mut self.current, next.unwrap_or(Current::Bytes(Cursor::default())));
            if let Current::Layer { hash, diff_id, left, .. } = ended {
                if left > 0 || hash.digest() != diff_id {
                    return Err(damaged(&format!("layer {diff_id} is not what its digest says")));
                }
            } else if self.parts.is_empty()
                && matches!(&self.current, Current::Bytes(bytes) if bytes.get_ref().is_empty())
            {
                return Ok(0);
            }
        }
    }
}
