//! Archives of every layout, whole and broken.

use super::super::digest::digest_of;
use super::*;

struct Built {
    tar: tar::Builder<Vec<u8>>,
}

impl Built {
    fn new() -> Self {
        Self { tar: tar::Builder::new(Vec::new()) }
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, name, content).unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.tar.append_link(&mut header, name, target).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }
}

const CONFIG: &[u8] = br#"{"rootfs":{}}"#;

fn layers() -> (Vec<u8>, Vec<u8>) {
    (vec![1; 70_000], vec![2; 1024])
}

/// The layout before Docker 25, with its third layer a link to the first.
fn old() -> Vec<u8> {
    let (one, two) = layers();
    let manifest = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar","x/layer.tar"]}]"#;
    Built::new()
        .file("a/layer.tar", &one)
        .file("b/layer.tar", &two)
        .link("x/layer.tar", "../a/layer.tar")
        .file("c.json", CONFIG)
        .file("manifest.json", manifest.as_bytes())
        .bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// The OCI layout with compressed layers; also the id of its manifest.
fn oci() -> (Vec<u8>, String) {
    let (one, two) = layers();
    let (one, two) = (gzip(&one), zstd::encode_all(two.as_slice(), 3).unwrap());
    let blob = |bytes: &[u8]| format!("blobs/{}", digest_of(bytes).replace(':', "/"));
    let (a, b, c) = (blob(&one), blob(&two), blob(CONFIG));
    let manifest = format!(r#"[{{"Config":"{c}","RepoTags":null,"Layers":["{a}","{b}","{a}"]}}]"#);
    let own = b"the image's own manifest";
    let bytes = Built::new()
        .file(&a, &one)
        .file(&b, &two)
        .file(&c, CONFIG)
        .file(&blob(own), own)
        .file("manifest.json", manifest.as_bytes())
        .bytes();
    (bytes, digest_of(own))
}

fn watch(archive: &[u8], id: &str, layers: &[String]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Saved::new(archive, id, layers).read_to_end(&mut out)?;
    Ok(out)
}

fn diff_ids() -> Vec<String> {
    let (one, two) = layers();
    vec![digest_of(&one), digest_of(&two), digest_of(&one)]
}

#[test]
fn every_layout_is_understood() {
    assert!(watch(&old(), &digest_of(CONFIG), &diff_ids()).unwrap() == old());
    let (archive, manifest_id) = oci();
    assert!(watch(&archive, &digest_of(CONFIG), &diff_ids()).unwrap() == archive);
    // A containerd store names an image by its manifest.
    watch(&archive, &manifest_id, &diff_ids()).unwrap();
}

#[test]
fn another_image_or_another_layer_is_refused() {
    for archive in [old(), oci().0] {
        let refused = |id: &str, layers: &[String]| watch(&archive, id, layers).unwrap_err().to_string();
        assert!(refused(&digest_of(b"other"), &diff_ids()).contains("another image"));
        let mut swapped = diff_ids();
        swapped.swap(0, 1);
        assert!(refused(&digest_of(CONFIG), &swapped).contains("not what its digest says"));
        assert!(refused(&digest_of(CONFIG), &diff_ids()[..2]).contains("3 layers"));
    }
}

#[test]
fn no_cut_and_no_flipped_byte_is_taken_for_the_image() {
    for archive in [old(), oci().0] {
        for at in (0..archive.len()).step_by(509) {
            // The zeros behind the first two blocks of the end are no part of the archive.
            if at < archive.len() - 512 {
                assert!(watch(&archive[..at], &digest_of(CONFIG), &diff_ids()).is_err(), "cut at {at}");
            }
        }
        let (one, _) = layers();
        let inside = archive.windows(64).position(|bytes| bytes == &one[..64]).unwrap_or(512 + 11);
        let mut flipped = archive.clone();
        flipped[inside + 9] ^= 1;
        assert!(watch(&flipped, &digest_of(CONFIG), &diff_ids()).is_err());
        let mut followed = archive.clone();
        followed.extend_from_slice(b"{\"errorDetail\":{\"message\":\"no space left\"}}");
        assert!(watch(&followed, &digest_of(CONFIG), &diff_ids()).is_err());
        followed.resize(archive.len() + 512, 0);
        assert!(watch(&followed, &digest_of(CONFIG), &diff_ids()).is_err());
    }
}
