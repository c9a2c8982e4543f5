//! HTTP/1.1 by hand: requests as they come, answers as they go, whole, cut or slow.

use super::server::{Answer, BUCKET, Request};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::time::Duration;

pub fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => drop(headers.insert(name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let len = headers.get("content-length").and_then(|text: &String| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| (decoded(n), decoded(v)));
    let path = decoded(path);
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    // Another bucket is none.
    let key = if bucket == BUCKET { key.to_owned() } else { format!("\0{bucket}") };
    Ok(Some(Request { method, key, query: query.collect(), headers, body }))
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8(out).expect("UTF-8")
}

fn head(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !answer.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

pub fn write_answer(writer: &mut TcpStream, answer: &Answer, is_head: bool, len: usize) -> io::Result<()> {
    writer.write_all(&head(answer))?;
    if !is_head {
        writer.write_all(&answer.body[..len])?;
    }
    writer.flush()
}

pub fn write_slowly(writer: &mut TcpStream, answer: &Answer, is_head: bool) -> io::Result<()> {
    let mut all = head(answer);
    if !is_head {
        all.extend(&answer.body);
    }
    for piece in all.chunks(all.len().div_ceil(16).max(1)) {
        writer.write_all(piece)?;
        writer.flush()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
