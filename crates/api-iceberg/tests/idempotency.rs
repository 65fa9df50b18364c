//! `Idempotency-Key`: requests that come again because their answer was lost.

#![allow(clippy::unwrap_used)]

mod support;

use floeberg_api_iceberg::{IcebergState, Settings, router};
use floeberg_auth::{Authorizer, Resource, action};
use floeberg_catalog::CreateTableBucket;
use floeberg_env::{Attendance, Env, Peer, SimControl};
use floeberg_metastore::Cx;
use floeberg_types::RequestId;
use http::Method;
use serde_json::{Value, json};
use support::{ARN_SEGMENT, Client, Reply, parts_on};

const KEY: &str = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
const SECOND: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c073990";
const MINUTE_MS: i64 = 60_000;

struct Catalog {
    client: Client,
    control: SimControl,
}

async fn catalog() -> Catalog {
    let (env, control) = Env::simulated(11);
    let parts = parts_on(env).await;
    let root = parts.keys.root_principal();
    let allowed = Authorizer
        .authorize::<action::CreateTableBucket>(&root, Resource::Cluster)
        .unwrap();
    let cx = Cx {
        request_id: RequestId::from_bytes([1; 16]),
        account: parts.account.clone(),
        principal: root.id.clone(),
        deadline: None,
        attendance: Attendance::default(),
        caller: Peer::INSIDE,
        idempotency: None,
    };
    for name in ["lake", "pond"] {
        let bucket = CreateTableBucket {
            name: name.to_owned(),
            ..CreateTableBucket::default()
        };
        parts
            .catalog
            .create_table_bucket(&allowed, &cx, bucket)
            .await
            .unwrap();
    }
    let token = parts.keys.issue_bearer(parts.shell.env.clock.now()).token;
    let state = IcebergState {
        catalog: parts.catalog,
        keys: parts.keys.clone(),
        authorizer: Authorizer,
        settings: Settings {
            region: parts.region,
            account: parts.account,
            s3_endpoint: "http://127.0.0.1:9000".to_owned(),
        },
    };
    let client = Client {
        app: router(parts.shell, state),
        token,
        files: parts.files,
    };
    let catalog = Catalog { client, control };
    let made = catalog
        .ask("POST", "/namespaces", &[], &json!({"namespace": ["ns"]}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    catalog
}

impl Catalog {
    async fn ask(&self, method: &str, path: &str, keys: &[&str], body: &Value) -> Reply {
        let path = match path.strip_prefix("/iceberg") {
            Some(_) => path.to_owned(),
            None => format!("/iceberg/v1/lake{path}"),
        };
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let method: Method = method.parse().unwrap();
        self.client.with(method, &path, &headers, body).await
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> Reply {
        self.ask("POST", path, &[key], body).await
    }

    async fn load(&self, table: &str) -> Reply {
        let path = format!("/namespaces/ns/tables/{table}");
        self.ask("GET", &path, &[], &Value::Null).await
    }
}

const TABLES: &str = "/namespaces/ns/tables";

fn new_table(name: &str) -> Value {
    let schema = json!({"type": "struct", "fields": [
        {"id": 1, "name": "id", "type": "long", "required": true},
    ]});
    json!({"name": name, "schema": schema})
}

fn rename(from: &str, to: &str) -> Value {
    let table = |name: &str| json!({"namespace": ["ns"], "name": name});
    json!({"source": table(from), "destination": table(to)})
}

/// Adds a column to a table that has not been changed before.
fn new_column() -> Value {
    let schema = json!({"type": "struct", "schema-id": 1, "fields": [
        {"id": 1, "name": "id", "type": "long", "required": true},
        {"id": 2, "name": "name", "type": "string", "required": false},
    ]});
    json!({
        "requirements": [{"type": "assert-current-schema-id", "current-schema-id": 0}],
        "updates": [
            {"action": "add-schema", "schema": schema, "last-column-id": 2},
            {"action": "set-current-schema", "schema-id": -1},
        ],
    })
}

#[tokio::test]
async fn the_lifetime_is_advertised() {
    let c = catalog().await;
    let config = c
        .ask(
            "GET",
            "/iceberg/v1/config?warehouse=lake",
            &[],
            &Value::Null,
        )
        .await;
    assert_eq!(config.json["idempotency-key-lifetime"], "PT30M");
}

#[tokio::test]
async fn a_key_that_is_no_uuid_of_version_7_is_refused_and_nothing_is_done() {
    let c = catalog().await;
    let malformed: [&[&str]; 8] = [
        &["x"],
        &[""],
        &["017F22E279B07CC398C4DC0C0C07398F"],
        &["{017F22E2-79B0-7CC3-98C4-DC0C0C07398F}"],
        &["017F22E2-79B0-7CC3-98C4-DC0C0C07398G"],
        &["017F22E2-79B0-4CC3-98C4-DC0C0C07398F"],
        &["017F22E2-79B0-7CC3-18C4-DC0C0C07398F"],
        &[KEY, SECOND],
    ];
    for keys in malformed {
        let reply = c.ask("POST", TABLES, keys, &new_table("t")).await;
        assert_eq!(reply.error(), (400, "BadRequestException"), "{keys:?}");
        assert!(reply.text.contains("UUIDv7"), "{}", reply.text);
    }
    assert_eq!(c.load("t").await.status, 404);
    // What changes nothing takes no key, and looks at none.
    let listed = c.ask("GET", TABLES, &["x"], &Value::Null).await;
    assert_eq!(listed.status, 200);
}

#[tokio::test]
async fn the_answer_that_was_lost_is_given_again() {
    let c = catalog().await;
    let steps = [
        ("POST", "/namespaces", json!({"namespace": ["a"]}), 200),
        (
            "POST",
            "/namespaces/a/properties",
            json!({"updates": {"k": "v"}, "removals": ["l"]}),
            200,
        ),
        ("POST", TABLES, new_table("t"), 200),
        ("POST", "/namespaces/ns/tables/t", new_column(), 200),
        ("POST", "/tables/rename", rename("t", "u"), 204),
        (
            "POST",
            "/transactions/commit",
            json!({"table-changes": [{
                "identifier": {"namespace": ["ns"], "name": "u"},
                "requirements": [{"type": "assert-current-schema-id", "current-schema-id": 1}],
                "updates": [{"action": "remove-properties", "removals": ["none"]},
                    {"action": "set-properties", "updates": {"a": "b"}}],
            }]}),
            204,
        ),
        ("DELETE", "/namespaces/ns/tables/u", Value::Null, 204),
        ("DELETE", "/namespaces/a", Value::Null, 204),
    ];
    for (at, (method, path, body, status)) in steps.iter().enumerate() {
        let key = format!("017f22e2-79b0-7cc3-98c4-{at:012}");
        let first = c.ask(method, path, &[&key], body).await;
        assert_eq!(first.status, *status, "{path}: {}", first.text);
        let again = c.ask(method, path, &[&key], body).await;
        assert_eq!(again.status, *status, "{path}: {}", again.text);
        assert_eq!(again.json, first.json, "{path}");
        assert_eq!(again.headers.get("etag"), first.headers.get("etag"));
    }
}

#[tokio::test]
async fn without_a_key_a_request_that_comes_again_is_another_one() {
    let c = catalog().await;
    for wanted in [200, 409] {
        let made = c.ask("POST", TABLES, &[], &new_table("t")).await;
        assert_eq!(made.status, wanted);
    }
    for wanted in [204, 404] {
        let renamed = c
            .ask("POST", "/tables/rename", &[], &rename("t", "u"))
            .await;
        assert_eq!(renamed.status, wanted);
    }
}

#[tokio::test]
async fn a_staged_table_is_the_same_one() {
    let c = catalog().await;
    let mut body = new_table("t");
    body["stage-create"] = json!(true);
    let first = c.post(TABLES, KEY, &body).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let again = c.post(TABLES, KEY, &body).await;
    assert_eq!(again.json, first.json);
    assert_eq!(c.load("t").await.status, 404);
}

#[tokio::test]
async fn an_answer_tells_of_the_table_as_it_is_now() {
    let c = catalog().await;
    let made = c.post(TABLES, KEY, &new_table("t")).await;
    let renamed = c.post("/tables/rename", SECOND, &rename("t", "u")).await;
    assert_eq!(renamed.status, 204);
    let path = "/namespaces/ns/tables/u";
    let commit = c.ask("POST", path, &[], &new_column()).await;
    assert_eq!(commit.status, 200, "{}", commit.text);
    let again = c.post(TABLES, KEY, &new_table("t")).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let uuid = |reply: &Reply| reply.json["metadata"]["table-uuid"].clone();
    assert_eq!(uuid(&again), uuid(&made));
    assert_eq!(again.json["metadata"]["current-schema-id"], 1);
    assert_eq!(c.load("t").await.status, 404);
}

#[tokio::test]
async fn copies_under_way_at_once_are_done_once() {
    let c = catalog().await;
    let body = new_table("t");
    let copies = (0..8).map(|_| c.post(TABLES, KEY, &body));
    let replies = futures::future::join_all(copies).await;
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.json, replies[0].json);
    }
    let commit = new_column();
    let copies = (0..8).map(|_| c.post("/namespaces/ns/tables/t", SECOND, &commit));
    for reply in futures::future::join_all(copies).await {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    let log = c.load("t").await.json["metadata"]["metadata-log"].clone();
    assert_eq!(log.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let c = catalog().await;
    let made = c.post(TABLES, KEY, &new_table("t")).await;
    assert_eq!(made.status, 200);
    let unprocessable = (422, "UnprocessableEntityException");
    let other = c.post(TABLES, KEY, &new_table("u")).await;
    assert_eq!(other.error(), unprocessable);
    let path = "/namespaces/ns/tables/t";
    let drop = c.ask("DELETE", path, &[KEY], &Value::Null).await;
    assert_eq!(drop.error(), unprocessable);
    let other = json!({"updates": {"a": "b"}, "removals": ["a"]});
    let other = c.post("/namespaces/ns/properties", KEY, &other).await;
    assert_eq!(other.error(), unprocessable);
    assert_eq!(c.load("t").await.status, 200);
    assert_eq!(c.load("u").await.status, 404);
    // Another spelling is no other request: of the body, the key, or the warehouse.
    let spelled = r#"{ "schema": {"fields": [{"required": true, "name": "id", "id": 1,
        "type": "long"}], "type": "struct"}, "name": "t" }"#;
    let path = format!("/iceberg/v1/{ARN_SEGMENT}{TABLES}");
    let key = KEY.to_lowercase();
    let headers = [("idempotency-key", &*key)];
    let again = c.client.with(Method::POST, &path, &headers, spelled).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(
        again.json["metadata"]["table-uuid"],
        made.json["metadata"]["table-uuid"]
    );
    // Another warehouse is another scope.
    let pond = "/iceberg/v1/pond/namespaces";
    let elsewhere = c.post(pond, KEY, &json!({"namespace": ["ns"]})).await;
    assert_eq!(elsewhere.status, 200);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let c = catalog().await;
    let path = "/namespaces/ns/tables/t";
    let missing = c.post(path, SECOND, &new_column()).await;
    assert_eq!(missing.error(), (404, "NoSuchTableException"));
    c.ask("POST", TABLES, &[], &new_table("t")).await;
    let taken = c.post(TABLES, KEY, &new_table("t")).await;
    assert_eq!(taken.error(), (409, "AlreadyExistsException"));
    c.ask("DELETE", path, &[], &Value::Null).await;
    let again = c.post(TABLES, KEY, &new_table("t")).await;
    assert_eq!(again.error(), (409, "AlreadyExistsException"));
    let text = |reply: &Reply| reply.json["error"]["message"].clone();
    assert_eq!(text(&again), text(&taken));
    let other = c.post(TABLES, KEY, &new_table("u")).await;
    assert_eq!(other.status, 422);
    c.ask("POST", TABLES, &[], &new_table("t")).await;
    let missing = c.post(path, SECOND, &new_column()).await;
    assert_eq!(missing.error(), (404, "NoSuchTableException"));
    assert_eq!(c.ask("POST", path, &[], &new_column()).await.status, 200);
}

