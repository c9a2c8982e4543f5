//! Splitting tar archives (POSIX.1-1988 ustar and later) where their files begin and end.
//!
//! A file inside an archive then gives the same chunks as the file itself does elsewhere: in a
//! folder, in another image, in a layer that was rebuilt with other times. What lies between the
//! files, headers and padding, is small and is kept apart; it is [`Piece::Between`] and is stored
//! many pieces to a chunk. Nothing is rebuilt: the pieces in their order are the archive, byte for
//! byte. An archive inside an archive (a layer in a saved image) is split too. Whatever does not
//! look like a header ends the splitting of its archive, and the rest is cut like any other content.

use super::{Cutter, Profile};

const BLOCK: usize = 512;
/// Content shorter than this stays with the headers: a chunk of its own would cost more.
const SMALL: u64 = 1024;
/// Archives in archives in archives.
const DEPTH_MAX: usize = 4;

/// A piece of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Headers, padding, small files: so many bytes. `border`: a group of such pieces may end here.
    Between {
        /// Bytes.
        len: usize,
        /// True behind one header in 64, by its name.
        border: bool,
    },
    /// A chunk of a file's content: so many bytes.
    Content {
        /// Bytes.
        len: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// At a header.
    Header,
    /// In a file, so many bytes before its end; then padding.
    Content { left: u64, padding: u64, begins: bool },
    /// In what belongs to headers, so many bytes before its end.
    Between { left: u64 },
}

/// Where in an archive, which may lie in others, the splitting is.
#[derive(Debug)]
pub struct TarSplitter {
    state: State,
    /// For each archive around this one: what of it is left behind this one, and its padding.
    outer: Vec<(u64, u64)>,
    /// Bytes left of this archive.
    left: u64,
}

impl TarSplitter {
    /// A splitter for what begins with `head`, if that is an archive.
    pub fn for_content(head: &[u8]) -> Option<Self> {
        let header = head.first_chunk::<BLOCK>()?;
        (Header::parse(header).is_some() && is_ustar(header)).then(|| Self {
            state: State::Header,
            outer: Vec::new(),
            left: u64::MAX,
        })
    }

    /// The pieces of `data`, which follows what was split before; `ends` if nothing follows it.
    /// Gives how many bytes they cover: the rest of `data` must come again, with more behind it.
    pub fn split(&mut self, cutter: &Cutter, profile: Profile, data: &[u8], ends: bool, out: &mut Vec<Piece>) -> usize {
        let mut at = 0;
        while at < data.len() {
            let rest = &data[at..];
            let taken = match self.state {
                State::Header => self.header(rest, ends, out),
                State::Between { left } => self.between(rest, left, out),
                State::Content { left, padding, begins } => {
                    self.content(cutter, profile, rest, ends, (left, padding, begins), out)
                }
            };
            if taken == 0 {
                break;
            }
            at += taken;
            self.left = self.left.saturating_sub(taken as u64);
            self.leave_finished();
        }
        at
    }

    /// Goes back to the outer archive when this one has ended.
    fn leave_finished(&mut self) {
        while self.left == 0 {
            let Some((left, padding)) = self.outer.pop() else { return };
            self.left = left;
            self.state = if padding > 0 { State::Between { left: padding } } else { State::Header };
        }
    }

    fn header(&mut self, rest: &[u8], ends: bool, out: &mut Vec<Piece>) -> usize {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let Some(block) = rest.first_chunk::<BLOCK>().filter(|_| room >= BLOCK) else {
            if ends || room < BLOCK {
                self.give_up();
                let len = rest.len().min(room);
                out.push(Piece::Between { len, border: false });
                return len;
            }
            return 0;
        };
        if block.iter().all(|byte| *byte == 0) {
            out.push(Piece::Between { len: BLOCK, border: false });
            return BLOCK;
        }
        let Some(header) = Header::parse(block).filter(|header| header.size <= self.left) else {
            self.give_up();
            // Nothing is consumed by that, so go on as content at once.
            return self.one_between(rest, room, out);
        };
        let padding = header.size.wrapping_neg() & (BLOCK as u64 - 1);
        self.state = match (header.is_file, header.size) {
            (_, 0) => State::Header,
            (true, size) if size >= SMALL => State::Content { left: size, padding, begins: true },
            (_, size) => State::Between { left: size + padding },
        };
        out.push(Piece::Between { len: BLOCK, border: header.is_border });
        BLOCK
    }

