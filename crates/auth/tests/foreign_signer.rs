//! Signatures of Amazon's own signer are accepted, and no changed request passes with them.

#![allow(clippy::unwrap_used)]

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use floeberg_auth::sigv4::{
    Presented, RegionRule, SKEW_MAX_MS, ScopeRules, SignatureError, SignedRequest, verify,
};
use floeberg_auth::{Keyring, PrincipalKind, RootKey, Scope, ScopeAccess};
use floeberg_types::{BucketName, ClusterId, TimestampMs};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const ID: &str = "AKIAEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const T0: i64 = 1_795_000_000_000;
const ARN_PATH: &str =
    "/iceberg/v1/arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake";

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Signer<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
    service: &'a str,
    region: &'a str,
    encoding: PercentEncodingMode,
    checksum_header: PayloadChecksumKind,
}

const S3TABLES: Signer<'static> = Signer {
    id: ID,
    secret: SECRET,
    token: None,
    service: "s3tables",
    region: "us-east-1",
    encoding: PercentEncodingMode::Double,
    checksum_header: PayloadChecksumKind::NoHeader,
};

fn keys() -> Keyring {
    Keyring::new(
        RootKey::new(ID, SECRET).unwrap(),
        "000000000000".parse().unwrap(),
        ClusterId::from_bytes([1; 16]),
    )
}

fn rules() -> ScopeRules {
    ScopeRules {
        region: RegionRule::Exactly("us-east-1".parse().unwrap()),
        services: ScopeRules::CATALOG_SERVICES,
    }
}

