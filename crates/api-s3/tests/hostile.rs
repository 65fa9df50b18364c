//! Requests that ask for more than they are worth, and credentials that reach for more than they cover.

mod support;

use floeberg_auth::ScopeAccess;
use floeberg_http::{NoRoom, Room};
use floeberg_objects::Location;
use http::{HeaderValue, Request};
use std::time::Duration;
use support::world::pattern;
use support::*;

fn full() -> Room {
    let changes = || {
        Err(NoRoom::Here {
            free_bytes: 0,
            reserve_bytes: 1 << 20,
        })
    };
    Room::new(changes, || Ok(()))
}

#[tokio::test]
async fn a_signature_is_bounded_before_it_is_computed() {
    let port = Port::open(1).await;
    let signed = |change: &dyn Fn(&str) -> String| {
        let mut request = call("GET", "/files")
            .header("x", &"y".repeat(50_000))
            .sign();
        let text = request.headers()["authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let changed = HeaderValue::from_str(&change(&text)).unwrap();
        request.headers_mut().insert("authorization", changed);
        request
    };
    let repeat = |times: usize| {
        move |text: &str| {
            let many = format!("SignedHeaders={}", "x;".repeat(times));
            text.replace("SignedHeaders=", &many)
        }
    };
    let malformed = "AuthorizationHeaderMalformed";
    for (times, code) in [
        (2, malformed),
        (3_000, "InvalidRequest"),
        (100_000, malformed),
    ] {
        let request = signed(&repeat(times));
        let answer = port.send(request, "".into()).await;
        answer.refused(400, code);
    }
    let long =
        |text: &str| text.replace("Credential=", &format!("Credential={}", "A".repeat(5_000)));
    let answer = port.send(signed(&long), "".into()).await;
    answer.refused(400, "AuthorizationHeaderMalformed");
    let open = |text: &str| text.replace("host;", "");
    let answer = port.send(signed(&open), "".into()).await;
    answer.refused(403, "AccessDenied");
    // The same in the query.
    let url = call("GET", "/files").presign(Duration::from_secs(60));
    let presigned = |from: &str, to: &str| {
        let uri = url.uri().to_string().replace(from, to);
        let host = url.headers()["host"].clone();
        Request::get(uri).header("host", host).body(()).unwrap()
    };
    let names = "X-Amz-SignedHeaders=host";
    for (to, status, code) in [
        (
            "X-Amz-SignedHeaders=host%3Bhost",
            400,
            "AuthorizationQueryParametersError",
        ),
        (
            "X-Amz-%53ignedHeaders=host%3BHost",
            400,
            "AuthorizationQueryParametersError",
        ),
        ("X-Amz-SignedHeaders=range", 403, "AccessDenied"),
    ] {
        let answer = port.send(presigned(names, to), "".into()).await;
        answer.refused(status, code);
    }
    let many = format!("{names}{}", "&a=b".repeat(200));
    let answer = port.send(presigned(names, &many), "".into()).await;
    answer.refused(400, "InvalidArgument");
    port.send(presigned(names, names), "".into())
        .await
        .expect(200);
}

#[tokio::test]
async fn a_form_is_refused_for_its_head() {
    let port = Port::open(2).await;
    tokio::time::pause();
    // The body never ends; an answer shows that it was not waited for.
    for kind in ["multipart/form-data; boundary=b", "Multipart/Form-Data"] {
        let form = call("POST", "/files")
            .header("content-type", kind)
            .body("--b\r\n");
        let form = form.hash("UNSIGNED-PAYLOAD");
        let answer = form.send_paced(&port, Duration::ZERO, End::Silence).await;
        assert_eq!(answer.header("connection"), Some("close"));
        answer.refused(501, "NotImplemented");
    }
}

#[tokio::test]
async fn documents_are_bounded_and_unserved_ones_are_not_read() {
    let port = Port::open(3).await;
    tokio::time::pause();
    let silent = |path: &str, length: &str| {
        let request = call("PUT", path).hash("UNSIGNED-PAYLOAD").body("<");
        let request = request.header("content-length", length);
        let port = &port;
        async move { request.send_paced(port, Duration::ZERO, End::Silence).await }
    };
    let large = silent("/files/k?tagging", "4000000").await;
    large.refused(400, "MaxMessageLengthExceeded");
    silent("/files?policy", "1000")
        .await
        .refused(501, "NotImplemented");
    silent("/files?policy=&x=", "9999999")
        .await
        .refused(501, "NotImplemented");
}

#[tokio::test]
async fn documents_of_many_tags_are_refused_while_they_come() {
    let port = Port::open(7).await;
    let begun = call("POST", "/files/k?uploads").send(&port).await;
    let upload = begun.expect(200).element("UploadId").unwrap();
    let path = format!("/files/k?uploadId={upload}");
    let complete = |parts: String| {
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        call("POST", &path).body(body).send(&port)
    };
    // Each part would take hundreds of bytes of memory.
    let crowded = complete("<Part/>".repeat(500_000)).await;
    assert!(crowded.text().contains("131072 tags"), "{}", crowded.text());
    crowded.refused(400, "MalformedXML");
    // As many as there may be are read, and judged for what they are.
    let part = |n| format!("<Part><PartNumber>{n}</PartNumber><ETag>e</ETag></Part>");
    let most: String = (1..=10_000).map(part).collect();
    complete(most).await.refused(400, "InvalidPart");
}

#[tokio::test]
async fn a_full_disk_takes_what_frees_and_nothing_else() {
    let port = Port::with_room(4, full(), |_| {}).await;
    for path in [
        "/files/k",
        "/files/k?delete",
        "/files/k?delete=1",
        "/files/k?x=y&delete",
    ] {
        let put = call("PUT", path).body(pattern(100, 1)).send(&port).await;
        put.refused(507, "InsufficientStorage");
    }
    let begin = call("POST", "/files/k?uploads&delete").send(&port).await;
    begin.refused(507, "InsufficientStorage");
    call("DELETE", "/files/k").send(&port).await.expect(204);
    let many = "<Delete><Object><Key>k</Key></Object></Delete>";
    let many = call("POST", "/files?delete").body(many).send(&port).await;
    assert!(!many.expect(200).text().contains("<Error>"));
}

#[tokio::test]
async fn a_location_never_shows_its_longer_sibling() {
    let port = Port::open(5).await;
    let (one, ten) = (
        port.vend("ns/t-1", ScopeAccess::ReadWrite),
        port.vend("ns/t-10", ScopeAccess::ReadWrite),
    );
    for table in ["ns/t-1", "ns/t-10"] {
        port.world.catalog.set_location(table, Location::Live);
    }
    for (keys, key) in [(&one, "ns/t-1/data/mine"), (&ten, "ns/t-10/data/theirs")] {
        let put = call("PUT", &format!("/lake/{key}")).body("x").by(keys);
        put.send(&port).await.expect(200);
        let begin = call("POST", &format!("/lake/{key}-part?uploads")).by(keys);
        begin.send(&port).await.expect(200);
    }
    for list in ["list-type=2&", "", "versions&", "uploads&"] {
        for prefix in ["ns%2Ft-1", "ns%2Ft-1%2F"] {
            let path = format!("/lake?{list}prefix={prefix}");
            let shown = call("GET", &path).by(&one).send(&port).await.expect(200);
            let text = shown.text();
            assert!(text.contains("mine") && !text.contains("theirs"), "{text}");
            let asked = prefix.replace("%2F", "/");
            assert_eq!(shown.element("Prefix").as_deref(), Some(&*asked), "{text}");
        }
        for prefix in ["ns%2Ft-10", "ns%2Ft-10%2F", "ns%2Ft", ""] {
            let path = format!("/lake?{list}prefix={prefix}");
            let other = call("GET", &path).by(&one).send(&port).await;
            other.refused(403, "AccessDenied");
        }
    }
}

#[tokio::test]
async fn lines_of_one_header_are_joined() {
    let port = Port::open(6).await;
    let put = call("PUT", "/files/k")
        .header("x-amz-meta-a", "1,2")
        .body("x");
    // The signature of two lines is that of the joined one.
    let mut request = put.sign();
    request.headers_mut().remove("x-amz-meta-a");
    for value in ["1", "2"] {
        request
            .headers_mut()
            .append("x-amz-meta-a", HeaderValue::from_static(value));
    }
    port.send(request, "x".into()).await.expect(200);
    let stored = call("HEAD", "/files/k").send(&port).await.expect(200);
    assert_eq!(stored.header("x-amz-meta-a"), Some("1,2"));
    // More than may be signed is an answer with words.
    let mut many = call("PUT", "/files/k").body("x");
    for i in 0..120 {
        many = many.header(&format!("x-amz-meta-{i}"), "v");
    }
    let answer = many.send(&port).await;
    assert!(
        answer.text().contains("more than 100 headers"),
        "{}",
        answer.text()
    );
    answer.refused(400, "InvalidRequest");
}
