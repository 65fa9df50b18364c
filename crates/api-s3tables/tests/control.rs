//! The S3 Tables protocol against a catalog in memory.

#![allow(clippy::unwrap_used)]

#[path = "../../api-iceberg/tests/support/mod.rs"]
mod support;

use floeberg_api_s3tables::{S3TablesState, Settings, router};
use floeberg_auth::Authorizer;
use http::Method;
use serde_json::{Value, json};
use support::{ARN, ARN_SEGMENT, Client, Reply, parts};

struct Control(Client);

async fn control() -> Control {
    let parts = parts().await;
    let token = parts.keys.issue_bearer(parts.shell.env.clock.now()).token;
    let settings = Settings {
        region: parts.region,
        account: parts.account,
    };
    let state = S3TablesState {
        catalog: parts.catalog,
        authorizer: Authorizer,
        settings,
    };
    Control(Client {
        app: router(parts.shell, state),
        token,
        files: parts.files,
    })
}

impl Control {
    async fn get(&self, path: &str) -> Reply {
        self.0.send(Method::GET, path, &Value::Null).await
    }

    async fn put(&self, path: &str, body: &Value) -> Reply {
        self.0.send(Method::PUT, path, body).await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.0.send(Method::DELETE, path, &Value::Null).await
    }

    async fn lake(&self) {
        let reply = self.put("/buckets", &json!({"name": "lake"})).await;
        assert_eq!(reply.json, json!({"arn": ARN}), "{}", reply.text);
        let path = format!("/namespaces/{ARN_SEGMENT}");
        let reply = self.put(&path, &json!({"namespace": ["ns1"]})).await;
        assert_eq!(
            reply.json,
            json!({"tableBucketARN": ARN, "namespace": ["ns1"]})
        );
    }

