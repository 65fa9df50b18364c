//! What a signature may ask of whoever checks it.
//!
//! The canonical request repeats a header's value for each time that it is named, so a list that
//! names one header many times makes a small request a large one. The work for a signature is linear
//! in the request only because no name is repeated.

use super::SignatureError;
use floeberg_types::limits::{
    ACCESS_KEY_BYTES, AUTHORIZATION_BYTES, QUERY_FIELDS, SCOPE_REGION_BYTES, SIGNED_HEADERS,
};
use s3s_sigv4::{AuthorizationV4, CredentialV4};

/// Checks the `Authorization` header of a request that will be verified elsewhere. A header of another
/// kind, or one that cannot be parsed, costs nothing and is left to whoever verifies.
///
/// # Errors
/// Says which bound is exceeded, or that the signature leaves the host open.
pub fn check_authorization(header: &str) -> Result<(), SignatureError> {
    check_length("the Authorization header", header)?;
    match AuthorizationV4::parse(header) {
        Ok(given) => {
            check_credential(&given.credential)?;
            check_signed_headers(&given.signed_headers)
        }
        Err(_) => Ok(()),
    }
}

/// Checks the parameters of a presigned URL that will be verified elsewhere: decoded names and values.
///
/// # Errors
/// Says which bound is exceeded, or that the signature leaves the host open.
pub fn check_presigned<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), SignatureError> {
    for (name, value) in pairs {
        match name {
            "X-Amz-Credential" => {
                check_length("the parameter X-Amz-Credential", value)?;
                if let Ok(credential) = CredentialV4::parse(value) {
                    check_credential(&credential)?;
                }
            }
            "X-Amz-SignedHeaders" => {
                check_length("the parameter X-Amz-SignedHeaders", value)?;
                // Only as many as are needed to see that there are too many.
                let names: Vec<_> = value.split(';').take(SIGNED_HEADERS + 1).collect();
                check_signed_headers(&names)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks how many names and values a raw query string has.
///
/// # Errors
/// When there are too many.
pub fn check_query(raw_query: &str) -> Result<(), SignatureError> {
    let too_many = raw_query.split('&').nth(QUERY_FIELDS).is_some();
    match too_many {
        true => Err(SignatureError::TooManyParameters),
        false => Ok(()),
    }
}

pub(super) fn check_length(what: &'static str, text: &str) -> Result<(), SignatureError> {
    if text.len() > AUTHORIZATION_BYTES {
        return Err(SignatureError::TooLong {
            what,
            limit: AUTHORIZATION_BYTES,
        });
    }
    Ok(())
}

pub(super) fn check_credential(credential: &CredentialV4<'_>) -> Result<(), SignatureError> {
    for (what, text, limit) in [
        (
            "the access key id",
            credential.access_key_id,
            ACCESS_KEY_BYTES,
        ),
        (
            "the region in the credential scope",
            credential.aws_region,
            SCOPE_REGION_BYTES,
        ),
    ] {
        if text.len() > limit {
            return Err(SignatureError::TooLong { what, limit });
        }
    }
    Ok(())
}

/// Checks a list of signed header names. Names are compared without case, as header lookups are.
pub(super) fn check_signed_headers(names: &[&str]) -> Result<(), SignatureError> {
    if names.len() > SIGNED_HEADERS {
        return Err(SignatureError::TooManySigned);
    }
    let mut sorted: Vec<_> = names.iter().map(|n| n.to_ascii_lowercase()).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(SignatureError::SignedTwice {
            header: twice[0].clone(),
        });
    }
    if sorted.binary_search_by(|n| n.as_str().cmp("host")).is_err() {
        return Err(SignatureError::Unsigned {
            header: "host".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(id: &str, region: &str, names: &str) -> String {
        let signature = "0".repeat(64);
        format!(
            "AWS4-HMAC-SHA256 Credential={id}/20261130/{region}/s3/aws4_request, \
             SignedHeaders={names}, Signature={signature}"
        )
    }

    fn presigned(names: &str) -> Result<(), SignatureError> {
        let credential = "AKIA/20261130/us-east-1/s3/aws4_request";
        let pairs = [
            ("X-Amz-Credential", credential),
            ("X-Amz-SignedHeaders", names),
            ("partNumber", "1"),
        ];
        check_presigned(pairs)
    }

    fn both(names: &str) -> Result<(), SignatureError> {
        let header = check_authorization(&authorization("AKIA", "us-east-1", names));
        let query = presigned(names);
        assert_eq!(header, query, "{names}");
        header
    }

    #[test]
    fn a_header_may_be_named_once() {
        assert_eq!(both("host;x-amz-date"), Ok(()));
        let twice = |header: &str| {
            let header = header.to_owned();
            Err(SignatureError::SignedTwice { header })
        };
        assert_eq!(
            both("host;x-amz-meta-a;x-amz-meta-a"),
            twice("x-amz-meta-a")
        );
        // Lookups of headers ignore case: this is the same header twice.
        assert_eq!(both("host;range;Range"), twice("range"));
        assert_eq!(both("host;x;y;z;host"), twice("host"));
    }

    #[test]
    fn names_have_a_bound() {
        let names = |count: usize| {
            let more: Vec<_> = (1..count).map(|i| format!("x-{i}")).collect();
            format!("host;{}", more.join(";"))
        };
        assert_eq!(both(&names(SIGNED_HEADERS)), Ok(()));
        let one_more = both(&names(SIGNED_HEADERS + 1));
        assert_eq!(one_more, Err(SignatureError::TooManySigned));
    }

    #[test]
    fn the_host_is_always_signed() {
        let header = "host".to_owned();
        let open = Err(SignatureError::Unsigned { header });
        assert_eq!(both("x-amz-date"), open);
        assert_eq!(both(""), open);
    }

    #[test]
    fn texts_have_bounds() {
        let long = "A".repeat(ACCESS_KEY_BYTES + 1);
        for (id, region, what) in [
            (long.as_str(), "us-east-1", "the access key id is longer"),
            ("AKIA", long.as_str(), "the region in the credential scope"),
        ] {
            let refused = check_authorization(&authorization(id, region, "host"));
            assert!(refused.unwrap_err().to_string().starts_with(what));
        }
        let whole = authorization("AKIA", "us-east-1", &"a".repeat(AUTHORIZATION_BYTES));
        let refused = check_authorization(&whole).unwrap_err();
        assert!(refused.to_string().contains("8192 bytes"), "{refused}");
        assert_eq!(check_authorization("Bearer whatever"), Ok(()));
    }

    #[test]
    fn query_fields_have_a_bound() {
        assert_eq!(check_query(""), Ok(()));
        let fields = vec!["a=b"; QUERY_FIELDS].join("&");
        assert_eq!(check_query(&fields), Ok(()));
        let one_more = check_query(&format!("{fields}&c"));
        assert_eq!(one_more, Err(SignatureError::TooManyParameters));
    }
}
