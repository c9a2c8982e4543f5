//! What a server's refusal means, and whether asking again may help.
//!
//! Servers say it with a status and a short XML text with a code; proxies before them with a status
//! alone; the network with an error of the connection. What is shown to a person is made of the code
//! and the message, never of the whole answer, which may repeat what was signed.

use crate::store::Trouble;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as _;

/// Why one request, or a series of them, did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The object is not there.
    Missing,
    /// An object of that name is there.
    Exists,
    /// The part that was asked for begins behind the object's end.
    BehindTheEnd,
    /// The store did not do it.
    Trouble {
        /// Why.
        trouble: Trouble,
        /// In the server's own words.
        said: String,
        /// Asking again may help.
        again: bool,
    },
}

impl Failure {
    /// A failure that asking again may mend.
    pub fn passing(trouble: Trouble, said: impl Into<String>) -> Self {
        Self::Trouble { trouble, said: said.into(), again: true }
    }

    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Trouble { again: true, .. })
    }
}

/// An answer that should be another, found after it was read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OddAnswer(pub String);

impl From<OddAnswer> for object_store::Error {
    fn from(odd: OddAnswer) -> Self {
        object_store::Error::Generic { store: "S3", source: Box::new(odd) }
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        let text = whole_text(&error);
        let code = between(&text, "<Code>", "</Code>");
        match &error {
            Error::NotFound { .. } if code == Some("NoSuchBucket") => fixed(Trouble::NoBucket, &text),
            Error::NotFound { .. } => Self::Missing,
            Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Self::Exists,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                fixed(code.and_then(of_code).unwrap_or(Trouble::Denied), &text)
            }
            _ => other(&error, &text, code),
        }
    }
}

fn other(error: &object_store::Error, text: &str, code: Option<&str>) -> Failure {
    if is_about_metadata(text) {
        return fixed(Trouble::NoCredentials, "");
    }
    if text.contains("Received redirect without LOCATION") {
        return fixed(Trouble::Region, text);
    }
    if let Some(trouble) = code.and_then(of_code) {
        return fixed(trouble, text);
    }
    // What was sent did not arrive as it was sent, or not in time.
    let garbled = ["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "RequestTimeout", "IncompleteBody"];
    if code.is_some_and(|code| garbled.contains(&code)) {
        return Failure::passing(Trouble::Busy, said(text));
    }
    match status(text) {
        Some(416) => Failure::BehindTheEnd,
        Some(301 | 302 | 307 | 308) => fixed(Trouble::Region, text),
        Some(501) => fixed(Trouble::Unable, text),
        // The answer to a HEAD has no code: it may be one of those above, or a request that came too slowly.
        Some(400) if code.is_none() => Failure::passing(Trouble::Busy, said(text)),
        Some(408 | 409 | 429 | 500..=599) => Failure::passing(Trouble::Busy, said(text)),
        Some(_) => fixed(Trouble::Unable, text),
        None => of_connection(error, text),
    }
}

/// Errors without a status: of the way there, or an answer that makes no sense.
fn of_connection(error: &object_store::Error, text: &str) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(odd) = found.downcast_ref::<OddAnswer>() {
            return Failure::passing(Trouble::Answer, odd.0.clone());
        }
        if let Some(http) = found.downcast_ref::<HttpError>() {
            let trouble = if http.kind() == HttpErrorKind::Decode { Trouble::Answer } else { Trouble::Unreachable };
            return Failure::passing(trouble, last_cause(http));
        }
        cause = found.source();
    }
    Failure::passing(Trouble::Answer, said(text))
}

fn of_code(code: &str) -> Option<Trouble> {
    Some(match code {
        "NoSuchBucket" => Trouble::NoBucket,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => Trouble::Denied,
        "RequestTimeTooSkewed" | "RequestExpired" => Trouble::Clock,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            Trouble::BadCredentials
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Trouble::Region,
        "NotImplemented" => Trouble::Unable,
        _ => return None,
    })
}

fn fixed(trouble: Trouble, text: &str) -> Failure {
    Failure::Trouble { trouble, said: said(text), again: false }
}

/// Without credentials in the surroundings they are asked of the machine's own cloud, if it has one.
fn is_about_metadata(text: &str) -> bool {
    ["169.254.169.254", "/latest/api/token", "/latest/meta-data/"].iter().any(|part| text.contains(part))
}

/// The server's code and message, or else the status, or else nothing.
fn said(text: &str) -> String {
    let code = between(text, "<Code>", "</Code>");
    let message = between(text, "<Message>", "</Message>");
    match (code, message, status(text)) {
        (Some(code), Some(message), _) if !message.is_empty() => format!("{code}: {}", message.trim_end_matches('.')),
        (Some(code), _, _) => code.to_owned(),
        (None, _, Some(status)) => format!("status {status}"),
        _ => String::new(),
    }
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    let rest = &text[text.find(from)? + from.len()..];
    Some(rest[..rest.find(to)?].trim())
}

fn status(text: &str) -> Option<u16> {
    let rest = &text[text.find("status code: ")? + 13..];
    rest.get(..3)?.parse().ok()
}

fn whole_text(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        text.push('\n');
        text.push_str(&found.to_string());
        cause = found.source();
    }
    text
}

fn last_cause(error: &HttpError) -> String {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> object_store::Error {
        OddStatus(format!("Server returned non-2xx status code: {status}: {body}")).into()
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct OddStatus(String);

    impl From<OddStatus> for object_store::Error {
        fn from(odd: OddStatus) -> Self {
            object_store::Error::Generic { store: "S3", source: Box::new(odd) }
        }
    }

    #[test]
    fn refusals_are_told_from_what_passes() {
        let slow = "<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>";
        let said = "SlowDown: Reduce your rate";
        assert_eq!(Failure::from(answer("503 Service Unavailable", slow)), Failure::passing(Trouble::Busy, said));
        let wrong = "<Error><Code>AuthorizationHeaderMalformed</Code></Error>";
        for (status, body, expected) in [
            ("400 Bad Request", wrong, Trouble::Region),
            ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>", Trouble::BadCredentials),
            ("501 Not Implemented", "", Trouble::Unable),
        ] {
            match Failure::from(answer(status, body)) {
                Failure::Trouble { trouble, again: false, .. } => assert_eq!(trouble, expected),
                other => panic!("{status}: {other:?}"),
            }
        }
        assert_eq!(Failure::from(answer("416 Range", "")), Failure::BehindTheEnd);
        assert!(Failure::from(answer("400 Bad Request", "<Error><Code>BadDigest</Code></Error>")).may_pass());
        assert!(Failure::from(answer("400 Bad Request", "")).may_pass());
    }

    #[test]
    fn what_was_signed_is_not_repeated() {
        let body =
            "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message><StringToSign>x</StringToSign></Error>";
        match Failure::from(answer("403 Forbidden", body)) {
            Failure::Trouble { said, trouble, .. } => {
                assert_eq!((said.as_str(), trouble), ("SignatureDoesNotMatch: no", Trouble::BadCredentials));
            }
            other => panic!("{other:?}"),
        }
    }
}