    async fn table(&self, name: &str) -> Reply {
        let body = json!({"name": name, "format": "ICEBERG", "metadata": {"iceberg": {
            "schema": {"fields": [{"name": "id", "type": "int", "required": true}]}}}});
        let reply = self.put(&format!("/tables/{ARN_SEGMENT}/ns1"), &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply
    }
}

fn tables(rest: &str) -> String {
    format!("/tables/{ARN_SEGMENT}/{rest}")
}

#[tokio::test]
async fn buckets_are_made_described_listed_and_deleted() {
    let c = control().await;
    c.lake().await;
    let again = c.put("/buckets", &json!({"name": "lake"})).await;
    assert_eq!(again.error(), (409, "ConflictException"));
    assert!(again.json["message"].as_str().unwrap().contains("lake"));
    assert_eq!(
        again.json["requestId"],
        again.headers["x-amzn-requestid"].to_str().unwrap()
    );
    for bad in ["Lake", "a", "lake--table-s3", "aws-lake", "la_ke"] {
        let reply = c.put("/buckets", &json!({"name": bad})).await;
        assert_eq!(reply.error(), (400, "BadRequestException"), "{bad}");
    }
    let reply = c.get(&format!("/buckets/{ARN_SEGMENT}")).await;
    assert_eq!(reply.json["arn"], ARN);
    assert_eq!(reply.json["ownerAccountId"], "000000000000");
    assert_eq!(reply.json["type"], "customer");
    let created = reply.json["createdAt"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.contains('T'), "{created}");

    c.put("/buckets", &json!({"name": "lake-two"})).await;
    c.put("/buckets", &json!({"name": "other"})).await;
    let list = c.get("/buckets?prefix=lake&maxBuckets=1").await;
    assert_eq!(list.json["tableBuckets"][0]["name"], "lake");
    let token = list.json["continuationToken"].as_str().unwrap();
    let next = c
        .get(&format!(
            "/buckets?prefix=lake&maxBuckets=1&continuationToken={token}"
        ))
        .await;
    assert_eq!(next.json["tableBuckets"][0]["name"], "lake-two");
    assert!(
        next.json.get("continuationToken").is_none(),
        "{}",
        next.text
    );
    assert_eq!(
        c.get("/buckets?type=aws").await.json,
        json!({"tableBuckets": []})
    );
    for bad in [
        "maxBuckets=0",
        "maxBuckets=1001",
        "maxBuckets=x",
        "continuationToken=zz",
    ] {
        assert_eq!(
            c.get(&format!("/buckets?{bad}")).await.error().0,
            400,
            "{bad}"
        );
    }
    let full = c.delete(&format!("/buckets/{ARN_SEGMENT}")).await;
    assert_eq!(full.error(), (409, "ConflictException"));
    assert_eq!(
        c.delete(&format!("/namespaces/{ARN_SEGMENT}/ns1"))
            .await
            .status,
        204
    );
    assert_eq!(
        c.delete(&format!("/buckets/{ARN_SEGMENT}")).await.status,
        204
    );
    let gone = c.get(&format!("/buckets/{ARN_SEGMENT}")).await;
    assert_eq!(gone.error(), (404, "NotFoundException"));
}

#[tokio::test]
async fn arns_of_other_forms_and_places_are_told_apart() {
    let c = control().await;
    c.lake().await;
    let alias = "acs%3Aosstables%3Aus-east-1%3A000000000000%3Abucket%2Flake";
    let raw_colons = "arn:aws:s3tables:us-east-1:000000000000:bucket%2Flake";
    for arn in [alias, raw_colons, "lake"] {
        let reply = c.get(&format!("/buckets/{arn}")).await;
        assert_eq!(reply.json["arn"], ARN, "{arn}: {}", reply.text);
    }
    let elsewhere = ARN_SEGMENT.replace("us-east-1", "eu-west-1");
    assert_eq!(
        c.get(&format!("/buckets/{elsewhere}")).await.error(),
        (404, "NotFoundException")
    );
    let broken = c.get("/buckets/arn%3Aaws%3As3%3A%3A%3Alake").await;
    assert_eq!(broken.error(), (400, "BadRequestException"));
}

#[tokio::test]
async fn settings_that_would_not_be_done_are_refused() {
    let c = control().await;
    c.lake().await;
    let kms = json!({"sseAlgorithm": "aws:kms", "kmsKeyArn": "arn:aws:kms:r:1:key/k"});
    let bucket = c
        .put(
            "/buckets",
            &json!({"name": "kms", "encryptionConfiguration": kms}),
        )
        .await;
    assert_eq!(bucket.error(), (400, "BadRequestException"));
    assert!(bucket.text.contains("aws:kms"), "{}", bucket.text);
    assert_eq!(c.get("/buckets/kms").await.error().0, 404);
    let body = json!({"name": "t", "format": "ICEBERG", "encryptionConfiguration": kms});
    assert_eq!(c.put(&tables("ns1"), &body).await.error().0, 400);
    let path = format!("/buckets/{ARN_SEGMENT}/policy");
    let policy = c.put(&path, &json!({"resourcePolicy": "{}"})).await;
    assert_eq!(policy.error(), (501, "NotImplementedException"));
    assert!(
        policy
            .text
            .contains("PutTableBucketPolicy is not supported yet")
    );
}

#[tokio::test]
async fn namespaces_follow_the_rules_of_the_service() {
    let c = control().await;
    c.lake().await;
    let path = format!("/namespaces/{ARN_SEGMENT}");
    for bad in [
        json!(["a", "b"]),
        json!([]),
        json!(["A"]),
        json!(["_a"]),
        json!(["awsx"]),
    ] {
        let reply = c.put(&path, &json!({"namespace": bad})).await;
        assert_eq!(reply.error(), (400, "BadRequestException"), "{bad}");
    }
    let again = c.put(&path, &json!({"namespace": ["ns1"]})).await;
    assert_eq!(again.error(), (409, "ConflictException"));
    let list = c.get(&format!("{path}?prefix=ns&maxNamespaces=5")).await;
    assert_eq!(list.json["namespaces"][0]["namespace"], json!(["ns1"]));
    let one = c.get(&format!("{path}/ns1")).await;
    assert_eq!(one.json["createdBy"], "000000000000");
    assert_eq!(
        c.get(&format!("{path}/no")).await.error(),
        (404, "NotFoundException")
    );
}

#[tokio::test]
async fn tables_are_made_described_listed_renamed_and_deleted() {
    let c = control().await;
    c.lake().await;
    let made = c.table("t1").await;
    let arn = made.json["tableARN"].as_str().unwrap().to_owned();
    assert!(arn.starts_with(&format!("{ARN}/table/")), "{arn}");
    let by_name = format!("/get-table?tableBucketARN={ARN_SEGMENT}&namespace=ns1&name=t1");
    let by_arn = format!(
        "/get-table?tableArn={}",
        arn.replace(':', "%3A").replace('/', "%2F")
    );
    let (one, two) = (c.get(&by_name).await, c.get(&by_arn).await);
    assert_eq!(one.json, two.json);
    assert_eq!(one.json["versionToken"], made.json["versionToken"]);
    assert_eq!(one.json["format"], "ICEBERG");
    assert_eq!(one.json["namespace"], json!(["ns1"]));
    let warehouse = one.json["warehouseLocation"].as_str().unwrap();
    assert!(
        one.json["metadataLocation"]
            .as_str()
            .unwrap()
            .starts_with(warehouse)
    );
    for bad in [
        "/get-table",
        "/get-table?name=t1",
        &format!("{by_name}&tableArn=x"),
    ] {
        assert_eq!(
            c.get(bad).await.error(),
            (400, "BadRequestException"),
            "{bad}"
        );
    }

    c.table("t2").await;
    let list = c
        .get(&format!(
            "/tables/{ARN_SEGMENT}?namespace=ns1&prefix=t&maxTables=1"
        ))
        .await;
    assert_eq!(list.json["tables"][0]["name"], "t1");
    assert!(list.json["continuationToken"].is_string());

    let rename = tables("ns1/t1/rename");
    assert_eq!(c.put(&rename, &json!({})).await.error().0, 400);
    let taken = c.put(&rename, &json!({"newName": "t2"})).await;
    assert_eq!(taken.error(), (409, "ConflictException"));
    let stale = c
        .put(&rename, &json!({"newName": "t3", "versionToken": "old"}))
        .await;
    assert_eq!(stale.error(), (409, "ConflictException"));
    assert_eq!(c.put(&rename, &json!({"newName": "t3"})).await.status, 204);
    let renamed = c.get(&by_arn).await;
    assert_eq!(renamed.json["name"], "t3");

    let stale = c.delete(&tables("ns1/t3?versionToken=v%2B%2F%3D1")).await;
    assert_eq!(stale.error(), (409, "ConflictException"));
    let token = renamed.json["versionToken"].as_str().unwrap();
    assert_eq!(
        c.delete(&tables(&format!("ns1/t3?versionToken={token}")))
            .await
            .status,
        204
    );
    assert_eq!(c.get(&by_arn).await.error(), (404, "NotFoundException"));
    assert_eq!(
        c.delete(&tables("ns1/t3")).await.error(),
        (404, "NotFoundException")
    );
}

#[tokio::test]
async fn create_table_takes_every_part_of_the_metadata() {
    let c = control().await;
    c.lake().await;
    let body = json!({"name": "full", "format": "ICEBERG", "metadata": {"iceberg": {
        "schemaV2": {"type": "struct", "fields": [
            {"id": 1, "name": "at", "type": "timestamptz", "required": true},
            {"id": 2, "name": "tags", "required": false, "type":
                {"type": "map", "key-id": 3, "key": "string", "value-id": 4, "value": "int",
                 "value-required": false}}]},
        "partitionSpec": {"fields": [{"source-id": 1, "transform": "day", "name": "at_day"}]},
        "writeOrder": {"order-id": 1, "fields": [{"source-id": 1, "transform": "identity",
            "direction": "desc", "null-order": "nulls-last"}]},
        "properties": {"k": "v"}}}});
    let reply = c.put(&tables("ns1"), &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let again = c.put(&tables("ns1"), &body).await;
    assert_eq!(again.error(), (409, "ConflictException"));
    let bad = [
        json!({"name": "x", "format": "DELTA"}),
        json!({"name": "X", "format": "ICEBERG"}),
        json!({"name": "x"}),
        json!({"name": "x", "format": "ICEBERG", "metadata": {"iceberg": {}}}),
        json!({"name": "x", "format": "ICEBERG", "metadata": {"iceberg": {
            "schema": {"fields": [{"name": "a", "type": "no-type"}]}}}}),
    ];
    for body in bad {
        let reply = c.put(&tables("ns1"), &body).await;
        assert_eq!(
            reply.error(),
            (400, "BadRequestException"),
            "{body}: {}",
            reply.text
        );
    }
    let body = json!({"name": "x", "format": "ICEBERG"});
    assert_eq!(
        c.put(&tables("no"), &body).await.error(),
        (404, "NotFoundException")
    );
}

#[tokio::test]
async fn the_metadata_location_is_swapped_by_token() {
    let c = control().await;
    c.lake().await;
    let body = json!({"name": "e", "format": "ICEBERG"});
    assert_eq!(c.put(&tables("ns1"), &body).await.status, 200);
    let path = tables("ns1/e/metadata-location");
    let empty = c.get(&path).await;
    assert!(
        empty.json.get("metadataLocation").is_none(),
        "{}",
        empty.text
    );
    let warehouse = empty.json["warehouseLocation"].as_str().unwrap();
    let key = warehouse.strip_prefix("s3://lake/").unwrap();
    let file = "metadata/00000-a.metadata.json";
    let metadata = json!({
        "format-version": 2, "table-uuid": "6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001",
        "location": warehouse, "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1,
        "current-schema-id": 0, "default-spec-id": 0, "last-partition-id": 999,
        "default-sort-order-id": 0, "properties": {},
        "schemas": [{"type": "struct", "schema-id": 0, "fields":
            [{"id": 1, "name": "a", "required": false, "type": "int"}]}],
        "partition-specs": [{"spec-id": 0, "fields": []}],
        "sort-orders": [{"order-id": 0, "fields": []}],
        "snapshots": [], "snapshot-log": [], "metadata-log": [],
    });
    c.0.files
        .put(&format!("{key}/{file}"), metadata.to_string());
    let location = format!("{warehouse}/{file}");
    let swap = |token: &Value, location: &str| json!({"versionToken": token, "metadataLocation": location});
    let stale = c.put(&path, &swap(&json!("old"), &location)).await;
    assert_eq!(stale.error(), (409, "ConflictException"));
    let token = &empty.json["versionToken"];
    let absent = c
        .put(
            &path,
            &swap(token, &format!("{warehouse}/metadata/no.metadata.json")),
        )
        .await;
    assert_eq!(absent.error(), (400, "BadRequestException"));
    let outside = c
        .put(&path, &swap(token, "s3://lake/other/1.metadata.json"))
        .await;
    assert_eq!(outside.error(), (400, "BadRequestException"));
    let done = c.put(&path, &swap(token, &location)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.json["metadataLocation"], location);
    let now = c.get(&path).await;
    assert_eq!(now.json["metadataLocation"], location);
    assert_eq!(now.json["versionToken"], done.json["versionToken"]);
    assert_ne!(now.json["versionToken"], *token);
}

#[tokio::test]
async fn refusals_of_the_shell_speak_the_protocol() {
    let c = control().await;
    let bare = http::Request::get("/buckets")
        .body(axum::body::Body::empty())
        .unwrap();
    let reply = c.0.raw(bare).await;
    assert_eq!(reply.error(), (401, "AccessDeniedException"));
    assert!(reply.json["message"].is_string());
    let reply = c.0.with(Method::PUT, "/buckets", &[], "{\"name\":").await;
    assert_eq!(reply.error(), (400, "BadRequestException"));
    let reply = c.0.send(Method::POST, "/buckets", &Value::Null).await;
    assert_eq!(reply.error(), (405, "MethodNotAllowedException"));
    let reply = c.get("/buckets/a/b/c").await;
    assert_eq!(reply.error(), (404, "NotFoundException"));
}
