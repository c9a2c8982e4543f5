//! An image's archive with its tags written in, for people who load it by hand.
//!
//! What is stored has no tags. Engines look for them in `manifest.json`, and where containerd keeps
//! the images in `index.json`: those two files are changed on the way out, everything else passes as
//! it is.

use serde_json::{Value, json};
use std::io::{self, Read, Write};

const BLOCK: u64 = 512;
/// Longer files of these names are not what they should be, and pass as they are.
const CHANGED_MAX: u64 = 1 << 20;

/// Copies the archive of one image and gives the image `tags`; the bytes that were written.
///
/// # Errors
/// `source` is cut short or no archive, or one of both fails.
pub(super) fn copy_with_tags(source: &mut dyn Read, out: &mut dyn Write, tags: &[String]) -> io::Result<u64> {
    let mut written = 0;
    let mut long_size = None;
    loop {
        let mut block = [0; BLOCK as usize];
        source.read_exact(&mut block)?;
        let header = tar::Header::from_byte_slice(&block);
        if block.iter().all(|byte| *byte == 0) {
            out.write_all(&block)?;
            return Ok(written + BLOCK + io::copy(source, out)?);
        }
        let size = long_size.take().map_or_else(|| header.entry_size(), Ok)?;
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        let is_extension = header.entry_type().is_pax_local_extensions();
        let is_changed = header.entry_type().is_file() && matches!(name.as_str(), "manifest.json" | "index.json");
        if size > CHANGED_MAX || !(is_extension || is_changed) {
            out.write_all(&block)?;
            let padded = size.next_multiple_of(BLOCK);
            if io::copy(&mut source.take(padded), out)? < padded {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            written += BLOCK + padded;
            continue;
        }
        let mut content = vec![0; size.next_multiple_of(BLOCK) as usize];
        source.read_exact(&mut content)?;
        content.truncate(size as usize);
        if is_extension {
            long_size = size_in(&content);
        } else if let Some(changed) = with_tags(&name, &content, tags) {
            content = changed;
        }
        let mut header = header.clone();
        header.set_size(content.len() as u64);
        header.set_cksum();
        content.resize(content.len().next_multiple_of(BLOCK as usize), 0);
        out.write_all(header.as_bytes())?;
        out.write_all(&content)?;
        written += BLOCK + content.len() as u64;
    }
}

/// The size that an extended header gives to the file behind it.
fn size_in(extension: &[u8]) -> Option<u64> {
    let sizes = tar::PaxExtensions::new(extension).filter_map(|pair| pair.ok());
    sizes.filter(|pair| pair.key_bytes() == b"size").last()?.value().ok()?.parse().ok()
}

/// `None` for what is not of the expected form: then it stays.
fn with_tags(name: &str, content: &[u8], tags: &[String]) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(content).ok()?;
    if tags.is_empty() {
        return None;
    }
    if name == "manifest.json" {
        let [image] = document.as_array_mut()?.as_mut_slice() else { return None };
        image["RepoTags"] = json!(tags);
    } else {
        let [manifest] = document["manifests"].as_array()?.as_slice() else { return None };
        let tagged: Vec<Value> = tags.iter().map(|tag| annotated(manifest, tag)).collect();
        document["manifests"] = json!(tagged);
    }
    serde_json::to_vec(&document).ok()
}

fn annotated(manifest: &Value, tag: &str) -> Value {
    let version = tag.rsplit_once(':').map_or("latest", |(_, version)| version);
    let mut manifest = manifest.clone();
    manifest["annotations"]["io.containerd.image.name"] = json!(full_name(tag));
    manifest["annotations"]["org.opencontainers.image.ref.name"] = json!(version);
    manifest
}

/// The name with its registry, as containerd writes it.
fn full_name(tag: &str) -> String {
    match tag.split_once('/') {
        None => format!("docker.io/library/{tag}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => tag.to_owned(),
        Some(_) => format!("docker.io/{tag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn tags_are_written_in_and_nothing_else_changes() {
        let layer = vec![7u8; 100_000];
        let manifest = br#"[{"Config":"c","RepoTags":null,"Layers":["l"]}]"#;
        let index = br#"{"manifests":[{"digest":"sha256:1","size":3}]}"#;
        let before = archive(&[("l", &layer), ("manifest.json", manifest), ("index.json", index), ("c", b"{}")]);
        let tags = ["web:1".to_owned(), "host:5000/a/b:2".to_owned()];
        let mut after = Vec::new();
        let written = copy_with_tags(&mut before.as_slice(), &mut after, &tags).unwrap();
        assert_eq!(written, after.len() as u64);
        let mut found = Vec::new();
        for entry in tar::Archive::new(after.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().display().to_string(), content));
        }
        let json = |at: usize| serde_json::from_slice::<Value>(&found[at].1).unwrap();
        assert!(found.len() == 4 && found[0].1 == layer && found[3].1 == b"{}");
        assert_eq!((&json(1)[0]["RepoTags"], &json(1)[0]["Config"]), (&json!(tags), &json!("c")));
        let names: Vec<Value> =
            (0..2).map(|at| json(2)["manifests"][at]["annotations"]["io.containerd.image.name"].clone()).collect();
        assert_eq!(names, ["docker.io/library/web:1", "host:5000/a/b:2"]);
        let mut same = Vec::new();
        copy_with_tags(&mut before.as_slice(), &mut same, &[]).unwrap();
        assert!(same == before);
        for at in [0, 100, 700, before.len() - 2000] {
            assert!(copy_with_tags(&mut &before[..at], &mut io::sink(), &tags).is_err(), "{at}");
        }
    }
}
