//! Reading a request body inside limits.

use crate::{Limits, Moving, Refusal, Stalled};
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// Refuses what the headers already rule out, before a byte is read.
pub(crate) fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING) {
        let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(Refusal::ContentEncoding { encoding });
        }
    }
    let declared = headers.get(CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let limit = limits.body_bytes;
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::BodyTooLarge { limit });
    }
    Ok(())
}

/// Reads the whole body, at most the limit, for as long as it keeps coming.
pub(crate) async fn read(body: Body, limits: &Limits) -> Result<Bytes, Refusal> {
    let limit = limits.body_bytes;
    let body = Moving::new(body, limits.body_stall);
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(err) if err.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge { limit }),
        Err(err) => match err.downcast_ref::<Stalled>() {
            Some(stalled) => Err(Refusal::BodyStalled(*stalled)),
            None => Err(Refusal::BodyIncomplete),
        },
    }
}
