//! The same signatures as AWS's own signer, and the AWS example vector.

use super::*;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use proptest::prelude::*;
use std::time::SystemTime;

const HOST: &str = "127.0.0.1:8181";

fn credentials(session_token: Option<&str>) -> Credentials {
    Credentials {
        access_key: "AKIDEXAMPLE".into(),
        secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        session_token: session_token.map(str::to_owned),
    }
}

/// What AWS's signer adds to the request.
fn oracle(
    request: &Signable<'_>,
    credentials: &Credentials,
    service: &str,
    at: OffsetDateTime,
) -> Vec<(String, String)> {
    let identity = aws_credential_types::Credentials::new(
        &credentials.access_key,
        &credentials.secret_key,
        credentials.session_token.clone(),
        None,
        "test",
    )
    .into();
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(SystemTime::from(at))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let mark = if request.query.is_empty() { "" } else { "?" };
    let uri = format!("http://{HOST}{}{mark}{}", request.path, request.query);
    let headers = request.headers.iter().copied();
    let body = SignableBody::Bytes(request.body);
    let signable = SignableRequest::new(request.method, uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let added = instructions.headers();
    let mut added: Vec<_> = added.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    added.sort();
    added
}

fn ours(
    request: &Signable<'_>,
    credentials: &Credentials,
    service: &str,
    at: OffsetDateTime,
) -> Vec<(String, String)> {
    let scope = Scope {
        region: "us-east-1".into(),
        service: service.into(),
    };
    let signer = Signer::new(credentials.clone(), scope);
    // The first signature of another day must not leave its key behind.
    let _ = signer.sign(request, at - time::Duration::days(1));
    let added = signer.sign(request, at).into_iter();
    let mut added: Vec<_> = added.map(|(n, v)| (n.to_owned(), v)).collect();
    added.sort();
    added
}

#[test]
fn the_example_of_the_aws_documentation_verifies() {
    // "Examples: Signature calculations", GET Object with a range, Amazon S3 API reference.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let example = Credentials {
        access_key: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        session_token: None,
    };
    let request = Signable {
        method: "GET",
        host: "examplebucket.s3.amazonaws.com",
        path: "/test.txt",
        query: "",
        headers: &[("range", "bytes=0-9")],
        body: b"",
    };
    let at = time::macros::datetime!(2013-05-24 00:00:00 UTC);
    let added = ours(&request, &example, "s3", at);
    let expected = "AWS4-HMAC-SHA256 \
        Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
        SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
        Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    assert_eq!(added[0], ("authorization".into(), expected.into()));
    assert_eq!(added[1], ("x-amz-content-sha256".into(), empty.into()));
}

proptest! {
    #[test]
    fn signatures_equal_those_of_the_aws_signer(
        service in prop::sample::select(vec!["s3", "s3tables", "execute-api"]),
        method in prop::sample::select(vec!["GET", "PUT", "POST", "DELETE", "HEAD"]),
        segments in prop::collection::vec("[a-zA-Z0-9 =:+/é~._-]{1,12}", 0..4),
        pairs in prop::collection::vec(("[a-z-]{1,8}", "[a-zA-Z0-9 :/+=é]{0,8}"), 0..4),
        header in prop::option::of("[a-z0-9/=-]{1,12}"),
        token in prop::option::of("[A-Za-z0-9+/=]{1,40}"),
        body in prop::collection::vec(any::<u8>(), 0..50),
        seconds in 1_000_000_000_i64..2_000_000_000,
    ) {
        // Dots alone are path navigation, which no client of ours sends.
        prop_assume!(segments.iter().all(|s| s.chars().any(|c| c != '.')));
        let encode = |s: &String| utf8_percent_encode(s, UNRESERVED).to_string();
        let path = format!("/{}", segments.iter().map(encode).collect::<Vec<_>>().join("/"));
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={}", encode(v))).collect();
        let query = pairs.join("&");
        let headers: Vec<_> = header.iter().map(|v| ("content-type", v.as_str())).collect();
        let request = Signable { method, host: HOST, path: &path, query: &query,
            headers: &headers, body: &body };
        let credentials = credentials(token.as_deref());
        let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        prop_assert_eq!(
            ours(&request, &credentials, service, at),
            oracle(&request, &credentials, service, at)
        );
    }
}
