//! One test per trap of the S3 library and of the protocol that this adapter has to close.

mod support;

use floeberg_auth::ScopeAccess;
use http::Request;
use std::time::Duration;
use support::world::pattern;
use support::*;

#[tokio::test]
async fn anonymous_requests_are_denied() {
    let port = Port::open(1).await;
    call("PUT", "/files/k")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    for (method, path) in [("GET", "/files/k"), ("GET", "/"), ("PUT", "/files/n")] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:9000{path}"))
            .header("host", "127.0.0.1:9000")
            .body(())
            .unwrap();
        port.send(request, "y".into())
            .await
            .refused(403, "AccessDenied");
    }
    call("GET", "/files/n")
        .send(&port)
        .await
        .refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_key_are_refused() {
    let port = Port::open(2).await;
    let wrong = Keys {
        secret: "another secret of good length".to_owned(),
        ..root()
    };
    call("GET", "/files")
        .by(&wrong)
        .send(&port)
        .await
        .refused(403, "SignatureDoesNotMatch");
    let unknown = Keys {
        access_key: "AKIANOBODY0000000001".to_owned(),
        ..root()
    };
    call("GET", "/files")
        .by(&unknown)
        .send(&port)
        .await
        .refused(403, "InvalidAccessKeyId");
}

#[tokio::test]
async fn temporary_keys_need_their_own_token() {
    let port = Port::open(3).await;
    let given = port.vend("ns/t-1", ScopeAccess::ReadWrite);
    let path = "/lake/ns/t-1/data/a";
    call("PUT", path)
        .body("x")
        .by(&given)
        .send(&port)
        .await
        .expect(200);
    call("GET", path).by(&given).send(&port).await.expect(200);
    let bare = Keys {
        token: None,
        ..given.clone()
    };
    call("GET", path)
        .by(&bare)
        .send(&port)
        .await
        .refused(400, "InvalidToken");
    let other = port.vend("ns/t-2", ScopeAccess::ReadWrite);
    let crossed = Keys {
        token: other.token,
        ..given.clone()
    };
    call("GET", path)
        .by(&crossed)
        .send(&port)
        .await
        .refused(400, "InvalidToken");
    let doubled = Keys {
        token: Some("made up".to_owned()),
        ..root()
    };
    call("GET", path)
        .by(&doubled)
        .send(&port)
        .await
        .refused(400, "InvalidToken");
    let request = call("GET", path)
        .by(&given)
        .presign(Duration::from_secs(60));
    assert!(
        request
            .uri()
            .query()
            .unwrap()
            .contains("X-Amz-Security-Token")
    );
    port.send(request, "".into()).await.expect(200);
    port.world.control.jump_clock(700_000);
    call("GET", path)
        .by(&given)
        .send(&port)
        .await
        .refused(400, "ExpiredToken");
}

#[tokio::test]
async fn temporary_keys_stay_inside_their_prefix() {
    let port = Port::open(4).await;
    let writer = port.vend("ns/t-1", ScopeAccess::ReadWrite);
    let reader = port.vend("ns/t-1", ScopeAccess::Read);
    let denied = |answer: Answer| answer.refused(403, "AccessDenied");
    call("PUT", "/files/secret")
        .body("s")
        .send(&port)
        .await
        .expect(200);
    call("PUT", "/lake/ns/t-1/a")
        .body("x")
        .by(&writer)
        .send(&port)
        .await
        .expect(200);
    call("HEAD", "/lake")
        .by(&reader)
        .send(&port)
        .await
        .expect(200);
    call("GET", "/lake?list-type=2&prefix=ns%2Ft-1%2F")
        .by(&reader)
        .send(&port)
        .await
        .expect(200);
    denied(
        call("GET", "/lake?list-type=2")
            .by(&reader)
            .send(&port)
            .await,
    );
    denied(call("GET", "/files/secret").by(&writer).send(&port).await);
    denied(
        call("PUT", "/lake/ns/t-1/b")
            .body("x")
            .by(&reader)
            .send(&port)
            .await,
    );
    denied(
        call("DELETE", "/lake/ns/t-1/a")
            .by(&reader)
            .send(&port)
            .await,
    );
    denied(call("GET", "/").by(&writer).send(&port).await);
    denied(call("PUT", "/fresh").by(&writer).send(&port).await);
    // The source of a copy is read, so it must be readable.
    let stolen = call("PUT", "/lake/ns/t-1/c").header("x-amz-copy-source", "/files/secret");
    denied(stolen.by(&writer).send(&port).await);
    let begun = call("POST", "/lake/ns/t-1/m?uploads")
        .by(&writer)
        .send(&port)
        .await
        .expect(200);
    let upload = begun.element("UploadId").unwrap();
    let part = format!("/lake/ns/t-1/m?partNumber=1&uploadId={upload}");
    let stolen = call("PUT", &part).header("x-amz-copy-source", "files/secret");
    denied(stolen.by(&writer).send(&port).await);
}

