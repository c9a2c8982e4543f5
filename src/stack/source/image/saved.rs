//! The archive in which an engine saves an image, watched while it is read.
//!
//! Engines end an archive in the same way whether they could write all of it or not, so nothing is
//! believed: the archive must end where archives end, the image's configuration or manifest must have
//! the digest that is its id, and every layer the digest that the configuration gives it, unpacked
//! where it is compressed. The layouts of all engines are understood: that of Docker before 25
//! (`<id>/layer.tar`, with links for layers that are there twice) and the OCI layout
//! (`blobs/sha256/…`), whose files are compared with their own names as well.

use super::digest::Sha256;
use flate2::write::MultiGzDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Largest `manifest.json` and largest extended header that are kept, in bytes.
const KEPT_MAX: u64 = 1 << 20;

/// Reads an archive through and fails at its end if it is not the image that it should be.
pub(super) struct Saved<R> {
    source: R,
    watch: Watch,
    id: String,
    layers: Vec<String>,
    ended: bool,
}

impl<R: Read> Saved<R> {
    /// `source` should be the image `id`, whose layers unpacked have the digests `layers`.
    pub fn new(source: R, id: &str, layers: &[String]) -> Self {
        Self { source, watch: Watch::default(), id: id.to_owned(), layers: layers.to_vec(), ended: false }
    }
}

impl<R: Read> Read for Saved<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        let count = self.source.read(buffer)?;
        if count == 0 {
            self.watch.judge(&self.id, &self.layers)?;
            self.ended = true;
        }
        self.watch.push(&buffer[..count])?;
        Ok(count)
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the engine's archive of the image: {}", what.into()))
}

/// What is known of one file in the archive.
struct FileSeen {
    digest: String,
    /// The digest of what it unpacks to, if it is compressed.
    unpacked: Option<String>,
}

enum Unpacking {
    /// Too little has come to say.
    Unknown(Vec<u8>),
    Plain,
    Gzip(Box<MultiGzDecoder<Sha256>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sha256>>),
}

impl Unpacking {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
            Self::Unknown(head) => {
                head.extend_from_slice(bytes);
                if head.len() < 4 {
                    return Ok(());
                }
                let head = std::mem::take(head);
                *self = match head.as_slice() {
                    [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(Sha256::default()))),
                    [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                        Self::Zstd(Box::new(zstd::stream::write::Decoder::new(Sha256::default())?))
                    }
                    _ => Self::Plain,
                };
                self.push(&head)
            }
        }
    }

    fn finish(self) -> io::Result<Option<String>> {
        match self {
            Self::Plain | Self::Unknown(_) => Ok(None),
            Self::Gzip(decoder) => Ok(Some(decoder.finish()?.digest())),
            Self::Zstd(mut decoder) => {
                decoder.flush()?;
                Ok(Some(decoder.into_inner().digest()))
            }
        }
    }
}

#[derive(Default)]
enum State {
    #[default]
    Header,
    /// In a file's content.
    Content(Box<Content>),
    Padding(u64),
    /// Behind the first block of zeros.
    Ending,
    Ended,
}

struct Content {
    name: String,
    left: u64,
    padding: u64,
    digest: Sha256,
    unpacking: Unpacking,
    /// Its bytes, where they are needed afterwards.
    kept: Option<Vec<u8>>,
    is_extension: bool,
}

/// What has been seen of an archive.
#[derive(Default)]
struct Watch {
    state: State,
    /// The beginning of a header.
    block: Vec<u8>,
    /// Size and name that an extended header gives to the next file.
    size: Option<u64>,
    path: Option<String>,
    files: BTreeMap<String, FileSeen>,
    links: BTreeMap<String, String>,
    manifest: Option<Vec<u8>>,
}

