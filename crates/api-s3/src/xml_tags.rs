//! An XML document whose tags are counted while it comes.
//!
//! The protocol library keeps a value of hundreds of bytes for an empty element of seven, and counts none
//! before all are there. Only the body itself can be counted before that.

use bytes::Bytes;
use floeberg_types::limits::XML_TAGS;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A document has more tags than any operation needs.
#[derive(Debug, thiserror::Error)]
#[error("the document has more than {XML_TAGS} tags")]
struct TooMany;

/// Tells and is told of the tags of a body that somebody else reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagCount(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Whether the body is a document. Until somebody says so, nothing is counted.
    document: AtomicBool,
    tags: AtomicUsize,
}

impl TagCount {
    /// From now on the body is a document.
    pub(crate) fn begin(&self) {
        self.0.document.store(true, Ordering::Relaxed);
    }

    /// Whether there were too many tags.
    pub(crate) fn exceeded(&self) -> bool {
        self.0.tags.load(Ordering::Relaxed) > XML_TAGS
    }

    fn came(&self, data: &[u8]) -> Result<(), TooMany> {
        if !self.0.document.load(Ordering::Relaxed) {
            return Ok(());
        }
        let more = data.iter().filter(|byte| **byte == b'<').count();
        self.0.tags.fetch_add(more, Ordering::Relaxed);
        match self.exceeded() {
            true => Err(TooMany),
            false => Ok(()),
        }
    }
}

/// A body whose tags are counted.
pub(crate) struct Counting<B> {
    body: B,
    count: TagCount,
}

impl<B> Counting<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            count: TagCount::default(),
        }
    }

    /// A view of the count that outlives the body.
    pub(crate) fn count(&self) -> TagCount {
        self.count.clone()
    }
}

impl<B> Body for Counting<B>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let counted = match &frame {
            Some(Ok(frame)) => frame
                .data_ref()
                .map_or(Ok(()), |data| this.count.came(data)),
            Some(Err(_)) | None => Ok(()),
        };
        Poll::Ready(match counted {
            Ok(()) => frame,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
