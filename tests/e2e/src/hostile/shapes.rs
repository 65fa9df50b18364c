//! What a hostile request looks like. Each shape has a size, so that a run has one.

use std::time::Duration;

/// How a request is out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Names in the path fill the request line.
    LongPath,
    /// Hundreds of path segments.
    DeepPath,
    /// Thousands of parameters.
    LongQuery,
    /// A header line of hundreds of kB.
    LongHeader,
    /// As many header lines as are taken.
    ManyHeaders,
    /// A signature that names one header a hundred thousand times.
    RepeatedSigned,
    /// A signature in the query that does.
    RepeatedPresigned,
    /// An access key id of hundreds of kB.
    LongKeyId,
    /// A body of the largest size, and no document at all.
    LargeBody,
    /// A large body that nobody said the length of.
    ChunkedBody,
    /// A body of brackets.
    DeepBody,
    /// A document whose every part is deep.
    DeepParts,
    /// A document whose lists are long, of the smallest parts that there are.
    ManyParts,
    /// A document whose objects have many names.
    ManyNames,
    /// A document that repeats as often as it may.
    MuchWork,
    /// A form of many fields.
    RepeatedFields,
    /// An HTML form with a file.
    FileForm,
    /// More body is promised than ever comes.
    PromisedBody,
    /// A head that never ends.
    SlowHead,
    /// A body that never ends.
    SlowBody,
    /// Requests without end, and no answer is read.
    NeverReads,
}

pub(super) const SHAPES: [Shape; 21] = [
    Shape::LongPath,
    Shape::DeepPath,
    Shape::LongQuery,
    Shape::LongHeader,
    Shape::ManyHeaders,
    Shape::RepeatedSigned,
    Shape::RepeatedPresigned,
    Shape::LongKeyId,
    Shape::LargeBody,
    Shape::ChunkedBody,
    Shape::DeepBody,
    Shape::DeepParts,
    Shape::ManyParts,
    Shape::ManyNames,
    Shape::MuchWork,
    Shape::RepeatedFields,
    Shape::FileForm,
    Shape::PromisedBody,
    Shape::SlowHead,
    Shape::SlowBody,
    Shape::NeverReads,
];

impl Shape {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LongPath => "long path",
            Self::DeepPath => "deep path",
            Self::LongQuery => "long query",
            Self::LongHeader => "long header",
            Self::ManyHeaders => "many headers",
            Self::RepeatedSigned => "repeated signed headers",
            Self::RepeatedPresigned => "the same, presigned",
            Self::LongKeyId => "long key id",
            Self::LargeBody => "large body",
            Self::ChunkedBody => "body of any length",
            Self::DeepBody => "deep body",
            Self::DeepParts => "document of deep parts",
            Self::ManyParts => "document of many parts",
            Self::ManyNames => "document of many names",
            Self::MuchWork => "document of much work",
            Self::RepeatedFields => "repeated form fields",
            Self::FileForm => "file form",
            Self::PromisedBody => "promised body",
            Self::SlowHead => "slow head",
            Self::SlowBody => "slow body",
            Self::NeverReads => "answers never read",
        }
    }

    /// Whether it keeps its connection for as long as it is let.
    pub(super) const fn holds(self) -> bool {
        matches!(
            self,
            Self::PromisedBody | Self::SlowHead | Self::SlowBody | Self::NeverReads
        )
    }

    /// Whether it is something that a route would read.
    pub(super) const fn is_document(self) -> bool {
        matches!(
            self,
            Self::DeepParts | Self::ManyParts | Self::ManyNames | Self::MuchWork
        )
    }

    /// How long an answer is waited for, or the connection held.
    pub(super) const fn patience(self) -> Duration {
        match self.holds() {
            true => Duration::from_secs(3),
            false => Duration::from_secs(40),
        }
    }

    /// Headers beside host and credentials.
    pub(super) fn headers(self) -> Vec<(String, String)> {
        let header = |name: &str, value: String| (name.to_owned(), value);
        match self {
            Self::LongHeader => vec![header("x-long", "y".repeat(300_000))],
            Self::ManyHeaders => (0..240)
                .map(|i| header(&format!("x-amz-meta-{i}"), "v".repeat(20)))
                .collect(),
            Self::RepeatedSigned | Self::RepeatedPresigned => {
                vec![header("x", "y".repeat(20_000))]
            }
            Self::RepeatedFields => {
                let form = "application/x-www-form-urlencoded";
                vec![header("content-type", form.to_owned())]
            }
            Self::FileForm => {
                let form = "multipart/form-data; boundary=b";
                vec![header("content-type", form.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    /// The length that the head announces.
    pub(super) fn announced(self, body: usize) -> Option<usize> {
        match self {
            Self::ChunkedBody => None,
            Self::PromisedBody => Some(body.max(16 << 10)),
            Self::SlowBody => Some(body.max(2)),
            _ => Some(body),
        }
    }

    /// How much of the body comes.
    pub(super) fn sent(self, body: usize) -> usize {
        match self {
            Self::PromisedBody => body / 2,
            Self::SlowBody => body.min(1),
            _ => body,
        }
    }
}

/// Who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Nobody,
    Wrong,
    Right,
}

pub(super) const KEYS: [Key; 3] = [Key::Nobody, Key::Wrong, Key::Right];

impl Key {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no key",
            Self::Wrong => "wrong key",
            Self::Right => "right key",
        }
    }
}
