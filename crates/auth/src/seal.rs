//! Sealed texts: a short binary payload and its HMAC, printable. Carries bearer and session tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// A derived key; 256 bits.
pub(crate) type SealKey = [u8; 32];

/// HMAC-SHA256 over the parts, each preceded by its length so that no two lists of parts collide.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Seals `payload` under `key` and prints it behind `prefix`.
pub(crate) fn seal(prefix: &str, key: &SealKey, payload: &[u8]) -> String {
    let mut bytes = payload.to_vec();
    bytes.extend_from_slice(&mac(key, &[prefix.as_bytes(), payload]));
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The payload of a text that [`seal`] printed under the same prefix and key, else `None`.
pub(crate) fn open(prefix: &str, key: &SealKey, text: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?;
    let at = bytes.len().checked_sub(32)?;
    let given = bytes.split_off(at);
    let wanted = mac(key, &[prefix.as_bytes(), &bytes]);
    bool::from(wanted.ct_eq(&given)).then_some(bytes)
}

/// Reads the fixed and length-prefixed fields of a payload in order.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn int(&mut self) -> Option<i64> {
        let (head, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*head))
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

/// Appends a text with its length in front; keys and prefixes are at most 1024 bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sealed_payload_opens_and_no_changed_one_does(
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            key: [u8; 32],
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
        ) {
            let text = seal("p.", &key, &payload);
            prop_assert_eq!(open("p.", &key, &text), Some(payload));
            let mut raw = URL_SAFE_NO_PAD.decode(&text[2..]).unwrap();
            let index = at.index(raw.len());
            raw[index] ^= flip;
            let forged = format!("p.{}", URL_SAFE_NO_PAD.encode(&raw));
            prop_assert_eq!(open("p.", &key, &forged), None);
            let mut other = key;
            other[0] ^= flip;
            prop_assert_eq!(open("p.", &other, &text), None);
        }

        #[test]
        fn arbitrary_text_never_opens(text in ".{0,100}", key: [u8; 32]) {
            prop_assert_eq!(open("p.", &key, &text), None);
        }
    }

    #[test]
    fn a_seal_is_bound_to_its_prefix() {
        let text = seal("a.", &[1; 32], b"x");
        assert_eq!(open("b.", &[1; 32], &text.replacen("a.", "b.", 1)), None);
    }
}
