//! What can befall a request: kinds, and what each does to it.

use super::server::{Answer, Objects, Request, State};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Internal,
    SlowDown,
    TooMany,
    RequestTimeout,
    BadGateway,
    /// The connection is closed, and nothing was done.
    ClosedBefore,
    /// It was done, and the answer is lost.
    ClosedAfter,
    /// The answer ends in the middle, against what it says of its length.
    CutOff,
    /// Half of the answer, with a length that fits.
    CutClean,
    WrongBytes,
    Missing,
    EmptyListing,
    StaleListing,
    ShortListing,
    /// A page for people, with status 200.
    ForeignPage,
    /// No answer, and nothing was done.
    Hang,
    /// It was done, and there is no answer.
    HangAfter,
    Slow,
    Denied,
    Expired,
    Skewed,
    Elsewhere,
    /// 412 though nothing is there.
    ClaimsTaken,
    Conflict,
    /// Delivered twice; the answer is the second one's.
    Twice,
    /// What arrives is not what was sent.
    Garbled,
}

pub const ALL: [Fault; 26] = [
    Fault::Internal,
    Fault::SlowDown,
    Fault::TooMany,
    Fault::RequestTimeout,
    Fault::BadGateway,
    Fault::ClosedBefore,
    Fault::ClosedAfter,
    Fault::CutOff,
    Fault::CutClean,
    Fault::WrongBytes,
    Fault::Missing,
    Fault::EmptyListing,
    Fault::StaleListing,
    Fault::ShortListing,
    Fault::ForeignPage,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Denied,
    Fault::Expired,
    Fault::Skewed,
    Fault::Elsewhere,
    Fault::ClaimsTaken,
    Fault::Conflict,
    Fault::Twice,
    Fault::Garbled,
];

impl Fault {
    /// The server says something of the repository that is not so. Whoever believes it may err.
    pub fn is_a_lie(self) -> bool {
        matches!(self, Self::EmptyListing | Self::StaleListing | Self::ShortListing)
    }

    /// The server refuses: nothing that asking again could mend.
    pub fn is_a_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Expired | Self::Skewed | Self::Elsewhere)
    }

    /// True if the fault can befall such a request.
    pub fn concerns(self, request: &Request) -> bool {
        match self {
            Self::EmptyListing | Self::StaleListing | Self::ShortListing | Self::ForeignPage => request.is_listing(),
            Self::CutClean => request.method == "GET",
            Self::WrongBytes | Self::Missing => request.is_read(),
            Self::ClaimsTaken | Self::Conflict | Self::Twice | Self::Garbled => request.method == "PUT",
            _ => true,
        }
    }

    /// What the request gets.
    pub fn apply(self, state: &mut State, request: &Request) -> Given {
        match self {
            Self::Internal => Given::Whole(Answer::error(500, "InternalError")),
            Self::SlowDown => Given::Whole(Answer::error(503, "SlowDown")),
            Self::TooMany => Given::Whole(Answer::new(429, "")),
            Self::RequestTimeout => Given::Whole(Answer::error(400, "RequestTimeout")),
            Self::BadGateway => Given::Whole(Answer::new(502, "<html>bad gateway</html>")),
            Self::ClosedBefore => Given::Nothing,
            Self::ClosedAfter => {
                state.answer(request);
                Given::Nothing
            }
            Self::CutOff => {
                let answer = state.answer(request);
                let half = answer.body.len() / 2;
                Given::Cut(answer, half)
            }
            Self::CutClean => {
                let mut answer = state.answer(request);
                let half = answer.body.len() / 2;
                answer.body.truncate(half);
                Given::Whole(answer)
            }
            Self::WrongBytes => {
                let mut answer = state.answer(request);
                let at = answer.body.len() / 2;
                if let Some(byte) = answer.body.get_mut(at) {
                    *byte ^= 0x20;
                }
                Given::Whole(answer)
            }
            Self::Missing => Given::Whole(Answer::error(404, "NoSuchKey")),
            Self::EmptyListing => Given::Whole(state.list(&Objects::new(), request)),
            Self::StaleListing => Given::Whole(state.list(&state.before, request)),
            Self::ShortListing => {
                let half = state.objects.iter().step_by(2).map(|(key, object)| (key.clone(), object.clone())).collect();
                Given::Whole(state.list(&half, request))
            }
            Self::ForeignPage => Given::Whole(Answer::new(200, "<html><body>Please log in</body></html>")),
            Self::Hang => Given::Never,
            Self::HangAfter => {
                state.answer(request);
                Given::Never
            }
            Self::Slow => Given::Slow(state.answer(request)),
            Self::Denied => Given::Whole(Answer::error(403, "AccessDenied")),
            Self::Expired => Given::Whole(Answer::error(400, "ExpiredToken")),
            Self::Skewed => Given::Whole(Answer::error(403, "RequestTimeTooSkewed")),
            Self::Elsewhere => Given::Whole(Answer::error(301, "PermanentRedirect")),
            Self::ClaimsTaken => Given::Whole(Answer::error(412, "PreconditionFailed")),
            Self::Conflict => Given::Whole(Answer::error(409, "ConditionalRequestConflict")),
            Self::Twice => {
                state.answer(request);
                Given::Whole(state.answer(request))
            }
            Self::Garbled => {
                let mut garbled = request.clone();
                match garbled.body.first_mut() {
                    Some(byte) => *byte ^= 0x20,
                    None => garbled.body.push(7),
                }
                Given::Whole(state.answer(&garbled))
            }
        }
    }
}

/// What a client sees.
pub enum Given {
    Whole(Answer),
    /// The head of the answer and the first bytes of its body, then the end.
    Cut(Answer, usize),
    Slow(Answer),
    Nothing,
    Never,
}

/// Which request the fault befalls.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub fault: Fault,
    /// Counted from the first that it concerns.
    pub index: usize,
    /// And all that come after.
    pub forever: bool,
}

impl Turn {
    pub fn at(&self, index: usize, request: &Request) -> Option<Fault> {
        let due = index == self.index || (self.forever && index > self.index);
        (due && self.fault.concerns(request)).then_some(self.fault)
    }
}