    /// The rest of this archive is content of some other kind.
    fn give_up(&mut self) {
        self.state = State::Content { left: self.left, padding: 0, begins: false };
    }

    fn one_between(&mut self, rest: &[u8], room: usize, out: &mut Vec<Piece>) -> usize {
        let len = rest.len().min(room).min(BLOCK);
        if let State::Content { left, .. } = &mut self.state {
            *left = left.saturating_sub(len as u64);
        }
        out.push(Piece::Between { len, border: false });
        len
    }

    fn between(&mut self, rest: &[u8], left: u64, out: &mut Vec<Piece>) -> usize {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - len as u64;
        self.state = if left == 0 { State::Header } else { State::Between { left } };
        out.push(Piece::Between { len, border: false });
        len
    }

    fn content(
        &mut self,
        cutter: &Cutter,
        profile: Profile,
        rest: &[u8],
        ends: bool,
        (left, padding, begins): (u64, u64, bool),
        out: &mut Vec<Piece>,
    ) -> usize {
        let available = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let whole = available as u64 == left || ends;
        if begins && self.outer.len() + 1 < DEPTH_MAX {
            match rest.first_chunk::<BLOCK>() {
                Some(head) if left >= BLOCK as u64 && is_ustar(head) && Header::parse(head).is_some() => {
                    self.outer.push((self.left - left, padding));
                    self.left = left;
                    self.state = State::Header;
                    return self.header(rest, ends, out);
                }
                None if !whole => return 0,
                _ => {}
            }
        }
        if !whole && available < profile.max() {
            self.state = State::Content { left, padding, begins: false };
            return 0;
        }
        let len = cutter.cut(profile, &rest[..available]);
        let left = left - len as u64;
        self.state = match (left, padding) {
            (0, 0) => State::Header,
            (0, padding) => State::Between { left: padding },
            _ => State::Content { left, padding, begins: false },
        };
        out.push(Piece::Content { len });
        len
    }
}

struct Header {
    size: u64,
    is_file: bool,
    is_border: bool,
}

impl Header {
    /// The header in `block`, if its checksum is right and its size can be read.
    fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let stored = octal(&block[148..156])?;
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if sum - field + 8 * u64::from(b' ') != stored {
            return None;
        }
        let size = size_of(&block[124..136])?;
        let is_file = matches!(block[156], b'0' | 0 | b'7');
        // By the name alone: other times or owners do not move the border.
        let hash = blake3::hash(&block[..100]);
        let is_border = hash.as_bytes()[0] & 63 == 0;
        Some(Self { size, is_file, is_border })
    }
}

fn is_ustar(block: &[u8; BLOCK]) -> bool {
    block[257..].starts_with(b"ustar")
}