#[tokio::test]
async fn what_does_not_come_from_the_catalog_is_no_answer() {
    let c = catalog().await;
    let malformed = c.post(TABLES, KEY, &json!({"name": "t"})).await;
    assert_eq!(malformed.status, 400);
    let unauthenticated = http::Request::builder()
        .method(Method::POST)
        .uri(format!("/iceberg/v1/lake{TABLES}"))
        .header("idempotency-key", KEY)
        .body(new_table("t").to_string().into())
        .unwrap();
    assert_eq!(c.client.raw(unauthenticated).await.status, 401);
    assert_eq!(c.post(TABLES, KEY, &new_table("t")).await.status, 200);
}

#[tokio::test]
async fn an_outage_is_no_answer() {
    let c = catalog().await;
    let made = c.ask("POST", TABLES, &[], &new_table("t")).await;
    let metadata = made.json["metadata"].to_string();
    c.ask("DELETE", "/namespaces/ns/tables/t", &[], &Value::Null)
        .await;
    let key = "files/v1.metadata.json";
    let body = json!({"name": "t", "metadata-location": format!("s3://lake/{key}")});
    let path = "/namespaces/ns/register";
    c.client.files.fail(key);
    let failed = c.post(path, KEY, &body).await;
    assert_eq!(failed.error(), (503, "ServiceUnavailableException"));
    c.client.files.put(key, metadata);
    let registered = c.post(path, KEY, &body).await;
    assert_eq!(registered.status, 200, "{}", registered.text);
    // Once it is done, the file is not looked at again.
    c.client.files.fail(key);
    let again = c.post(path, KEY, &body).await;
    assert_eq!(again.json, registered.json);
}

#[tokio::test]
async fn a_key_expires_after_its_lifetime() {
    let c = catalog().await;
    assert_eq!(c.post(TABLES, KEY, &new_table("t")).await.status, 200);
    c.control.jump_clock(30 * MINUTE_MS);
    assert_eq!(c.post(TABLES, KEY, &new_table("t")).await.status, 200);
    c.control.jump_clock(5 * MINUTE_MS);
    let forgotten = c.post(TABLES, KEY, &new_table("t")).await;
    assert_eq!(forgotten.error(), (409, "AlreadyExistsException"));
}