#[tokio::test]
async fn every_key_of_a_bulk_delete_is_judged_by_itself() {
    let port = Port::open(4).await;
    let writer = port.vend("ns/t-1", ScopeAccess::ReadWrite);
    let xml = "<Delete><Object><Key>ns/t-1/a</Key></Object><Object><Key>ns/t-2/a</Key></Object>\
        </Delete>";
    let answer = call("POST", "/lake?delete")
        .body(xml)
        .by(&writer)
        .send(&port)
        .await
        .expect(200);
    assert!(
        answer.text().contains("<Deleted><Key>ns/t-1/a</Key>"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.element("Code").as_deref(), Some("AccessDenied"));
}

#[tokio::test]
async fn trailing_checksums_are_verified_and_framing_is_not_stored() {
    let port = Port::open(5).await;
    let put = |path: &'static str, trailer: &str| {
        call("PUT", path)
            .header("content-encoding", "aws-chunked")
            .header("x-amz-decoded-content-length", "1000")
            .header("x-amz-trailer", "x-amz-checksum-crc64nvme")
            .hash("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .body(aws_chunked(&[b'q'; 1000], 300, trailer))
    };
    // The trailer that pyarrow was seen to send for these bytes.
    let good = "x-amz-checksum-crc64nvme:KeKB2VId1FU=";
    put("/files/good", good)
        .send_chunked(&port)
        .await
        .expect(200);
    let got = call("GET", "/files/good").send(&port).await.expect(200);
    assert_eq!(got.body, vec![b'q'; 1000]);
    assert_eq!(got.header("content-encoding"), None);
    assert_eq!(got.header("content-length"), Some("1000"));
    let bad = "x-amz-checksum-crc64nvme:AAAAAAAAAAA=";
    put("/files/bad", bad)
        .send_chunked(&port)
        .await
        .refused(400, "BadDigest");
    let none = "x-amz-meta-other:1";
    put("/files/bad", none)
        .send_chunked(&port)
        .await
        .refused(400, "MalformedTrailerError");
    call("GET", "/files/bad")
        .send(&port)
        .await
        .refused(404, "NoSuchKey");
    let both = put("/files/bad", good).header("x-amz-checksum-crc32", "AAAAAA==");
    both.send_chunked(&port)
        .await
        .refused(400, "InvalidRequest");
}

#[tokio::test]
async fn a_body_that_is_not_what_was_signed_is_never_published() {
    let port = Port::open(6).await;
    let large = pattern(5000, 1);
    for body in ["small".into(), large] {
        let signed = call("PUT", "/files/k").body(body.clone());
        let request = signed.sign();
        let mut other = body.to_vec();
        *other.last_mut().unwrap() ^= 1;
        let answer = port.send(request, other.into()).await;
        answer.refused(400, "XAmzContentSHA256Mismatch");
        call("GET", "/files/k")
            .send(&port)
            .await
            .refused(404, "NoSuchKey");
    }
    let short = call("PUT", "/files/k")
        .header("content-length", "10")
        .body("123");
    short.send(&port).await.refused(400, "IncompleteBody");
    let md5 = call("PUT", "/files/k")
        .header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
        .body("x");
    md5.send(&port).await.refused(400, "BadDigest");
    let md5 = call("PUT", "/files/k")
        .header("content-md5", "short")
        .body("x");
    md5.send(&port).await.refused(400, "InvalidDigest");
    call("GET", "/files/k")
        .send(&port)
        .await
        .refused(404, "NoSuchKey");
    port.node.objects.reclaim().await.unwrap();
    assert_eq!(port.node.volume.stats().live_chunks, 0);
}

#[tokio::test]
async fn signed_chunks_have_a_bounded_size() {
    let port = Port::open(7).await;
    let chunk = (16 << 20) + 1;
    let mut body = format!("{chunk:x};chunk-signature={}\r\n", "0".repeat(64)).into_bytes();
    body.resize(body.len() + chunk, 0);
    let answer = call("PUT", "/files/k")
        .header("x-amz-decoded-content-length", &chunk.to_string())
        .hash("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .body(body)
        .send(&port)
        .await;
    answer.refused(400, "InvalidRequest");
    let body = format!("1;chunk-signature={}\r\nx\r\n", "0".repeat(64));
    let answer = call("PUT", "/files/k")
        .header("x-amz-decoded-content-length", "1")
        .hash("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .body(body)
        .send(&port)
        .await;
    answer.refused(403, "SignatureDoesNotMatch");
}

#[tokio::test]
async fn the_region_is_enforced_only_where_the_owner_says_so() {
    let port = Port::open(8).await;
    call("GET", "/files")
        .region("eu-west-9")
        .send(&port)
        .await
        .expect(200);
    let strict = Port::with(8, |settings| settings.enforce_region = true).await;
    call("GET", "/files").send(&strict).await.expect(200);
    let answer = call("GET", "/files")
        .region("eu-west-9")
        .send(&strict)
        .await;
    answer.refused(400, "AuthorizationHeaderMalformed");
}

#[tokio::test]
async fn headers_that_nobody_signed_are_refused() {
    let port = Port::open(9).await;
    call("PUT", "/files/a")
        .body("a")
        .send(&port)
        .await
        .expect(200);
    let put = call("PUT", "/files/b").body("b");
    let answer = put
        .send_tampered(&port, "x-amz-copy-source", "/files/a")
        .await;
    answer.refused(403, "AccessDenied");
    let mut url = call("PUT", "/files/c").presign(Duration::from_secs(60));
    url.headers_mut()
        .insert("x-amz-copy-source", "/files/a".parse().unwrap());
    port.send(url, "".into()).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn presigned_urls_work_in_version_4_only() {
    let port = Port::open(10).await;
    let put = call("PUT", "/files/p").presign(Duration::from_secs(60));
    port.send(put, "shared".into()).await.expect(200);
    let get = call("GET", "/files/p").presign(Duration::from_secs(60));
    assert_eq!(port.send(get, "".into()).await.expect(200).text(), "shared");
    let long = call("GET", "/files/p").presign(Duration::from_secs(8 * 24 * 3600));
    port.send(long, "".into())
        .await
        .refused(400, "AuthorizationQueryParametersError");
    let old = "http://127.0.0.1:9000/files/p?AWSAccessKeyId=AK&Expires=99999999999&Signature=abc";
    let request = Request::builder()
        .uri(old)
        .header("host", "127.0.0.1:9000")
        .body(())
        .unwrap();
    let answer = port
        .send(request, "".into())
        .await
        .refused(400, "InvalidRequest");
    assert!(answer.text().contains("s3v4"), "{}", answer.text());
    let request = Request::builder()
        .uri("http://127.0.0.1:9000/files/p")
        .header("host", "127.0.0.1:9000")
        .header("authorization", "AWS AK:abc")
        .body(())
        .unwrap();
    let answer = port
        .send(request, "".into())
        .await
        .refused(400, "InvalidRequest");
    assert!(answer.text().contains("s3v4"));
}

#[tokio::test]
async fn every_answer_carries_its_request_id() {
    let port = Port::open(11).await;
    let fine = call("GET", "/files").send(&port).await.expect(200);
    assert_eq!(fine.header("x-amz-request-id").unwrap().len(), 32);
    for answer in [
        call("GET", "/files/missing")
            .send(&port)
            .await
            .refused(404, "NoSuchKey"),
        call("GET", "/nowhere")
            .send(&port)
            .await
            .refused(404, "NoSuchBucket"),
    ] {
        let id = answer.header("x-amz-request-id").map(str::to_owned);
        assert_eq!(answer.element("RequestId"), id);
    }
    let head = call("HEAD", "/files/missing").send(&port).await.expect(404);
    assert!(head.header("x-amz-request-id").is_some());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn the_probe_of_pyarrow_is_a_clean_refusal() {
    let port = Port::open(12).await;
    let answer = call("HEAD", "/%24extremelyunlikelytoexist%24")
        .send(&port)
        .await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    call("GET", "/files?policy")
        .send(&port)
        .await
        .refused(501, "NotImplemented");
    call("GET", "/files?lifecycle")
        .send(&port)
        .await
        .refused(501, "NotImplemented");
}

#[tokio::test]
async fn promises_that_would_not_be_kept_are_refused() {
    let port = Port::open(13).await;
    for (name, value, status) in [
        ("x-amz-server-side-encryption", "AES256", 501),
        ("x-amz-object-lock-mode", "COMPLIANCE", 501),
        ("x-amz-acl", "public-read", 400),
        ("x-amz-storage-class", "GLACIER", 400),
    ] {
        let put = call("PUT", "/files/k").header(name, value).body("x");
        put.send(&port).await.expect(status);
    }
    let owner = call("GET", "/files").header("x-amz-expected-bucket-owner", "111111111111");
    owner.send(&port).await.refused(403, "AccessDenied");
    for (name, value) in [
        ("x-amz-acl", "private"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-expected-bucket-owner", "000000000000"),
    ] {
        call("PUT", "/files/k")
            .header(name, value)
            .body("x")
            .send(&port)
            .await
            .expect(200);
    }
}