/// A number in octal digits, with spaces before and a space or NUL behind.
fn octal(field: &[u8]) -> Option<u64> {
    let mut digits =
        field.iter().copied().skip_while(|byte| *byte == b' ').take_while(|byte| !matches!(byte, 0 | b' '));
    digits.try_fold(0u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// A size: octal, or from 8 GiB on binary with the first bit set.
fn size_of(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let (high, low) = rest.split_at(rest.len() - 8);
    let mut number = [0; 8];
    number.copy_from_slice(low);
    let number = u64::from_be_bytes(number);
    (*first == 0x80 && high.iter().all(|byte| *byte == 0) && number <= i64::MAX as u64).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn archive(files: &[(String, Vec<u8>)], mtime: u64) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mtime(mtime);
            tar.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn files(count: usize) -> Vec<(String, Vec<u8>)> {
        let name = |at: usize| format!("d/{}file-{at}", "long/".repeat(at % 40));
        (0..count).map(|at| (name(at), noise((at * 7919) % 300_000, at as u64))).collect()
    }

    /// The pieces of `data`, given to the splitter in parts of `step` bytes.
    fn split(data: &[u8], step: usize) -> Vec<(bool, Vec<u8>)> {
        let cutter = Cutter::new(&[1; 32]);
        let mut splitter = TarSplitter::for_content(data).unwrap();
        let (mut at, mut end, mut out) = (0, 0, Vec::new());
        while at < data.len() {
            end = (end + step).min(data.len());
            let mut pieces = Vec::new();
            let taken = splitter.split(&cutter, Profile::FILES, &data[at..end], end == data.len(), &mut pieces);
            let mut from = at;
            for piece in pieces {
                let (content, len) = match piece {
                    Piece::Between { len, .. } => (false, len),
                    Piece::Content { len } => (true, len),
                };
                assert!(len > 0);
                out.push((content, data[from..from + len].to_vec()));
                from += len;
            }
            assert_eq!(from, at + taken);
            at = from;
        }
        out
    }

    fn join(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
        pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    fn contents(pieces: &[(bool, Vec<u8>)]) -> HashSet<Vec<u8>> {
        pieces.iter().filter(|(content, _)| *content).map(|(_, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn pieces_are_the_archive_whatever_the_steps() {
        let data = archive(&files(60), 1);
        let whole = split(&data, usize::MAX / 2);
        assert!(join(&whole) == data);
        for step in [1 << 20, 3_000_001] {
            let parts = split(&data, step);
            assert!(join(&parts) == data);
            assert!(contents(&parts) == contents(&whole));
        }
    }

    #[test]
    fn files_are_cut_as_they_are_outside() {
        let files = files(60);
        let inside = contents(&split(&archive(&files, 1), usize::MAX / 2));
        let cutter = Cutter::new(&[1; 32]);
        for (name, content) in files.iter().filter(|(_, content)| content.len() as u64 >= SMALL) {
            let mut rest = content.as_slice();
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(cutter.cut(Profile::FILES, rest));
                assert!(inside.contains(chunk), "{name}");
                rest = behind;
            }
        }
    }

    #[test]
    fn another_time_and_an_archive_around_change_no_content() {
        let files = files(30);
        let (old, new) = (archive(&files, 1), archive(&files, 99_999));
        let nested = archive(&[("layer.tar".to_owned(), new.clone()), ("x".to_owned(), noise(5000, 7))], 3);
        let nested_pieces = split(&nested, 1 << 20);
        assert!(join(&nested_pieces) == nested);
        let inner = contents(&split(&old, usize::MAX / 2));
        assert!(inner == contents(&split(&new, usize::MAX / 2)));
        assert!(inner.is_subset(&contents(&nested_pieces)));
        assert!(contents(&nested_pieces).contains(&noise(5000, 7)));
    }

    #[test]
    fn damaged_and_cut_archives_stay_whole() {
        let data = archive(&files(20), 1);
        for at in (0..data.len()).step_by(data.len() / 97) {
            let mut changed = data.clone();
            changed[at] ^= 0x55;
            if TarSplitter::for_content(&changed).is_some() {
                assert!(join(&split(&changed, 1 << 20)) == changed, "{at}");
            }
            if at > BLOCK {
                assert!(join(&split(&data[..at], 1 << 20)) == data[..at], "{at}");
            }
        }
        let mut longer = data.clone();
        longer.extend(noise(3_000_000, 5));
        assert!(join(&split(&longer, 1 << 20)) == longer);
    }

    #[test]
    fn what_is_no_archive_is_not_split() {
        assert!(TarSplitter::for_content(b"").is_none());
        assert!(TarSplitter::for_content(&[0; 1024]).is_none());
        assert!(TarSplitter::for_content(&noise(1024, 1)).is_none());
    }
}