fn signed(signer: Signer<'_>, method: &str, target: &str, body: &[u8]) -> Sent {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = signer.encoding;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = signer.checksum_header;
    let token = signer.token.map(ToOwned::to_owned);
    let identity = Credentials::new(signer.id, signer.secret, token, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(signer.region)
        .name(signer.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(T0.unsigned_abs()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let own = [
        ("host", "localhost:8181"),
        ("content-type", "application/json"),
    ];
    let uri = format!("http://localhost:8181{target}");
    let request =
        SignableRequest::new(method, uri, own.into_iter(), SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let mut headers: Vec<_> = own
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    headers.extend(
        instructions
            .headers()
            .map(|(n, v)| (n.to_lowercase(), v.to_owned())),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Sent {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: body.to_vec(),
    }
}

/// The names and values of what was sent, for [`as_received`].
fn borrowed(sent: &Sent) -> Vec<(&str, &str)> {
    let headers = sent.headers.iter();
    headers.map(|(n, v)| (n.as_str(), v.as_str())).collect()
}

fn as_received<'a>(sent: &'a Sent, headers: &'a [(&'a str, &'a str)]) -> SignedRequest<'a> {
    SignedRequest {
        method: &sent.method,
        raw_path: &sent.path,
        raw_query: &sent.query,
        headers,
    }
}

fn check_at(sent: &Sent, now: TimestampMs) -> Result<PrincipalKind, SignatureError> {
    let headers = borrowed(sent);
    let request = as_received(sent, &headers);
    verify(&request, &sha256(&sent.body), now, &rules(), &keys()).map(|p| p.kind)
}

fn check(sent: &Sent) -> Result<PrincipalKind, SignatureError> {
    check_at(sent, TimestampMs(T0))
}

fn sha256(body: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(body).into()
}

fn set(sent: &mut Sent, name: &str, value: &str) {
    sent.headers.retain(|(n, _)| n != name);
    sent.headers.push((name.to_owned(), value.to_owned()));
}

fn value<'a>(sent: &'a Sent, name: &str) -> &'a str {
    &sent.headers.iter().find(|(n, _)| n == name).unwrap().1
}

#[test]
fn the_targets_that_clients_send_are_accepted() {
    let raw_colons = "/iceberg/v1/arn:aws:s3tables:us-east-1:000000000000:bucket%2Flake/namespaces";
    let targets = [
        "/buckets".to_owned(),
        "/iceberg/v1/config?warehouse=arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Fl"
            .to_owned(),
        format!("{ARN_PATH}/namespaces/a%1Fb/tables?pageToken=&pageSize=10"),
        format!("{ARN_PATH}/namespaces/ns/tables/t%20%2B%C3%A9?snapshots=all"),
        raw_colons.to_owned(),
        "/tag/x?tagKeys=k2&tagKeys=k&tagKeys=K~".to_owned(),
    ];
    for service in ScopeRules::CATALOG_SERVICES {
        for target in &targets {
            let signer = Signer {
                service,
                ..S3TABLES
            };
            let sent = signed(signer, "POST", target, b"{\"a\":1}");
            assert_eq!(check(&sent), Ok(PrincipalKind::Root), "{service} {target}");
        }
    }
}

#[test]
fn the_sent_path_is_accepted_under_the_name_s3_only() {
    let target = format!("{ARN_PATH}/namespaces");
    let single = Signer {
        encoding: PercentEncodingMode::Single,
        ..S3TABLES
    };
    let s3 = signed(
        Signer {
            service: "s3",
            ..single
        },
        "GET",
        &target,
        b"",
    );
    assert_eq!(check(&s3), Ok(PrincipalKind::Root));
    let tables = signed(single, "GET", &target, b"");
    assert_eq!(check(&tables), Err(SignatureError::Mismatch));
    let ambiguous = signed(
        Signer {
            service: "s3",
            ..single
        },
        "GET",
        "/x/a%252Fb",
        b"",
    );
    assert_eq!(check(&ambiguous), Err(SignatureError::Mismatch));
}

#[test]
fn the_body_hash_header_must_fit_the_body() {
    let signer = Signer {
        checksum_header: PayloadChecksumKind::XAmzSha256,
        ..S3TABLES
    };
    let sent = signed(signer, "POST", "/buckets", b"body");
    assert_eq!(check(&sent), Ok(PrincipalKind::Root));
    let mut other = sent;
    other.body = b"other".to_vec();
    assert_eq!(check(&other), Err(SignatureError::BodyHash));

    // The forms that are not a hash, signed or not.
    let plain = signed(S3TABLES, "POST", "/buckets", b"body");
    let cases = [
        ("UNSIGNED-PAYLOAD", SignatureError::UnsignedPayload),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            SignatureError::StreamingPayload,
        ),
        (
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            SignatureError::StreamingPayload,
        ),
        ("", SignatureError::BodyHash),
        ("nonsense", SignatureError::BodyHash),
    ];
    for (claim, error) in cases {
        let mut sent = plain.clone();
        set(&mut sent, "x-amz-content-sha256", claim);
        assert_eq!(check(&sent), Err(error), "{claim}");
    }
    // Iceberg's Java client: base64 in the header, hex on the last line.
    use base64::Engine as _;
    let mut java = plain;
    let base64 = base64::engine::general_purpose::STANDARD.encode(sha256(b"body"));
    set(&mut java, "x-amz-content-sha256", &base64);
    assert_eq!(check(&java), Ok(PrincipalKind::Root));
    java.body = b"other".to_vec();
    assert_eq!(check(&java), Err(SignatureError::BodyHash));
}

#[test]
fn every_changed_part_is_refused() {
    let target = format!("{ARN_PATH}/namespaces/ns/tables?pageSize=10&pageToken=x");
    let sent = signed(S3TABLES, "POST", &target, b"{}");
    assert_eq!(check(&sent), Ok(PrincipalKind::Root));
    type Forge = fn(&mut Sent);
    let forgeries: [(&str, Forge); 16] = [
        ("method", |s| s.method = "DELETE".to_owned()),
        ("path", |s| s.path.push('x')),
        ("path encoding", |s| s.path = s.path.replace("%2F", "/")),
        ("path double encoding", |s| {
            s.path = s.path.replace("%2F", "%252F")
        }),
        ("query value", |s| s.query = s.query.replace("10", "11")),
        ("query added", |s| s.query.push_str("&a=b")),
        ("query dropped", |s| s.query = "pageSize=10".to_owned()),
        ("body", |s| s.body = b"{ }".to_vec()),
        ("empty body", |s| s.body.clear()),
        ("host", |s| set(s, "host", "elsewhere:8181")),
        ("signed header", |s| set(s, "content-type", "text/plain")),
        ("repeated signed header", |s| {
            s.headers
                .push(("content-type".to_owned(), "text/plain".to_owned()));
        }),
        ("date", |s| {
            // One second later or earlier, well inside the skew.
            let text = value(s, "x-amz-date").to_owned();
            let (head, last) = text.split_at(text.len() - 2);
            let other = if last == "0Z" { "1Z" } else { "0Z" };
            set(s, "x-amz-date", &format!("{head}{other}"));
        }),
        ("service", |s| {
            let forged = value(s, "authorization").replace("/s3tables/", "/glue/");
            set(s, "authorization", &forged);
        }),
        ("access key", |s| {
            let forged = value(s, "authorization").replace(ID, "AKIAOTHER");
            set(s, "authorization", &forged);
        }),
        ("signature", |s| {
            let text = value(s, "authorization").to_owned();
            let (head, last) = text.split_at(text.len() - 1);
            let flipped = if last == "0" { "1" } else { "0" };
            set(s, "authorization", &format!("{head}{flipped}"));
        }),
    ];
    for (what, forge) in forgeries {
        let mut forged = sent.clone();
        forge(&mut forged);
        assert!(check(&forged).is_err(), "changed {what} was accepted");
    }
}

#[test]
fn requests_that_could_smuggle_something_are_named() {
    let sent = signed(S3TABLES, "GET", "/buckets?a=1", b"");
    let refused = |change: &dyn Fn(&mut Sent)| {
        let mut changed = sent.clone();
        change(&mut changed);
        check(&changed).unwrap_err()
    };
    let unsigned = refused(&|s| set(s, "x-amz-copy-source", "/other/key"));
    assert_eq!(
        unsigned.to_string(),
        "header x-amz-copy-source must be signed"
    );
    let presigned = refused(&|s| s.query.push_str("&X-Amz-Signature=00"));
    assert_eq!(presigned, SignatureError::Presigned);
    let two = refused(&|s| s.headers.push(("authorization".into(), "Bearer x".into())));
    assert_eq!(
        two,
        SignatureError::Repeated {
            header: "authorization"
        }
    );
    let none = refused(&|s| s.headers.retain(|(n, _)| n != "authorization"));
    assert_eq!(none, SignatureError::Missing);
    let no_date = refused(&|s| s.headers.retain(|(n, _)| n != "x-amz-date"));
    assert_eq!(no_date, SignatureError::Date);
    let no_host = refused(&|s| {
        let text = value(s, "authorization").replace("host;", "");
        set(s, "authorization", &text);
    });
    assert_eq!(no_host.to_string(), "header host must be signed");
    let gone = refused(&|s| s.headers.retain(|(n, _)| n != "content-type"));
    assert_eq!(
        gone.to_string(),
        "signed header content-type is missing from the request"
    );
    let old = refused(&|s| set(s, "authorization", "AWS AKIAEXAMPLE:c2ln"));
    assert_eq!(old, SignatureError::Algorithm);
    let broken = refused(&|s| set(s, "authorization", "AWS4-HMAC-SHA256 Credential=a/b"));
    assert_eq!(broken, SignatureError::Malformed);
}

#[test]
fn what_a_signature_asks_for_has_bounds() {
    let sent = signed(S3TABLES, "GET", "/buckets?a=1", b"");
    let refused = |change: &dyn Fn(&mut Sent)| {
        let mut changed = sent.clone();
        change(&mut changed);
        check(&changed).unwrap_err()
    };
    // A value of 150 kB, named 120,000 times: 18 GB of canonical request.
    let many = refused(&|s| {
        set(s, "x", &"y".repeat(150_000));
        let names = "x;".repeat(120_000);
        let text = value(s, "authorization").replace("host;", &format!("host;{names}"));
        set(s, "authorization", &text);
    });
    assert!(many.to_string().contains("8192 bytes"), "{many}");
    let few = refused(&|s| {
        set(s, "x", &"y".repeat(150_000));
        let text = value(s, "authorization").replace("host;", "host;x;x;");
        set(s, "authorization", &text);
    });
    let header = "x".to_owned();
    assert_eq!(few, SignatureError::SignedTwice { header });
    let long_id = refused(&|s| {
        let text = value(s, "authorization").replace(ID, &"A".repeat(4_000));
        set(s, "authorization", &text);
    });
    assert!(long_id.to_string().contains("128 bytes"), "{long_id}");
    let long_query = refused(&|s| s.query = "a&".repeat(10_000));
    assert_eq!(long_query, SignatureError::TooManyParameters);
}

#[test]
fn the_signature_can_be_checked_before_the_body_where_its_hash_is_claimed() {
    let signer = Signer {
        checksum_header: PayloadChecksumKind::XAmzSha256,
        ..S3TABLES
    };
    let claimed = |sent: &Sent| {
        let headers = borrowed(sent);
        let request = as_received(sent, &headers);
        let (now, rules) = (TimestampMs(T0), rules());
        let presented = Presented::parse(&request, now, &rules)?;
        presented.known(now, &keys())?;
        let claim = presented.claimed_sha256()?;
        claim
            .map(|hash| presented.verify(&hash, now, &keys()))
            .transpose()?;
        Ok(claim)
    };
    let sent = signed(signer, "POST", "/buckets", b"body");
    assert_eq!(claimed(&sent), Ok(Some(sha256(b"body"))));
    let mut forged = sent.clone();
    set(
        &mut forged,
        "x-amz-content-sha256",
        &hex::encode(sha256(b"other")),
    );
    assert_eq!(claimed(&forged), Err(SignatureError::Mismatch));
    set(&mut forged, "x-amz-content-sha256", "none");
    assert_eq!(claimed(&forged), Err(SignatureError::BodyHash));
    assert_eq!(
        claimed(&signed(S3TABLES, "POST", "/buckets", b"body")),
        Ok(None)
    );
    let unknown = Signer {
        id: "AKIAOTHER",
        ..S3TABLES
    };
    let unknown = claimed(&signed(unknown, "POST", "/buckets", b"body"));
    assert_eq!(unknown, Err(SignatureError::Mismatch));
}

#[test]
fn scopes_and_clocks_outside_the_rules_are_refused() {
    let elsewhere = signed(
        Signer {
            region: "eu-west-1",
            ..S3TABLES
        },
        "GET",
        "/buckets",
        b"",
    );
    assert!(matches!(
        check(&elsewhere),
        Err(SignatureError::Region { .. })
    ));
    let other = signed(
        Signer {
            service: "dynamodb",
            ..S3TABLES
        },
        "GET",
        "/buckets",
        b"",
    );
    assert!(matches!(check(&other), Err(SignatureError::Service { .. })));
    let sent = signed(S3TABLES, "GET", "/buckets", b"");
    for edge in [-SKEW_MAX_MS, SKEW_MAX_MS] {
        let at = TimestampMs(T0 + edge);
        assert_eq!(check_at(&sent, at), Ok(PrincipalKind::Root));
        let beyond = TimestampMs(T0 + edge + edge.signum());
        assert_eq!(check_at(&sent, beyond), Err(SignatureError::Skew));
    }
}

#[test]
fn a_wrong_secret_and_an_unknown_key_answer_alike() {
    let wrong = signed(
        Signer {
            secret: "another secret",
            ..S3TABLES
        },
        "GET",
        "/buckets",
        b"",
    );
    let unknown = signed(
        Signer {
            id: "AKIAOTHER",
            ..S3TABLES
        },
        "GET",
        "/buckets",
        b"",
    );
    assert_eq!(check(&wrong), Err(SignatureError::Mismatch));
    assert_eq!(check(&unknown), Err(SignatureError::Mismatch));
}

#[test]
fn vended_credentials_sign_with_their_session_token() {
    let scope = Scope {
        bucket: BucketName::for_tables("lake").unwrap(),
        prefix: "ns/t".to_owned(),
        access: ScopeAccess::Read,
        expires: TimestampMs(T0 + 60_000),
    };
    let vended = keys().vend(scope.clone(), TimestampMs(T0));
    let signer = Signer {
        id: &vended.access_key,
        secret: vended.secret.expose(),
        token: Some(&vended.session_token),
        ..S3TABLES
    };
    let sent = signed(signer, "GET", "/buckets", b"");
    assert_eq!(check(&sent), Ok(PrincipalKind::Vended(scope.into())));
    let late = check_at(&sent, vended.expires);
    assert_eq!(late, Err(SignatureError::ExpiredSession));
    let bare = signed(
        Signer {
            token: None,
            ..signer
        },
        "GET",
        "/buckets",
        b"",
    );
    assert_eq!(check(&bare), Err(SignatureError::SessionToken));
}

proptest! {
    #[test]
    fn any_request_is_accepted_as_signed_and_refused_when_changed(
        segments in proptest::collection::vec("[a-z0-9:%]{0,3}(%2F|%1F|%20|%C3%A9)?[a-z]{1,3}", 1..4),
        query in proptest::collection::vec(("[a-zA-Z~._-]{1,3}", "[a-z0-9]{0,3}(%20|%2B|%25|%7E)?"), 0..4),
        body in proptest::collection::vec(any::<u8>(), 0..40),
        spare in "[a-z]{1,4}",
    ) {
        let path: String = segments
            .iter()
            .map(|s| format!("/{}", s.replace('%', "%25").replace("%252", "%2").replace("%25C3%25A9", "%C3%A9").replace("%251F", "%1F")))
            .collect();
        let query: Vec<_> = query.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let sent = signed(S3TABLES, "PUT", &target, &body);
        prop_assert_eq!(check(&sent), Ok(PrincipalKind::Root));

        let mut longer = sent.clone();
        longer.body.extend_from_slice(spare.as_bytes());
        prop_assert!(check(&longer).is_err());
        let mut deeper = sent.clone();
        deeper.path = format!("{}/{spare}", deeper.path);
        prop_assert!(check(&deeper).is_err());
        let mut asked = sent;
        asked.query = format!("{}&{spare}=1", asked.query);
        prop_assert!(check(&asked).is_err());
    }

    #[test]
    fn no_header_text_makes_the_parser_fall_over(text in ".{0,200}") {
        let mut sent = signed(S3TABLES, "GET", "/buckets", b"");
        set(&mut sent, "authorization", &format!("AWS4-HMAC-SHA256 {text}"));
        prop_assert!(check(&sent).is_err());
    }
}
