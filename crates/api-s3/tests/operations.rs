//! What clients see of each operation, request by request.

mod support;

use support::world::pattern;
use support::*;

#[tokio::test]
async fn objects_keep_their_headers_metadata_and_tags() {
    let port = Port::open(1).await;
    let put = call("PUT", "/files/a%20b%2B%C3%A9.txt")
        .header("content-type", "text/plain")
        .header("cache-control", "no-cache")
        .header("content-encoding", "gzip,aws-chunked")
        .header("x-amz-meta-who", "me")
        .header("x-amz-tagging", "TrinoCreationId=x%201")
        .body("hello");
    let etag = put
        .send(&port)
        .await
        .expect(200)
        .header("etag")
        .unwrap()
        .to_owned();
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");
    for method in ["GET", "HEAD"] {
        let got = call(method, "/files/a%20b%2B%C3%A9.txt")
            .send(&port)
            .await
            .expect(200);
        assert_eq!(got.header("content-type"), Some("text/plain"));
        assert_eq!(got.header("content-encoding"), Some("gzip"));
        assert_eq!(got.header("cache-control"), Some("no-cache"));
        assert_eq!(got.header("x-amz-meta-who"), Some("me"));
        assert_eq!(got.header("x-amz-tagging-count"), Some("1"));
        assert_eq!(got.header("content-length"), Some("5"));
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
        assert_eq!(got.header("etag"), Some(etag.as_str()));
        assert!(got.header("last-modified").unwrap().ends_with("GMT"));
    }
    let tags = call("GET", "/files/a%20b%2B%C3%A9.txt?tagging")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(tags.element("Value").as_deref(), Some("x 1"));
    let xml = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    let path = "/files/a%20b%2B%C3%A9.txt?tagging";
    call("PUT", path).body(xml).send(&port).await.expect(200);
    call("DELETE", path).send(&port).await.expect(204);
    let tags = call("GET", path).send(&port).await.expect(200);
    assert_eq!(tags.element("Value"), None);
}

