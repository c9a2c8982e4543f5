//! Folders of plain files made from a seed, and changes to them: the same seed, the same bytes.

use super::trees::{set_mode, settle};
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A small generator of pseudo-random numbers (splitmix64): the same seed, the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Mixed, so that the numbers of one seed are not those of the next, one place further on.
        let mut mixed = Self(seed);
        Self(mixed.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// Lines of words, which compress as source text does.
    fn text(&mut self, count: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "let ", "fn ", "chunk", "pack", "(", ")", " = ", ";\n", "    ", "store", ".", "read", "&self", "{\n",
            "}\n", "// why ",
        ];
        let mut text = Vec::with_capacity(count + 16);
        while text.len() < count {
            let word = WORDS[self.below(16)];
            text.extend(word.as_bytes());
            if self.below(9) == 0 {
                text.extend(format!("{:x}", self.next() % 4096).as_bytes());
            }
        }
        text.truncate(count);
        text
    }

    /// A file as a project has them: mostly text, mostly small.
    fn content(&mut self) -> Vec<u8> {
        let size = match self.below(10) {
            0 => 0,
            1..=6 => 200 + self.below(20_000),
            7 | 8 => 40_000 + self.below(120_000),
            _ => 300_000 + self.below(400_000),
        };
        if self.below(3) == 0 { self.bytes(size) } else { self.text(size) }
    }
}

/// Makes `dir` with `files` files in nested folders, some of them equal, all from `seed`.
pub fn source_tree(dir: &Path, files: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut earlier: Vec<PathBuf> = Vec::new();
    for i in 0..files {
        let folder = ["", "src", "src/deep/er", "data", "static/img"][random.below(5)];
        let path = dir.join(folder).join(format!("file-{i:05}"));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let content = if i % 8 == 7 {
            fs::read(&earlier[random.below(earlier.len())]).expect("an earlier file")
        } else {
            random.content()
        };
        fs::write(&path, content).expect("a file");
        set_mode(&path, if i % 5 == 0 { 0o755 } else { 0o644 });
        earlier.push(path);
    }
    settle(dir);
}

/// Edits, cuts, adds, removes, renames and chmods some of the files of `dir`, the same ones for a seed.
pub fn mutate(dir: &Path, seed: u64) {
    let mut random = Random::new(seed ^ 0x6d75_7461_7465);
    let files: Vec<PathBuf> =
        super::compare::paths(dir).into_iter().map(|path| dir.join(path)).filter(|path| path.is_file()).collect();
    for (i, path) in files.iter().enumerate() {
        match (i + seed as usize) % 12 {
            0 => edit(path, &mut random),
            2 => fs::remove_file(path).expect("a removed file"),
            4 => {
                let mut file = fs::OpenOptions::new().append(true).open(path).expect("a file");
                file.write_all(&random.text(3_000)).expect("more text");
            }
            6 => fs::rename(path, path.with_extension(format!("moved-{seed}"))).expect("a renamed file"),
            8 => set_mode(path, 0o600),
            10 => {
                let length = fs::metadata(path).expect("a size").len() / 2;
                fs::OpenOptions::new().write(true).open(path).expect("a file").set_len(length).expect("a shorter file");
            }
            _ => {}
        }
    }
    for i in 0..1 + files.len() / 20 {
        fs::write(dir.join(format!("new-{seed}-{i}")), random.content()).expect("a new file");
    }
}

/// Overwrites some bytes in the middle, so that the size stays.
fn edit(path: &Path, random: &mut Random) {
    let size = fs::metadata(path).expect("a size").len();
    let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(&random.bytes(64), size / 2).expect("other bytes");
}