impl Watch {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Header | State::Ending | State::Ended => {
                    let taken = bytes.len().min(BLOCK - self.block.len());
                    self.block.extend_from_slice(&bytes[..taken]);
                    if self.block.len() == BLOCK {
                        let block = std::mem::take(&mut self.block);
                        self.header(&block)?;
                    }
                    taken
                }
                State::Padding(left) => {
                    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Header;
                    }
                    taken
                }
                State::Content(content) => {
                    let taken = bytes.len().min(usize::try_from(content.left).unwrap_or(usize::MAX));
                    content.push(&bytes[..taken])?;
                    if content.left == 0 {
                        self.end_content()?;
                    }
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn header(&mut self, block: &[u8]) -> io::Result<()> {
        if block.iter().all(|byte| *byte == 0) {
            self.state = if matches!(self.state, State::Header) { State::Ending } else { State::Ended };
            return Ok(());
        }
        if !matches!(self.state, State::Header) {
            return Err(wrong("something follows its end: the engine met an error, or it is damaged"));
        }
        let header = tar::Header::from_byte_slice(block);
        let sum: u32 =
            block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(wrong("a header is damaged, or it is cut short"));
        }
        let own = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let name = self.path.take().unwrap_or(own).trim_start_matches("./").to_owned();
        let size = self.size.take().map_or_else(|| header.entry_size(), Ok)?;
        let kind = header.entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = header.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let base = if kind.is_symlink() { name.rsplit_once('/').map_or("", |(folder, _)| folder) } else { "" };
            let leads_to = joined(base, &target);
            self.links.insert(name, leads_to);
            return Ok(());
        }
        let is_extension = kind.is_pax_local_extensions();
        if size == 0 || !(kind.is_file() || is_extension || kind.is_pax_global_extensions()) {
            self.state = if size == 0 { State::Header } else { State::Padding(size.next_multiple_of(BLOCK as u64)) };
            return Ok(());
        }
        let keep = is_extension || name == "manifest.json";
        if keep && size > KEPT_MAX {
            return Err(wrong(format!("{name} is too long")));
        }
        self.state = State::Content(Box::new(Content {
            name,
            left: size,
            padding: size.wrapping_neg() % BLOCK as u64,
            digest: Sha256::default(),
            unpacking: Unpacking::Unknown(Vec::new()),
            kept: keep.then(Vec::new),
            is_extension,
        }));
        Ok(())
    }

    fn end_content(&mut self) -> io::Result<()> {
        let State::Content(content) = std::mem::take(&mut self.state) else { return Ok(()) };
        if content.padding > 0 {
            self.state = State::Padding(content.padding);
        }
        let Content { name, digest, unpacking, kept, is_extension, .. } = *content;
        if is_extension {
            return self.extend(&kept.unwrap_or_default());
        }
        let unpacked = unpacking.finish().map_err(|error| wrong(format!("{name} cannot be unpacked: {error}")))?;
        let seen = FileSeen { digest: digest.digest(), unpacked };
        if name == "manifest.json" {
            self.manifest = kept;
        }
        if let Some(hex) = name.strip_prefix("blobs/sha256/")
            && seen.digest.strip_prefix("sha256:") != Some(hex)
        {
            return Err(wrong(format!("{name} is not what its name says")));
        }
        self.files.insert(name, seen);
        Ok(())
    }

    /// Takes size and name out of an extended header.
    fn extend(&mut self, bytes: &[u8]) -> io::Result<()> {
        for extension in tar::PaxExtensions::new(bytes) {
            let extension = extension?;
            let value = String::from_utf8_lossy(extension.value_bytes()).into_owned();
            match extension.key_bytes() {
                b"size" => self.size = Some(value.parse().map_err(|_| wrong("an impossible size"))?),
                b"path" => self.path = Some(value),
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, name: &str) -> Option<&FileSeen> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.files.get(name)
    }

    /// Whether the archive is whole and the image `id` with these layers.
    fn judge(&self, id: &str, layers: &[String]) -> io::Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            #[serde(default)]
            layers: Option<Vec<String>>,
        }
        if !matches!(self.state, State::Ended) || !self.block.is_empty() {
            return Err(wrong("it is cut short"));
        }
        let manifest = self.manifest.as_deref().ok_or_else(|| wrong("manifest.json is missing"))?;
        let saved: Vec<Saved> = serde_json::from_slice(manifest).map_err(|_| wrong("manifest.json is damaged"))?;
        let [saved] = saved.as_slice() else { return Err(wrong("it holds other images too")) };
        let config = self.file(&saved.config).ok_or_else(|| wrong("the image's configuration is missing"))?;
        let by_manifest = id.strip_prefix("sha256:").and_then(|hex| self.file(&format!("blobs/sha256/{hex}")));
        if config.digest != id && by_manifest.is_none() {
            return Err(wrong("it is another image"));
        }
        let names = saved.layers.as_deref().unwrap_or_default();
        if names.len() != layers.len() {
            return Err(wrong(format!("it has {} layers, the image {}", names.len(), layers.len())));
        }
        for (name, diff_id) in names.iter().zip(layers) {
            let layer = self.file(name).ok_or_else(|| wrong(format!("layer {diff_id} is missing")))?;
            if layer.unpacked.as_ref().unwrap_or(&layer.digest) != diff_id {
                return Err(wrong(format!("layer {diff_id} is not what its digest says")));
            }
        }
        Ok(())
    }
}

impl Content {
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left -= bytes.len() as u64;
        self.digest.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        let name = &self.name;
        self.unpacking.push(bytes).map_err(|error| wrong(format!("{name} cannot be unpacked: {error}")))
    }
}

/// `target` as seen from the folder `base`.
fn joined(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
