//! An S3 server in memory, as small as the tests allow: one thread a connection, HTTP/1.1 by hand, so that a
//! fault can be put at any byte of any request. It knows what `snap` asks for and no more; that `snap` asks
//! as others understand it is shown by `independent.rs`, on a server that others have written.

use super::fault::{Given, Turn};
use super::wire::{read_request, write_answer, write_slowly};
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub const BUCKET: &str = "vault";
/// The key of one who may only add.
pub const PUT_ONLY: &str = "put-only";
/// What objects are, by name.
pub type Objects = BTreeMap<String, Arc<Vec<u8>>>;

/// One request, as far as it matters.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Below the bucket; empty for the bucket itself.
    pub key: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn is_listing(&self) -> bool {
        self.method == "GET" && self.query.contains_key("list-type")
    }

    /// What the policy of docs/S3.md lets a host do that only captures: list, read all but packs, put what is
    /// not there.
    pub fn only_adds(&self) -> bool {
        let of_upload = self.query.contains_key("uploadId") || self.query.contains_key("uploads");
        match self.method.as_str() {
            "GET" => self.is_listing() || (self.query.is_empty() && !self.key.contains("/packs/")),
            "HEAD" => true,
            "PUT" if of_upload => true,
            "PUT" => self.query.is_empty() && self.headers.get("if-none-match").is_some_and(|text| text == "*"),
            "POST" | "DELETE" => of_upload,
            _ => false,
        }
    }

    /// A GET of an object.
    pub fn is_read(&self) -> bool {
        self.method == "GET" && !self.is_listing()
    }
}

/// What goes back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    pub fn error(status: u16, code: &str) -> Self {
        let text =
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a test says so</Message></Error>");
        Self::new(status, text)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How the server differs from what S3 promises.
#[derive(Debug, Clone)]
pub struct Rules {
    /// A condition on a put is not looked at.
    pub ignores_conditions: bool,
    /// Nobody may remove anything.
    pub keeps_all: bool,
    /// Objects on a page of a listing.
    pub page: usize,
    /// Every request is refused with this status and code.
    pub refuses: Option<(u16, &'static str)>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { ignores_conditions: false, keeps_all: false, page: 1000, refuses: None }
    }
}

