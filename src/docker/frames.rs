//! Taking apart the frames in which the engine sends a program's two outputs over one connection.
//!
//! A frame is a header of eight bytes (which output, three zeros, the length, big-endian) and so many
//! bytes. The standard output is handed on as it comes; of the error output the end is kept. A stream
//! that ends inside a frame, and one that does not look like frames at all, is an error: its content
//! is not what the program wrote.

use crate::limits::STDERR_BYTES_KEPT;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};

/// The end of an output.
#[derive(Default, Clone)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STDERR_BYTES_KEPT)..];
        let over = (self.0.len() + bytes.len()).saturating_sub(STDERR_BYTES_KEPT);
        self.0.drain(..over);
        self.0.extend(bytes);
    }

    pub fn text(&self) -> String {
        let (first, second) = self.0.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }
}

/// Reads the standard output out of frames.
pub(super) struct Frames<R> {
    source: R,
    /// What is left of the current frame, and whether it is the error output's.
    left: usize,
    is_stderr: bool,
    /// Both outputs are handed on.
    both: bool,
    pub stderr: Tail,
    pub ended: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(source: R) -> Self {
        Self { source, left: 0, is_stderr: false, both: false, stderr: Tail::default(), ended: false }
    }

    /// Hands on both outputs, in their order.
    pub fn both(source: R) -> Self {
        Self { both: true, ..Self::new(source) }
    }

    /// Reads the header of the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        let mut header = [0; 8];
        let mut filled = 0;
        while filled < header.len() {
            match self.source.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(cut("in the header of a frame")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let [output, 0, 0, 0, a, b, c, d] = header else { return Err(foreign()) };
        self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        match output {
            0 | 1 => self.is_stderr = false,
            2 => self.is_stderr = true,
            // The engine's own error about this stream.
            3 => {
                let mut text = Vec::new();
                self.source.by_ref().take(4096.min(self.left as u64)).read_to_end(&mut text)?;
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                return Err(io::Error::other(format!("the engine ends the output: {text}")));
            }
            _ => return Err(foreign()),
        }
        Ok(true)
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.ended {
                return Ok(0);
            }
            if self.left == 0 {
                self.ended = !self.next_frame()?;
                continue;
            }
            let room = buffer.len().min(self.left);
            let count = self.source.read(&mut buffer[..room])?;
            if count == 0 {
                return Err(cut("inside a frame"));
            }
            self.left -= count;
            if !self.is_stderr || self.both {
                return Ok(count);
            }
            self.stderr.push(&buffer[..count]);
        }
    }
}

fn cut(place: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, format!("the output is cut short {place}"))
}

fn foreign() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the output is not in the engine's frames")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(output: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![output, 0, 0, 0];
        out.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        out.extend(content);
        out
    }

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let room = buffer.len().min(1);
            self.0.read(&mut buffer[..room])
        }
    }

    #[test]
    fn outputs_are_told_apart() {
        let data = [frame(1, b"one "), frame(2, b"trouble"), frame(1, b""), frame(1, b"two")].concat();
        for slow in [false, true] {
            let source: Box<dyn Read> = if slow { Box::new(Slow(&data)) } else { Box::new(data.as_slice()) };
            let mut frames = Frames::new(source);
            let mut text = String::new();
            frames.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), frames.stderr.text().as_str()), ("one two", "trouble"));
        }
        let mut both = String::new();
        Frames::both(data.as_slice()).read_to_string(&mut both).unwrap();
        assert_eq!(both, "one troubletwo");
    }

    #[test]
    fn a_cut_anywhere_inside_a_frame_is_an_error() {
        let data = [frame(1, b"one"), frame(2, b"trouble")].concat();
        for at in 0..data.len() {
            let outcome = Frames::new(&data[..at]).read_to_end(&mut Vec::new());
            assert_eq!(outcome.is_ok(), at == 0 || at == 11, "{at}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for data in [b"plain text of a terminal".as_slice(), &frame(4, b"x"), &frame(3, b"broken"), &[1, 0, 0, 1]] {
            assert!(Frames::new(data).read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn of_the_error_output_the_end_is_kept() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        assert!(tail.text().ends_with("line 99999\n") && tail.text().len() <= STDERR_BYTES_KEPT);
        tail.push(&vec![b'x'; 1 << 20]);
        assert_eq!(tail.text(), "x".repeat(STDERR_BYTES_KEPT));
    }
}