#[tokio::test]
async fn ranges_and_conditions() {
    let port = Port::open(2).await;
    let bytes = pattern(1000, 3);
    let put = call("PUT", "/files/k")
        .body(bytes.clone())
        .send(&port)
        .await
        .expect(200);
    let etag = put.header("etag").unwrap().to_owned();
    for (range, expected, shown) in [
        ("bytes=0-9", 0..10, "bytes 0-9/1000"),
        ("bytes=990-", 990..1000, "bytes 990-999/1000"),
        ("bytes=-4", 996..1000, "bytes 996-999/1000"),
        ("bytes=200-5000", 200..1000, "bytes 200-999/1000"),
    ] {
        let got = call("GET", "/files/k")
            .header("range", range)
            .send(&port)
            .await
            .expect(206);
        assert_eq!(got.body, bytes[expected]);
        assert_eq!(got.header("content-range"), Some(shown));
    }
    let beyond = call("GET", "/files/k")
        .header("range", "bytes=1000-")
        .send(&port)
        .await;
    let beyond = beyond.refused(416, "InvalidRange");
    assert_eq!(beyond.header("content-range"), Some("bytes */1000"));
    let cached = call("GET", "/files/k")
        .header("if-none-match", &etag)
        .send(&port)
        .await;
    let cached = cached.expect(304);
    assert_eq!(
        (cached.header("etag"), cached.body.len()),
        (Some(etag.as_str()), 0)
    );
    let stale = call("GET", "/files/k")
        .header("if-match", "\"x\"")
        .send(&port)
        .await;
    stale.refused(412, "PreconditionFailed");
    let put = |header: &str, value: &str| {
        call("PUT", "/files/k")
            .header(header, value)
            .body(bytes.clone())
    };
    put("if-none-match", "*")
        .send(&port)
        .await
        .refused(412, "PreconditionFailed");
    put("if-match", "\"x\"")
        .send(&port)
        .await
        .refused(412, "PreconditionFailed");
    put("if-match", &etag).send(&port).await.expect(200);
    let fresh = call("PUT", "/files/n")
        .header("if-match", &etag)
        .body("x")
        .send(&port)
        .await;
    fresh.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn checksums_are_checked_stored_and_shown_on_request() {
    let port = Port::open(3).await;
    let put = |name: &str, value: &str| call("PUT", "/files/k").header(name, value).body("hello");
    let crc32 = put("x-amz-checksum-crc32", "NhCmhg==")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(crc32.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
    put("x-amz-checksum-crc32", "AAAAAA==")
        .send(&port)
        .await
        .refused(400, "BadDigest");
    put("x-amz-checksum-crc32", "x")
        .send(&port)
        .await
        .refused(400, "InvalidRequest");
    let get = || call("GET", "/files/k");
    assert_eq!(get().send(&port).await.header("x-amz-checksum-crc32"), None);
    let shown = get()
        .header("x-amz-checksum-mode", "enabled")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(shown.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
    assert_eq!(shown.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    let part = get()
        .header("x-amz-checksum-mode", "ENABLED")
        .header("range", "bytes=1-2");
    let part = part.send(&port).await.expect(206);
    assert_eq!(
        part.header("x-amz-checksum-crc32"),
        None,
        "of the whole object, not of a part"
    );
    let plain = call("PUT", "/files/d")
        .body("hello")
        .send(&port)
        .await
        .expect(200);
    assert!(
        plain.header("x-amz-checksum-crc64nvme").is_some(),
        "computed when none was sent"
    );
}

/// As pyarrow writes every file, down to the smallest.
#[tokio::test]
async fn a_small_file_as_a_multipart_upload() {
    let port = Port::open(4).await;
    let begun = call("POST", "/lake/ns/t-1/metadata/m.avro?uploads")
        .send(&port)
        .await
        .expect(200);
    let upload = begun.element("UploadId").unwrap();
    let path = format!("/lake/ns/t-1/metadata/m.avro?partNumber=1&uploadId={upload}");
    let part = call("PUT", &path)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "1000")
        .header("x-amz-trailer", "x-amz-checksum-crc64nvme")
        .hash("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .body(aws_chunked(
            &[b'q'; 1000],
            65_536,
            "x-amz-checksum-crc64nvme:KeKB2VId1FU=",
        ))
        .send_chunked(&port)
        .await
        .expect(200);
    let etag = part.header("etag").unwrap().to_owned();
    let path = format!("/lake/ns/t-1/metadata/m.avro?uploadId={upload}");
    let listed = call("GET", &path).send(&port).await.expect(200);
    assert_eq!(listed.element("PartNumber").as_deref(), Some("1"));
    assert_eq!(listed.element("Size").as_deref(), Some("1000"));
    let uploads = call("GET", "/lake?uploads").send(&port).await.expect(200);
    assert_eq!(uploads.element("UploadId"), Some(upload.clone()));
    let xml = format!(
        "<CompleteMultipartUpload><Part><ETag>{etag}</ETag><PartNumber>1</PartNumber></Part>\
         </CompleteMultipartUpload>"
    );
    for _ in 0..2 {
        let done = call("POST", &path)
            .body(xml.clone())
            .send(&port)
            .await
            .expect(200);
        assert!(
            done.element("ETag").unwrap().ends_with("-1\""),
            "{}",
            done.text()
        );
        assert_eq!(done.header("trailer"), None);
    }
    let got = call("GET", "/lake/ns/t-1/metadata/m.avro")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(got.body, vec![b'q'; 1000]);
    let gone = call(
        "PUT",
        &format!("/lake/ns/t-1/m?partNumber=1&uploadId={upload}"),
    )
    .body("x");
    gone.send(&port).await.refused(404, "NoSuchUpload");
}

#[tokio::test]
async fn multipart_refusals() {
    let port = Port::open(5).await;
    let begun = call("POST", "/files/m?uploads")
        .send(&port)
        .await
        .expect(200);
    let upload = begun.element("UploadId").unwrap();
    let part = |number: u32, body: bytes::Bytes| {
        call(
            "PUT",
            &format!("/files/m?partNumber={number}&uploadId={upload}"),
        )
        .body(body)
    };
    let etag = |answer: Answer| answer.expect(200).header("etag").unwrap().to_owned();
    let one = etag(part(1, pattern(99, 1)).send(&port).await);
    let two = etag(part(2, pattern(200, 2)).send(&port).await);
    part(10_001, pattern(1, 1))
        .send(&port)
        .await
        .refused(400, "InvalidArgument");
    let complete = |parts: &[(u32, &str)]| {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        call("POST", &format!("/files/m?uploadId={upload}")).body(xml)
    };
    complete(&[(1, &one), (2, &two)])
        .send(&port)
        .await
        .refused(400, "EntityTooSmall");
    complete(&[(2, &two), (1, &one)])
        .send(&port)
        .await
        .refused(400, "InvalidPartOrder");
    complete(&[(2, &one)])
        .send(&port)
        .await
        .refused(400, "InvalidPart");
    complete(&[]).send(&port).await.refused(400, "MalformedXML");
    call("PUT", "/files/m")
        .body("there")
        .send(&port)
        .await
        .expect(200);
    let exclusive = complete(&[(2, &two)]).header("if-none-match", "*");
    exclusive
        .send(&port)
        .await
        .refused(412, "PreconditionFailed");
    complete(&[(2, &two)]).send(&port).await.expect(200);
    let abort = call("DELETE", &format!("/files/m?uploadId={upload}"));
    abort.send(&port).await.refused(404, "NoSuchUpload");
}

#[tokio::test]
async fn listings_page_roll_up_and_encode() {
    let port = Port::open(6).await;
    for key in ["a%20b", "a/x%2B1", "a/x2", "b%C3%BC"] {
        call("PUT", &format!("/files/{key}"))
            .body("x")
            .send(&port)
            .await
            .expect(200);
    }
    let plain = call("GET", "/files?list-type=2&delimiter=")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(plain.element("KeyCount").as_deref(), Some("4"));
    assert!(plain.text().contains("<Key>a b</Key>"), "{}", plain.text());
    let encoded = "/files?list-type=2&encoding-type=url&delimiter=%2F";
    let encoded = call("GET", encoded).send(&port).await.expect(200).text();
    assert!(encoded.contains("<Key>a%20b</Key>") && encoded.contains("<Key>b%C3%BC</Key>"));
    assert!(encoded.contains("<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"));
    assert!(encoded.contains("<EncodingType>url</EncodingType>"));
    let first = call("GET", "/files?list-type=2&max-keys=3")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(first.element("IsTruncated").as_deref(), Some("true"));
    let token = first.element("NextContinuationToken").unwrap();
    let rest = call(
        "GET",
        &format!("/files?continuation-token={token}&list-type=2"),
    );
    let rest = rest.send(&port).await.expect(200);
    assert_eq!(rest.element("Key").as_deref(), Some("b\u{fc}"));
    assert_eq!(rest.element("IsTruncated").as_deref(), Some("false"));
    let v1 = call("GET", "/files?marker=a%2Fx2")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(v1.element("Key").as_deref(), Some("b\u{fc}"));
    let versions = call("GET", "/files?versions").send(&port).await.expect(200);
    assert_eq!(versions.element("VersionId").as_deref(), Some("null"));
    assert_eq!(versions.element("IsLatest").as_deref(), Some("true"));
    let capped = call("GET", "/files?list-type=2&max-keys=100000")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(capped.element("MaxKeys").as_deref(), Some("1000"));
    let bad = call("GET", "/files?continuation-token=%25%25&list-type=2")
        .send(&port)
        .await;
    bad.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn bulk_deletes_report_missing_keys_as_deleted() {
    let port = Port::open(7).await;
    call("PUT", "/files/a")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    let xml = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a</Key>\
        <VersionId>null</VersionId></Object><Object><Key>nope</Key></Object></Delete>";
    let answer = call("POST", "/files?delete")
        .body(xml)
        .send(&port)
        .await
        .expect(200);
    assert_eq!(
        answer.text().matches("<Deleted>").count(),
        2,
        "{}",
        answer.text()
    );
    call("GET", "/files/a")
        .send(&port)
        .await
        .refused(404, "NoSuchKey");
    let quiet = xml.replace("</Delete>", "<Quiet>true</Quiet></Delete>");
    let answer = call("POST", "/files?delete")
        .body(quiet)
        .send(&port)
        .await
        .expect(200);
    assert!(!answer.text().contains("<Deleted>"), "{}", answer.text());
    call("POST", "/nowhere?delete")
        .body(xml)
        .send(&port)
        .await
        .refused(404, "NoSuchBucket");
    call("DELETE", "/files/nope").send(&port).await.expect(204);
}

#[tokio::test]
async fn copies_over_the_wire() {
    let port = Port::open(8).await;
    let put = call("PUT", "/files/a%20b")
        .header("x-amz-meta-a", "1")
        .body("hello");
    put.send(&port).await.expect(200);
    let copy = call("PUT", "/files/c").header("x-amz-copy-source", "files/a%20b");
    let copied = copy.send(&port).await.expect(200);
    assert!(
        copied
            .element("ETag")
            .unwrap()
            .contains("5d41402abc4b2a76b9719d911017c592")
    );
    let got = call("GET", "/files/c").send(&port).await.expect(200);
    assert_eq!(
        (got.text().as_str(), got.header("x-amz-meta-a")),
        ("hello", Some("1"))
    );
    let itself = call("PUT", "/files/c").header("x-amz-copy-source", "/files/c");
    itself.send(&port).await.refused(400, "InvalidRequest");
    let replaced = call("PUT", "/files/c")
        .header("x-amz-copy-source", "/files/c")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-b", "2");
    replaced.send(&port).await.expect(200);
    let got = call("GET", "/files/c").send(&port).await.expect(200);
    assert_eq!(
        (got.header("x-amz-meta-a"), got.header("x-amz-meta-b")),
        (None, Some("2"))
    );
    let missing = call("PUT", "/files/d").header("x-amz-copy-source", "/files/none");
    missing.send(&port).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn buckets_come_and_go() {
    let port = Port::open(9).await;
    call("PUT", "/fresh-bucket").send(&port).await.expect(200);
    call("PUT", "/fresh-bucket")
        .send(&port)
        .await
        .refused(409, "BucketAlreadyOwnedByYou");
    let head = call("HEAD", "/fresh-bucket").send(&port).await.expect(200);
    assert_eq!(head.header("x-amz-bucket-region"), Some("us-east-1"));
    call("GET", "/fresh-bucket?location")
        .send(&port)
        .await
        .expect(200);
    let versioning = call("GET", "/fresh-bucket?versioning")
        .send(&port)
        .await
        .expect(200);
    assert!(!versioning.text().contains("<Status>"));
    let all = call("GET", "/").send(&port).await.expect(200).text();
    assert!(all.contains("<Name>fresh-bucket</Name>") && all.contains("<Name>lake</Name>"));
    call("PUT", "/fresh-bucket/k")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    call("DELETE", "/fresh-bucket")
        .send(&port)
        .await
        .refused(409, "BucketNotEmpty");
    call("DELETE", "/fresh-bucket/k")
        .send(&port)
        .await
        .expect(204);
    call("DELETE", "/fresh-bucket")
        .send(&port)
        .await
        .expect(204);
    call("HEAD", "/fresh-bucket").send(&port).await.expect(404);
    call("DELETE", "/lake")
        .send(&port)
        .await
        .refused(403, "AccessDenied");
}

#[tokio::test]
async fn table_buckets_say_why_they_refuse() {
    let port = Port::open(10).await;
    let outside = call("PUT", "/lake/elsewhere").body("x").send(&port).await;
    let outside = outside.refused(403, "AccessDenied");
    assert!(
        outside.text().contains("lies below no table"),
        "{}",
        outside.text()
    );
    call("PUT", "/lake/ns/t-1/data/a")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    call("PUT", "/lake/ns/t-1/data/a")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    let other = call("PUT", "/lake/ns/t-1/data/a")
        .body("y")
        .send(&port)
        .await;
    let other = other.refused(403, "AccessDenied");
    assert!(other.text().contains("written once"), "{}", other.text());
    call("DELETE", "/lake/ns/t-1/data/a")
        .send(&port)
        .await
        .expect(204);
    let listed = call("GET", "/lake?list-type=2")
        .send(&port)
        .await
        .expect(200);
    assert_eq!(listed.element("KeyCount").as_deref(), Some("0"));
    call("GET", "/lake/ns/t-1/data/a")
        .send(&port)
        .await
        .expect(200);
    call("HEAD", "/lake/ns/t-1/data/a")
        .send(&port)
        .await
        .expect(200);
}

#[tokio::test]
async fn virtual_hosted_addresses() {
    let port = Port::open(11).await;
    let host = "files.s3.lake.example:9000";
    call("PUT", "/v/k")
        .host(host)
        .body("x")
        .send(&port)
        .await
        .expect(200);
    let got = call("GET", "/files/v/k")
        .host("s3.lake.example:9000")
        .send(&port)
        .await;
    assert_eq!(got.expect(200).text(), "x");
    let got = call("GET", "/files/v/k")
        .host("localhost:9000")
        .send(&port)
        .await;
    assert_eq!(got.expect(200).text(), "x");
}
