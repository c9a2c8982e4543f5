//! The requests as they leave and the answers as they come, looked at before they are believed.
//!
//! The client takes any XML without the elements of a listing for an empty one: the page of a proxy, an
//! error that came with status 200. And it stops where a server says that there is more and not how to
//! get it. Here an answer to a listing must be one, to its end, and must say how it goes on.

use super::trouble::OddAnswer;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use std::future::Future;
use std::pin::Pin;

/// Makes clients that look.
#[derive(Debug, Default)]
pub(super) struct Watching;

impl HttpConnector for Watching {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Watched { inner }))
    }
}

#[derive(Debug)]
struct Watched {
    inner: HttpClient,
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Watched {
    // Written out as `async_trait` writes it.
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> Answered<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let is_listing = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
            let answer = self.inner.execute(request).await?;
            if !is_listing || !answer.status().is_success() {
                return Ok(answer);
            }
            let (parts, body) = answer.into_parts();
            let bytes = body.bytes().await?;
            if let Err(problem) = judge(&bytes) {
                return Err(HttpError::new(HttpErrorKind::Decode, OddAnswer(problem.to_owned())));
            }
            Ok(HttpResponse::from_parts(parts, bytes.into()))
        })
    }
}

/// What is wrong with a page of a listing, if something is.
fn judge(page: &[u8]) -> Result<(), &'static str> {
    let Ok(text) = std::str::from_utf8(page) else { return Err("a listing is no text") };
    let text = text.trim();
    let is_whole = text.contains("<ListBucketResult") && text.ends_with("</ListBucketResult>");
    // An empty element closes itself.
    let is_empty =
        text.ends_with("/>") && text.rfind('<').is_some_and(|at| text[at..].starts_with("<ListBucketResult"));
    if is_empty || !is_whole {
        return Err("a listing is not whole, or is none");
    }
    let more = text.contains("<IsTruncated>true</IsTruncated>");
    let token = text.contains("<NextContinuationToken>") && !text.contains("<NextContinuationToken></");
    match (more, token) {
        (true, false) => Err("a listing has more pages and does not say how to get them"),
        (false, _) if !text.contains("<IsTruncated>") => Err("a listing does not say whether it is complete"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn only_a_whole_listing_is_believed() {
        let page = |inner: &str| {
            format!("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">{inner}</ListBucketResult>\n")
        };
        let good = [
            page("<IsTruncated>false</IsTruncated>"),
            page("<IsTruncated>true</IsTruncated><NextContinuationToken>abc</NextContinuationToken>"),
        ];
        for text in &good {
            assert_eq!(judge(text.as_bytes()), Ok(()), "{text}");
            for len in 0..text.trim_end().len() {
                assert!(judge(&text.as_bytes()[..len]).is_err(), "{len}");
            }
        }
        let bad = [
            String::new(),
            "<html>Please log in</html>".to_owned(),
            "<Error><Code>SlowDown</Code></Error>".to_owned(),
            "<ListBucketResult/>".to_owned(),
            page(""),
            page("<IsTruncated>true</IsTruncated>"),
            page("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"),
        ];
        for text in bad {
            assert!(judge(text.as_bytes()).is_err(), "{text}");
        }
    }
}
