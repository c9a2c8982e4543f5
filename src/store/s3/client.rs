//! The client of one bucket: built from the surroundings, driven by a hidden thread.
//!
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` and the rest of the
//! standard variables count; without a key in them the machine's own role is asked for one. Bodies are
//! sent with their SHA-256, signed, so that a server that looks refuses what did not arrive whole.

use super::patience::{GivenUp, Patience};
use super::trouble::Failure;
use super::watch::Watching;
use crate::monitor::Monitor;
use crate::store::location::Bucket;
use crate::store::{Error, Key, Result};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long a connection may take to come about.
const CONNECT_SECONDS: u64 = 10;

/// A bucket's client and the thread that serves its sockets.
#[derive(Debug)]
pub(super) struct Client {
    pub s3: AmazonS3,
    pub patience: Patience,
    pub handle: Handle,
    /// For messages.
    pub bucket: Bucket,
    /// The server as messages and catalogs name it.
    pub server: String,
    /// Dropped, it ends the thread.
    _thread: oneshot::Sender<()>,
}

impl Client {
    pub fn open(bucket: &Bucket, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let wrong = |reason: String| Error::Address { address: bucket.to_string(), reason };
        let builder = builder(bucket);
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let endpoint = bucket.endpoint.clone().or_else(|| endpoint_of(&builder));
        if let Some(reason) = half_of_a_key(&builder) {
            return Err(wrong(reason));
        }
        let s3 = builder.build().map_err(|error| wrong(error.to_string()))?;
        let system = |source| Error::Io { operation: "start a thread for", object: bucket.to_string(), source };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(system)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            let _ended = runtime.block_on(stopped);
        };
        std::thread::Builder::new().name("s3".to_owned()).spawn(serve).map_err(system)?;
        let server = endpoint.unwrap_or_else(|| format!("AWS {}", region.unwrap_or_else(|| "us-east-1".to_owned())));
        let patience = Patience::from_environment(monitor);
        Ok(Self { s3, patience, handle, bucket: bucket.clone(), server, _thread: stop })
    }

    /// Waits for `future` on this thread.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Where in the bucket the path `below` the repository's root is.
    pub fn path(&self, below: &str) -> Path {
        match self.bucket.prefix.as_str() {
            "" => Path::from(below),
            prefix => Path::from(format!("{prefix}/{below}")),
        }
    }

    pub fn path_of(&self, key: &Key) -> Path {
        self.path(&key.path())
    }

    /// The error that a failure is for the callers of a store.
    pub fn error(&self, operation: &'static str, object: String, given_up: GivenUp) -> Error {
        match given_up.failure {
            Failure::Missing => Error::NotFound { object },
            Failure::Trouble { trouble, said, .. } => {
                let said = match given_up.tries {
                    0 | 1 => said,
                    tries if said.is_empty() => format!("{tries} tries"),
                    tries => format!("{said}; {tries} tries"),
                };
                Error::Remote { operation, object, place: self.bucket.to_string(), trouble, said }
            }
            Failure::Exists | Failure::BehindTheEnd => Error::Altered { object },
        }
    }
}

/// What is missing where one of the two variables that belong together is set.
fn half_of_a_key(builder: &AmazonS3Builder) -> Option<String> {
    let has = |key| builder.get_config_value(&key).is_some_and(|value| !value.is_empty());
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let (set, missing) = match (has(AmazonS3ConfigKey::AccessKeyId), has(AmazonS3ConfigKey::SecretAccessKey)) {
        (true, false) => (id, secret),
        (false, true) => (secret, id),
        _ => return None,
    };
    Some(format!("{set} is set and {missing} is not: both are needed"))
}

fn endpoint_of(builder: &AmazonS3Builder) -> Option<String> {
    let of = |key| builder.get_config_value(&key);
    of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint))
}

fn builder(bucket: &Bucket) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket.name)
        .with_http_connector(Watching)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_disable_bulk_delete(true)
        .with_disable_tagging(true);
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &bucket.endpoint {
        // Both names that the surroundings may have for it.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_endpoint(endpoint);
    }
    // Amazon's certificates are good for one label before the name of its server.
    let own_host = endpoint_of(&builder).is_none() && !bucket.name.contains('.');
    builder = builder.with_virtual_hosted_style_request(own_host);
    let plain = bucket.endpoint.clone().or_else(|| endpoint_of(&builder)).is_some_and(|url| url.starts_with("http://"));
    // Each request is repeated by `Patience`, which knows how large it is and what may pass.
    let once = RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO };
    let options = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_http1_only()
        .with_connect_timeout(Duration::from_secs(CONNECT_SECONDS));
    builder.with_client_options(options).with_retry(once)
}
