//! Bodies that stall, and the line that every answer leaves in the log.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use floeberg_telemetry::testing::CapturedLog;
use std::time::Duration;
use support::world::pattern;
use support::*;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_upload_that_stalls_is_cut_off_and_leaves_nothing() {
    let port = Port::open(1).await;
    tokio::time::pause();
    let began = Instant::now();
    // 600 bytes are more than two chunks of this configuration.
    call("PUT", "/files/k")
        .body(pattern(600, 1))
        .hash("UNSIGNED-PAYLOAD")
        .header("content-length", "1000")
        .send_paced(&port, Duration::from_millis(1), End::Silence)
        .await
        .refused(400, "RequestTimeout");
    let waited = began.elapsed();
    assert!(waited >= 60 * SECOND && waited < 62 * SECOND, "{waited:?}");
    call("GET", "/files/k")
        .send(&port)
        .await
        .refused(404, "NoSuchKey");
    assert!(port.node.volume.stats().live_chunks > 0, "no chunk was cut");
    port.node.objects.reclaim().await.unwrap();
    assert_eq!(port.node.volume.stats().live_chunks, 0);
}

#[tokio::test]
async fn an_upload_that_is_only_slow_is_stored() {
    let port = Port::open(2).await;
    tokio::time::pause();
    let began = Instant::now();
    call("PUT", "/files/k")
        .body("slow")
        .hash("UNSIGNED-PAYLOAD")
        .header("content-length", "4")
        .send_paced(&port, 50 * SECOND, End::Complete)
        .await
        .expect(200);
    assert!(began.elapsed() >= 200 * SECOND);
    let stored = call("GET", "/files/k").send(&port).await.expect(200);
    assert_eq!(stored.text(), "slow");
}

#[tokio::test]
async fn a_document_that_stalls_is_not_an_internal_error() {
    let port = Port::open(3).await;
    tokio::time::pause();
    call("POST", "/files?delete")
        .body("<Delete><Object><Key>k</Key>")
        .hash("UNSIGNED-PAYLOAD")
        .header("content-length", "1000")
        .send_paced(&port, Duration::ZERO, End::Silence)
        .await
        .refused(400, "RequestTimeout");
}

/// The client goes in the middle of what it sends: nothing is wrong with the node.
#[tokio::test]
async fn a_body_that_breaks_off_is_not_an_internal_error() {
    let port = Port::open(3).await;
    for (method, path, body) in [
        ("POST", "/files?delete", "<Delete><Object><Key>k</Key>"),
        ("PUT", "/new", "<CreateBucketConfiguration>"),
        ("PUT", "/files/k?tagging", "<Tagging><TagSet>"),
        ("PUT", "/files/k", "some bytes"),
    ] {
        call(method, path)
            .body(body)
            .hash("UNSIGNED-PAYLOAD")
            .header("content-length", "1000")
            .send_paced(&port, Duration::ZERO, End::Break)
            .await
            .refused(400, "IncompleteBody");
    }
}

fn access(log: &CapturedLog) -> Vec<serde_json::Value> {
    let lines = log.lines().into_iter();
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    lines
        .filter(|line| line["target"] == "floeberg::access")
        .collect()
}

#[tokio::test]
async fn a_refusal_leaves_one_line_under_the_id_in_its_body() {
    let port = Port::open(4).await;
    let log = CapturedLog::start("warn,floeberg=info,s3s=off");
    call("PUT", "/files/k")
        .body("x")
        .send(&port)
        .await
        .expect(200);
    assert!(access(&log).is_empty());
    let answer = call("GET", "/files/none?x-id=GetObject").send(&port).await;
    let lines = access(&log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["level"], "INFO");
    let fields = &lines[0]["fields"];
    let id = fields["request_id"].as_str().unwrap();
    assert_eq!(answer.element("RequestId").as_deref(), Some(id));
    assert_eq!(answer.header("x-amz-request-id"), Some(id));
    assert_eq!(fields["api"], "s3");
    assert_eq!(fields["operation"], "GetObject");
    assert_eq!(fields["method"], "GET");
    assert_eq!(fields["path"], "/files/none");
    assert_eq!(fields["status"], 404);
    assert_eq!(fields["code"], "NoSuchKey");
    assert_eq!(fields["principal"], world::ACCESS_KEY);
    assert!(fields["micros"].is_u64());
}

#[tokio::test]
async fn answers_without_a_body_or_a_principal_are_logged_too() {
    let port = Port::open(5).await;
    let log = CapturedLog::start("warn,floeberg=info,s3s=off");
    let missing = call("HEAD", "/files/none").send(&port).await.expect(404);
    assert!(missing.body.is_empty());
    let wrong = Keys {
        secret: "another secret of good length".to_owned(),
        ..root()
    };
    call("GET", "/files/k").by(&wrong).send(&port).await;
    call("GET", "/files/k%01").send(&port).await.expect(400);
    let lines = access(&log);
    let fields: Vec<_> = lines.iter().map(|line| &line["fields"]).collect();
    assert_eq!(fields[0]["code"], "NoSuchKey");
    assert_eq!(
        missing.header("x-amz-request-id"),
        fields[0]["request_id"].as_str()
    );
    assert_eq!(fields[1]["code"], "SignatureDoesNotMatch");
    assert_eq!(fields[1]["principal"], "-");
    assert_eq!(fields[2]["code"], "InvalidArgument");
    assert_eq!(fields.len(), 3);
}