#[derive(Default)]
pub struct State {
    pub objects: Objects,
    /// What there was when the requests were last counted anew: what a stale listing shows.
    pub before: Objects,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    pub rules: Rules,
    pub turn: Option<Turn>,
    pub log: Vec<Request>,
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    count: AtomicUsize,
    stopping: AtomicBool,
    /// Counts what releases those that hang.
    released: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            released: AtomicUsize::new(0),
        });
        let for_all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_all.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&for_all);
                if let Ok(stream) = stream {
                    std::thread::spawn(move || {
                        // A client that has gone needs no answer.
                        let _ = serve(&shared, stream);
                    });
                }
            }
        });
        Self { address, shared }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Counts requests anew, with `turn` for one of them; what hangs is let go.
    pub fn count_anew(&self, turn: Option<Turn>) {
        let mut state = self.state();
        state.turn = turn;
        state.before = state.objects.clone();
        state.log.clear();
        self.shared.count.store(0, Ordering::SeqCst);
        self.shared.released.fetch_add(1, Ordering::SeqCst);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader)? {
        let index = shared.count.fetch_add(1, Ordering::SeqCst);
        let mut state = shared.state();
        state.log.push(Request { body: Vec::new(), ..request.clone() });
        let fault = state.turn.as_ref().and_then(|turn| turn.at(index, &request));
        let given = match fault {
            Some(fault) => fault.apply(&mut state, &request),
            None => Given::Whole(state.answer(&request)),
        };
        drop(state);
        let is_head = request.method == "HEAD";
        match given {
            Given::Whole(answer) => write_answer(&mut writer, &answer, is_head, answer.body.len())?,
            Given::Cut(answer, len) => {
                write_answer(&mut writer, &answer, is_head, len)?;
                return Ok(());
            }
            Given::Slow(answer) => write_slowly(&mut writer, &answer, is_head)?,
            Given::Nothing => return Ok(()),
            Given::Never => {
                let released = shared.released.load(Ordering::SeqCst);
                while shared.released.load(Ordering::SeqCst) == released && !shared.stopping.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &snap::id::to_hex(&sha256(bytes))[..32])
}

impl State {
    /// What a server that works answers.
    pub fn answer(&mut self, request: &Request) -> Answer {
        if let Some((status, code)) = self.rules.refuses {
            return Answer::error(status, code);
        }
        if request.key.starts_with('\0') {
            return Answer::error(404, "NoSuchBucket");
        }
        let credential = |name: &str| {
            let shown = format!("Credential={name}/");
            request.headers.get("authorization").is_some_and(|text| text.contains(&shown))
        };
        if credential(PUT_ONLY) && !request.only_adds() {
            return Answer::error(403, "AccessDenied");
        }
        if !credential(PUT_ONLY) && !credential("test-key") {
            return Answer::error(403, "InvalidAccessKeyId");
        }
        match request.method.as_str() {
            "GET" if request.is_listing() => self.list(&self.objects, request),
            "GET" | "HEAD" => self.get(request),
            "PUT" => self.put(request),
            "POST" => self.post(request),
            "DELETE" => self.delete(request),
            _ => Answer::error(405, "MethodNotAllowed"),
        }
    }

    /// What arrived must be what was sent.
    fn is_whole(request: &Request) -> bool {
        let sum = sha256(&request.body);
        let hex = request.headers.get("x-amz-content-sha256");
        let checked = request.headers.get("x-amz-checksum-sha256");
        hex.is_some_and(|text| *text == snap::id::to_hex(&sum))
            && checked.is_none_or(|text| {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes == sum)
            })
    }

    fn put(&mut self, request: &Request) -> Answer {
        if !Self::is_whole(request) {
            return Answer::error(400, "BadDigest");
        }
        let tag = etag(&request.body);
        if let (Some(id), Some(number)) = (request.query.get("uploadId"), request.query.get("partNumber")) {
            let Some(parts) = self.uploads.get_mut(id) else { return Answer::error(404, "NoSuchUpload") };
            parts.insert(number.parse().expect("a number"), request.body.clone());
            return Answer::new(200, "").with("ETag", tag);
        }
        let conditional = request.headers.get("if-none-match").is_some_and(|text| text == "*");
        if conditional && !self.rules.ignores_conditions && self.objects.contains_key(&request.key) {
            return Answer::error(412, "PreconditionFailed");
        }
        self.objects.insert(request.key.clone(), Arc::new(request.body.clone()));
        Answer::new(200, "").with("ETag", tag)
    }

    fn post(&mut self, request: &Request) -> Answer {
        if request.query.contains_key("uploads") {
            let id = format!("upload-{}", self.uploads.len());
            self.uploads.insert(id.clone(), BTreeMap::new());
            let text =
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            return Answer::new(200, text);
        }
        let Some(parts) = request.query.get("uploadId").and_then(|id| self.uploads.remove(id)) else {
            return Answer::error(404, "NoSuchUpload");
        };
        let bytes: Vec<u8> = parts.into_values().flatten().collect();
        let tag = etag(&bytes);
        self.objects.insert(request.key.clone(), Arc::new(bytes));
        Answer::new(200, format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"))
    }

    fn delete(&mut self, request: &Request) -> Answer {
        if let Some(id) = request.query.get("uploadId") {
            self.uploads.remove(id);
            return Answer::new(204, "");
        }
        if self.rules.keeps_all {
            return Answer::error(403, "AccessDenied");
        }
        self.objects.remove(&request.key);
        Answer::new(204, "")
    }

    fn get(&self, request: &Request) -> Answer {
        let Some(object) = self.objects.get(&request.key) else {
            return match request.method.as_str() {
                "HEAD" => Answer::new(404, ""),
                _ => Answer::error(404, "NoSuchKey"),
            };
        };
        let all = Answer::new(200, object.as_slice())
            .with("ETag", etag(object))
            .with("Last-Modified", "Wed, 25 Nov 2026 12:00:00 GMT");
        if request.method == "HEAD" {
            return Answer { body: Vec::new(), ..all }.with("Content-Length", object.len().to_string());
        }
        let Some(range) = request.headers.get("range").and_then(|text| text.strip_prefix("bytes=")) else { return all };
        let (from, to) = range.split_once('-').expect("a range");
        let from: usize = from.parse().expect("a number");
        if from >= object.len() {
            return Answer::error(416, "InvalidRange");
        }
        let to = to.parse::<usize>().expect("a number").min(object.len() - 1);
        let part = Answer { status: 206, body: object[from..=to].to_vec(), ..all };
        part.with("Content-Range", format!("bytes {from}-{to}/{}", object.len()))
    }

    /// A page of a listing of `objects`.
    pub fn list(&self, objects: &Objects, request: &Request) -> Answer {
        let of = |name: &str| request.query.get(name).map(String::as_str).unwrap_or_default();
        let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("continuation-token"));
        let mut out = String::new();
        let (mut last, mut count, mut more) = (String::new(), 0, false);
        let mut folders = std::collections::BTreeSet::new();
        let found = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        for (key, object) in found.filter(|(key, _)| key.as_str() > after) {
            let rest = &key[prefix.len()..];
            if count == self.rules.page {
                more = true;
                break;
            }
            match rest.split_once('/') {
                Some((folder, _)) if !delimiter.is_empty() => {
                    if folders.insert(folder.to_owned()) {
                        out.push_str(&format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"));
                        count += 1;
                    }
                }
                _ => {
                    out.push_str(&format!(
                        "<Contents><Key>{key}</Key><LastModified>2026-11-25T12:00:00.000Z</LastModified>\
                         <ETag>{}</ETag><Size>{}</Size></Contents>",
                        etag(object),
                        object.len()
                    ));
                    count += 1;
                }
            }
            last.clone_from(key);
        }
        let token = if more { format!("<NextContinuationToken>{last}</NextContinuationToken>") } else { String::new() };
        Answer::new(
            200,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{BUCKET}</Name>\
                 <IsTruncated>{more}</IsTruncated>{token}{out}</ListBucketResult>"
            ),
        )
    }
}
