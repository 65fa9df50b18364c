//! The Iceberg REST protocol against a catalog in memory.

#![allow(clippy::unwrap_used)]

mod support;

use floeberg_api_iceberg::{IcebergState, Settings, router};
use floeberg_auth::{Authorizer, action};
use floeberg_auth::{PrincipalKind, Resource};
use floeberg_catalog::CreateTableBucket;
use floeberg_env::{Attendance, Peer};
use floeberg_metastore::Cx;
use floeberg_types::RequestId;
use http::Method;
use serde_json::{Value, json};
use support::{ARN, ARN_SEGMENT, Client, ID, Reply, SECRET, parts};

const BASE: &str = "/iceberg/v1/lake";

struct Catalog {
    client: Client,
    keys: std::sync::Arc<floeberg_auth::Keyring>,
}

async fn catalog() -> Catalog {
    let parts = parts().await;
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
    let bucket = CreateTableBucket {
        name: "lake".to_owned(),
        ..CreateTableBucket::default()
    };
    parts
        .catalog
        .create_table_bucket(&allowed, &cx, bucket)
        .await
        .unwrap();
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
    let app = router(parts.shell, state);
    Catalog {
        client: Client {
            app,
            token,
            files: parts.files,
        },
        keys: parts.keys,
    }
}

fn schema() -> Value {
    json!({"type": "struct", "fields": [
        {"id": 1, "name": "id", "type": "long", "required": true},
        {"id": 2, "name": "name", "type": "string", "required": false},
    ]})
}

impl Catalog {
    async fn get(&self, path: &str) -> Reply {
        self.client
            .send(Method::GET, &format!("{BASE}{path}"), &Value::Null)
            .await
    }

    async fn head(&self, path: &str) -> u16 {
        let path = format!("{BASE}{path}");
        self.client
            .send(Method::HEAD, &path, &Value::Null)
            .await
            .status
            .as_u16()
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.client
            .send(Method::POST, &format!("{BASE}{path}"), body)
            .await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.client
            .send(Method::DELETE, &format!("{BASE}{path}"), &Value::Null)
            .await
    }

    async fn namespace(&self, name: &str) {
        let reply = self
            .post("/namespaces", &json!({"namespace": [name]}))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }

    async fn table(&self, namespace: &str, name: &str) -> Reply {
        let path = format!("/namespaces/{namespace}/tables");
        let reply = self
            .post(&path, &json!({"name": name, "schema": schema()}))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply
    }
}

fn set_property(key: &str, value: &str) -> Value {
    json!({"action": "set-properties", "updates": {key: value}})
}

#[tokio::test]
async fn config_names_the_prefix_and_the_endpoints() {
    let c = catalog().await;
    for warehouse in ["lake", ARN_SEGMENT, ARN] {
        let path = format!("/iceberg/v1/config?warehouse={warehouse}");
        let reply = c.client.send(Method::GET, &path, &Value::Null).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.json["overrides"]["prefix"], ARN_SEGMENT);
        let endpoints = reply.json["endpoints"].as_array().unwrap();
        assert!(endpoints.contains(&json!("POST /v1/{prefix}/transactions/commit")));
        assert!(!endpoints.contains(&json!("POST /v1/{prefix}/namespaces/{namespace}/views")));
        assert_eq!(
            reply.json["defaults"]["s3.endpoint"],
            "http://127.0.0.1:9000"
        );
    }
    for unknown in [
        "nowhere",
        "arn:aws:s3tables:eu-west-1:000000000000:bucket/lake",
        "a/b",
    ] {
        let path = format!("/iceberg/v1/config?warehouse={unknown}");
        let reply = c.client.send(Method::GET, &path, &Value::Null).await;
        assert_eq!(
            reply.error(),
            (404, "NoSuchWarehouseException"),
            "{unknown}"
        );
    }
    let reply = c
        .client
        .send(Method::GET, "/iceberg/v1/config", &Value::Null)
        .await;
    assert_eq!(reply.error(), (400, "BadRequestException"));
}

#[tokio::test]
async fn every_form_of_the_prefix_reaches_the_bucket() {
    let c = catalog().await;
    c.namespace("ns").await;
    for prefix in [
        ARN_SEGMENT,
        "lake",
        "arn:aws:s3tables:us-east-1:000000000000:bucket%2Flake",
    ] {
        let path = format!("/iceberg/v1/{prefix}/namespaces");
        let reply = c.client.send(Method::GET, &path, &Value::Null).await;
        assert_eq!(
            reply.json["namespaces"],
            json!([["ns"]]),
            "{prefix}: {}",
            reply.text
        );
    }
    let reply = c
        .client
        .send(Method::GET, "/iceberg/v1/other/namespaces", &Value::Null)
        .await;
    assert_eq!(reply.error(), (404, "NoSuchWarehouseException"));
}

#[tokio::test]
async fn namespaces_are_made_listed_changed_and_dropped() {
    let c = catalog().await;
    let body = json!({"namespace": ["a"], "properties": {"owner": "x"}});
    let reply = c.post("/namespaces", &body).await;
    assert_eq!(reply.json["properties"]["owner"], "x");
    assert_eq!(
        c.post("/namespaces", &body).await.error(),
        (409, "AlreadyExistsException")
    );
    let nested = c
        .post("/namespaces", &json!({"namespace": ["a", "b"]}))
        .await;
    assert_eq!(nested.status, 200, "{}", nested.text);
    let orphan = c
        .post("/namespaces", &json!({"namespace": ["no", "b"]}))
        .await;
    assert_eq!(orphan.error(), (404, "NoSuchNamespaceException"));
    let inner = c.get("/namespaces?parent=a").await;
    assert_eq!(inner.json["namespaces"], json!([["a", "b"]]));
    assert_eq!(c.get("/namespaces?parent=no").await.error().0, 404);
    assert_eq!(c.head("/namespaces/a%1Fb").await, 204);
    assert_eq!(c.head("/namespaces/a%1Fc").await, 404);
    let full = c.delete("/namespaces/a").await;
    assert_eq!(full.error(), (409, "NamespaceNotEmptyException"));
    assert_eq!(c.delete("/namespaces/a%1Fb").await.status, 204);

    let path = "/namespaces/a/properties";
    let reply = c
        .post(
            path,
            &json!({"removals": ["owner", "gone"], "updates": {"k": "v"}}),
        )
        .await;
    assert_eq!(
        reply.json,
        json!({"updated": ["k"], "removed": ["owner"], "missing": ["gone"]})
    );
    let both = c
        .post(path, &json!({"removals": ["k"], "updates": {"k": "v"}}))
        .await;
    assert_eq!(both.error(), (422, "UnprocessableEntityException"));
    assert_eq!(
        c.get("/namespaces/a").await.json["properties"],
        json!({"k": "v"})
    );
    assert_eq!(c.delete("/namespaces/a").await.status, 204);
    assert_eq!(
        c.delete("/namespaces/a").await.error(),
        (404, "NoSuchNamespaceException")
    );
}

#[tokio::test]
async fn listings_page_only_when_asked_to() {
    let c = catalog().await;
    for name in ["a", "b", "c"] {
        c.namespace(name).await;
    }
    let all = c.get("/namespaces?pageSize=1").await;
    assert_eq!(all.json["namespaces"].as_array().unwrap().len(), 3);
    assert_eq!(all.json["next-page-token"], Value::Null);
    let (mut token, mut seen) = (String::new(), Vec::new());
    loop {
        let page = c
            .get(&format!("/namespaces?pageSize=2&pageToken={token}"))
            .await;
        seen.extend(page.json["namespaces"].as_array().unwrap().clone());
        match page.json["next-page-token"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(seen, [json!(["a"]), json!(["b"]), json!(["c"])]);
    for bad in [
        "pageToken=zz",
        "pageToken=&pageSize=0",
        "pageToken=&pageSize=x",
    ] {
        assert_eq!(
            c.get(&format!("/namespaces?{bad}")).await.error().0,
            400,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn tables_are_created_loaded_and_dropped() {
    let c = catalog().await;
    c.namespace("ns").await;
    let made = c.table("ns", "t").await;
    let location = made.json["metadata"]["location"].as_str().unwrap();
    assert!(location.starts_with("s3://lake/ns/t-"), "{location}");
    assert_eq!(made.json["config"]["s3.path-style-access"], "true");
    assert_eq!(made.json["config"]["client.region"], "us-east-1");
    assert!(made.json["config"].get("s3.secret-access-key").is_none());
    assert!(made.json.get("storage-credentials").is_none());
    let again = c
        .post(
            "/namespaces/ns/tables",
            &json!({"name": "t", "schema": schema()}),
        )
        .await;
    assert_eq!(again.error(), (409, "AlreadyExistsException"));
    assert_eq!(again.json["error"]["message"], "Table already exists: ns.t");

    let loaded = c.get("/namespaces/ns/tables/t?snapshots=all").await;
    assert_eq!(loaded.json["metadata"], made.json["metadata"]);
    assert_eq!(
        loaded.json["metadata-location"],
        made.json["metadata-location"]
    );
    assert_eq!(
        c.get("/namespaces/ns/tables/t?snapshots=some")
            .await
            .error()
            .0,
        400
    );
    let list = c.get("/namespaces/ns/tables").await;
    assert_eq!(
        list.json["identifiers"],
        json!([{"namespace": ["ns"], "name": "t"}])
    );
    assert_eq!(c.head("/namespaces/ns/tables/t").await, 204);

    let bad = c
        .delete("/namespaces/ns/tables/t?purgeRequested=maybe")
        .await;
    assert_eq!(bad.error().0, 400);
    assert_eq!(
        c.delete("/namespaces/ns/tables/t?purgeRequested=False")
            .await
            .status,
        204
    );
    assert_eq!(c.head("/namespaces/ns/tables/t").await, 404);
    let gone = c.get("/namespaces/ns/tables/t").await;
    assert_eq!(gone.error(), (404, "NoSuchTableException"));
    // Engines probe `table.snapshots` as a table of a namespace that does not exist.
    let probe = c.get("/namespaces/ns%1Ft/tables/snapshots").await;
    assert_eq!(probe.error(), (404, "NoSuchTableException"));
    let nowhere = c.get("/namespaces/no/tables").await;
    assert_eq!(nowhere.error(), (404, "NoSuchNamespaceException"));
}

#[tokio::test]
async fn an_unchanged_table_need_not_be_sent_again() {
    let c = catalog().await;
    c.namespace("ns").await;
    c.table("ns", "t").await;
    let path = format!("{BASE}/namespaces/ns/tables/t");
    let all = c.client.send(Method::GET, &path, &Value::Null).await;
    let tag = all.headers["etag"].to_str().unwrap().to_owned();
    let ask = async |query: &str, headers: &[(&str, &str)]| {
        let path = format!("{path}{query}");
        c.client
            .with(Method::GET, &path, headers, String::new())
            .await
            .status
            .as_u16()
    };
    assert_eq!(ask("", &[("if-none-match", &tag)]).await, 304);
    assert_eq!(
        ask("", &[("if-none-match", &format!("\"x\", W/{tag}"))]).await,
        304
    );
    assert_eq!(
        ask("?snapshots=refs", &[("if-none-match", &tag)]).await,
        200
    );
    let vended = ("x-iceberg-access-delegation", "vended-credentials");
    assert_eq!(ask("", &[("if-none-match", &tag), vended]).await, 200);
    let change = json!({"requirements": [], "updates": [set_property("a", "b")]});
    let committed = c.post("/namespaces/ns/tables/t", &change).await;
    assert_ne!(committed.headers["etag"], tag.as_str());
    assert_eq!(ask("", &[("if-none-match", &tag)]).await, 200);
}

#[tokio::test]
async fn credentials_are_vended_to_whoever_asks() {
    let c = catalog().await;
    c.namespace("ns").await;
    c.table("ns", "t").await;
    let path = format!("{BASE}/namespaces/ns/tables/t");
    let header = [(
        "x-iceberg-access-delegation",
        "remote-signing, Vended-Credentials",
    )];
    let reply = c
        .client
        .with(Method::GET, &path, &header, String::new())
        .await;
    let credentials = reply.json["storage-credentials"].as_array().unwrap();
    assert_eq!(credentials.len(), 1);
    assert_eq!(credentials[0]["prefix"], reply.json["metadata"]["location"]);
    let config = &credentials[0]["config"];
    assert_eq!(
        reply.json["config"]["s3.access-key-id"],
        config["s3.access-key-id"]
    );
    let field = |name: &str| config[name].as_str().unwrap().to_owned();
    let expires: i64 = field("s3.session-token-expires-at-ms").parse().unwrap();
    let now = floeberg_types::TimestampMs(expires - 1000);
    let (secret, principal) = c
        .keys
        .lookup(
            &field("s3.access-key-id"),
            Some(&field("s3.session-token")),
            now,
        )
        .unwrap();
    assert_eq!(secret.expose(), field("s3.secret-access-key"));
    let PrincipalKind::Vended(scope) = principal.kind else {
        panic!("{principal:?}")
    };
    assert_eq!(
        format!("s3://{}/{}", scope.bucket, scope.prefix),
        credentials[0]["prefix"]
    );

    let refresh = format!("/iceberg/{}", field("client.refresh-credentials-endpoint"));
    let fresh = c.client.send(Method::GET, &refresh, &Value::Null).await;
    let credentials = fresh.json["storage-credentials"].as_array().unwrap();
    assert_eq!(credentials[0]["prefix"], reply.json["metadata"]["location"]);
}

#[tokio::test]
async fn commits_check_requirements_and_say_what_failed() {
    let c = catalog().await;
    c.namespace("ns").await;
    let made = c.table("ns", "t").await;
    let uuid = made.json["metadata"]["table-uuid"].clone();
    let path = "/namespaces/ns/tables/t";
    let good = json!({
        "identifier": {"namespace": ["ns"], "name": "t"},
        "requirements": [{"type": "assert-table-uuid", "uuid": uuid}],
        "updates": [set_property("a", "1")],
    });
    let reply = c.post(path, &good).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["metadata"]["properties"]["a"], "1");
    assert_ne!(
        reply.json["metadata-location"],
        made.json["metadata-location"]
    );
    assert!(reply.json.get("config").is_none());

    let stale = json!({
        "requirements": [{"type": "assert-current-schema-id", "current-schema-id": 7}],
        "updates": [set_property("a", "2")],
    });
    let reply = c.post(path, &stale).await;
    assert_eq!(reply.error(), (409, "CommitFailedException"));
    let text = "Requirement failed: current schema changed: expected id 7 != 0";
    assert_eq!(reply.json["error"]["message"], text);
    assert_eq!(reply.json["error"]["code"], 409);
    assert!(reply.json["error"]["request-id"].is_string());

    let bad = [
        (
            json!({"requirements": [], "updates": [{"action": "brew"}]}),
            "brew",
        ),
        (
            json!({"requirements": [{"type": "assert-tea"}], "updates": []}),
            "assert-tea",
        ),
        (json!({"updates": []}), "missing field `requirements`"),
        (
            json!({"requirements": [], "updates": {}}),
            "expected a sequence",
        ),
        (
            json!({"identifier": {"namespace": ["ns"], "name": "x"}, "requirements": [], "updates": []}),
            "is not the path's",
        ),
        (
            json!({"requirements": [], "updates": [{"action": "set-current-schema", "schema-id": 9}]}),
            "unknown schema: 9",
        ),
    ];
    for (body, wanted) in bad {
        let reply = c.post(path, &body).await;
        assert_eq!(reply.error().0, 400, "{body}: {}", reply.text);
        assert!(reply.text.contains(wanted), "{body}: {}", reply.text);
    }
    let missing = c
        .post("/namespaces/ns/tables/no", &good["requirements"])
        .await;
    assert_eq!(missing.error().0, 400);
    let missing = json!({"requirements": [], "updates": [set_property("a", "1")]});
    let reply = c.post("/namespaces/ns/tables/no", &missing).await;
    assert_eq!(reply.error(), (404, "NoSuchTableException"));
    let kept = c.get(path).await;
    assert_eq!(kept.json["metadata"]["properties"]["a"], "1");
}

#[tokio::test]
async fn a_staged_table_becomes_visible_by_its_commit() {
    let c = catalog().await;
    c.namespace("ns").await;
    let body = json!({"name": "t", "schema": schema(), "stage-create": true});
    let path = format!("{BASE}/namespaces/ns/tables");
    let header = [("x-iceberg-access-delegation", "vended-credentials")];
    let staged = c
        .client
        .with(Method::POST, &path, &header, body.to_string())
        .await;
    assert_eq!(staged.status, 200, "{}", staged.text);
    assert!(staged.json.get("metadata-location").is_none());
    assert_eq!(
        staged.json["storage-credentials"][0]["prefix"],
        staged.json["metadata"]["location"]
    );
    assert_eq!(c.head("/namespaces/ns/tables/t").await, 404);
    let metadata = &staged.json["metadata"];
    let commit = json!({
        "requirements": [{"type": "assert-create"}],
        "updates": [
            {"action": "assign-uuid", "uuid": metadata["table-uuid"]},
            {"action": "upgrade-format-version", "format-version": 2},
            {"action": "add-schema", "schema": metadata["schemas"][0]},
            {"action": "set-current-schema", "schema-id": -1},
            {"action": "add-spec", "spec": metadata["partition-specs"][0]},
            {"action": "set-default-spec", "spec-id": -1},
            {"action": "add-sort-order", "sort-order": metadata["sort-orders"][0]},
            {"action": "set-default-sort-order", "sort-order-id": -1},
            {"action": "set-location", "location": metadata["location"]},
        ],
    });
    let reply = c.post("/namespaces/ns/tables/t", &commit).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["metadata"]["location"], metadata["location"]);
    let again = c.post("/namespaces/ns/tables/t", &commit).await;
    assert_eq!(again.status, 409, "{}", again.text);
}

#[tokio::test]
async fn a_transaction_changes_all_tables_or_none() {
    let c = catalog().await;
    c.namespace("ns").await;
    c.table("ns", "a").await;
    c.table("ns", "b").await;
    let change = |name: &str, schema: i64, value: &str| {
        json!({
            "identifier": {"namespace": ["ns"], "name": name},
            "requirements": [{"type": "assert-current-schema-id", "current-schema-id": schema}],
            "updates": [set_property("v", value)],
        })
    };
    let good = json!({"table-changes": [change("a", 0, "1"), change("b", 0, "1")]});
    let reply = c.post("/transactions/commit", &good).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    let half = json!({"table-changes": [change("a", 0, "2"), change("b", 5, "2")]});
    let reply = c.post("/transactions/commit", &half).await;
    assert_eq!(reply.error(), (409, "CommitFailedException"));
    for name in ["a", "b"] {
        let table = c.get(&format!("/namespaces/ns/tables/{name}")).await;
        assert_eq!(table.json["metadata"]["properties"]["v"], "1");
    }
    let twice = json!({"table-changes": [change("a", 0, "3"), change("a", 0, "4")]});
    assert_eq!(c.post("/transactions/commit", &twice).await.error().0, 400);
    let nameless = json!({"table-changes": [{"requirements": [], "updates": []}]});
    assert_eq!(
        c.post("/transactions/commit", &nameless).await.error().0,
        400
    );
}

#[tokio::test]
async fn tables_are_renamed_and_registered() {
    let c = catalog().await;
    c.namespace("ns").await;
    c.namespace("other").await;
    c.table("ns", "t").await;
    c.table("ns", "taken").await;
    let rename = |from: &str, to_ns: &str, to: &str| {
        json!({"source": {"namespace": ["ns"], "name": from},
               "destination": {"namespace": [to_ns], "name": to}})
    };
    let reply = c.post("/tables/rename", &rename("t", "ns", "taken")).await;
    assert_eq!(reply.error(), (409, "AlreadyExistsException"));
    let reply = c.post("/tables/rename", &rename("t", "no", "t")).await;
    assert_eq!(reply.error(), (404, "NoSuchNamespaceException"));
    let reply = c.post("/tables/rename", &rename("no", "ns", "x")).await;
    assert_eq!(reply.error(), (404, "NoSuchTableException"));
    assert_eq!(
        c.post("/tables/rename", &rename("t", "other", "u"))
            .await
            .status,
        204
    );
    let moved = c.get("/namespaces/other/tables/u").await;
    assert_eq!(moved.status, 200);

    let absent = json!({"name": "r", "metadata-location": "s3://lake/x/metadata/1.metadata.json"});
    let reply = c.post("/namespaces/ns/register", &absent).await;
    assert_eq!(
        reply.error(),
        (400, "BadRequestException"),
        "{}",
        reply.text
    );
    let mut metadata = moved.json["metadata"].clone();
    metadata["location"] = json!("s3://lake/x/t");
    c.client
        .files
        .put("x/metadata/1.metadata.json", metadata.to_string());
    let reply = c.post("/namespaces/ns/register", &absent).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["metadata-location"], absent["metadata-location"]);
    assert_eq!(reply.json["metadata"]["table-uuid"], metadata["table-uuid"]);
}

#[tokio::test]
async fn metrics_reports_are_taken_and_nonsense_is_not() {
    let c = catalog().await;
    let path = "/namespaces/ns/tables/t/metrics";
    assert_eq!(
        c.post(path, &json!({"report-type": "scan-report"}))
            .await
            .status,
        204
    );
    let reply = c
        .client
        .with(Method::POST, &format!("{BASE}{path}"), &[], "{")
        .await;
    assert_eq!(reply.error(), (400, "BadRequestException"));
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_in_the_protocol() {
    let c = catalog().await;
    assert_eq!(c.get("/views").await.error(), (404, "NotFoundException"));
    let path = format!("{BASE}/namespaces");
    let reply = c.client.send(Method::PUT, &path, &Value::Null).await;
    assert_eq!(reply.error(), (405, "MethodNotAllowedException"));
    assert_eq!(reply.headers["allow"], "GET, POST");
    let bare = http::Request::get(&path)
        .body(axum::body::Body::empty())
        .unwrap();
    let reply = c.client.raw(bare).await;
    assert_eq!(reply.error(), (401, "NotAuthorizedException"));
    assert!(reply.json["error"]["message"].is_string());
    let latin = c
        .post("/namespaces", &json!({"namespace": ["a\u{1}"]}))
        .await;
    assert_eq!(latin.error(), (400, "BadRequestException"));
}

async fn token_request(c: &Catalog, headers: &[(&str, &str)], form: &str) -> Reply {
    let mut request = http::Request::post("/iceberg/v1/oauth/tokens")
        .header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = axum::body::Body::from(form.to_owned());
    c.client.raw(request.body(body).unwrap()).await
}

#[tokio::test]
async fn clients_get_tokens_by_form_and_by_header_and_exchange_them() {
    use base64::Engine as _;
    let c = catalog().await;
    let form = format!(
        "grant_type=client_credentials&client_id={ID}&client_secret=secretkey%2Fexample&scope=catalog"
    );
    let reply = token_request(&c, &[], &form).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["token_type"], "bearer");
    assert_eq!(reply.json["expires_in"], 3600);
    assert_eq!(reply.json["scope"], "catalog");
    assert_eq!(reply.headers["cache-control"], "no-store");
    let token = reply.json["access_token"].as_str().unwrap().to_owned();

    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for pair in [
        format!("{ID}:{SECRET}"),
        format!("{ID}:secretkey%2Fexample"),
    ] {
        let header = format!("Basic {}", encode(&pair));
        let headers = [("authorization", header.as_str())];
        let reply = token_request(&c, &headers, "grant_type=client_credentials").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    let exchange = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={token}\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
    );
    let fresh = token_request(&c, &[], &exchange).await;
    assert_eq!(fresh.status, 200, "{}", fresh.text);
    let fresh = fresh.json["access_token"].as_str().unwrap().to_owned();
    let client = Client {
        token: fresh,
        app: c.client.app.clone(),
        files: c.client.files.clone(),
    };
    let reply = client
        .send(Method::GET, &format!("{BASE}/namespaces"), &Value::Null)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn refused_token_requests_are_worded_as_the_standard_says() {
    let c = catalog().await;
    let wrong = format!("grant_type=client_credentials&client_id={ID}&client_secret=wrong");
    let missing = format!("grant_type=client_credentials&client_id={ID}");
    let cases = [
        (wrong.as_str(), 401, "invalid_client"),
        (missing.as_str(), 400, "invalid_request"),
        (
            "grant_type=password&client_id=a&client_secret=b",
            400,
            "unsupported_grant_type",
        ),
        ("", 400, "invalid_request"),
        (
            "grant_type=client_credentials&grant_type=client_credentials",
            400,
            "invalid_request",
        ),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x",
            400,
            "invalid_grant",
        ),
    ];
    for (form, status, error) in cases {
        let reply = token_request(&c, &[], form).await;
        let found = (
            reply.status.as_u16(),
            reply.json["error"].as_str().unwrap_or(""),
        );
        assert_eq!(found, (status, error), "{form}: {}", reply.text);
    }
    let basic = [("authorization", "Basic d3Jvbmc6d3Jvbmc=")];
    let reply = token_request(&c, &basic, "grant_type=client_credentials").await;
    assert_eq!(reply.status, 401);
    assert!(reply.headers.contains_key("www-authenticate"));
}

/// Every value that differs from `value` in one node, which became something else.
fn mutations(value: &Value) -> Vec<Value> {
    let strange = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(i64::MAX),
        json!("x\u{0}"),
        json!([]),
        json!({}),
        json!([{}]),
    ];
    let mut out: Vec<Value> = strange.into();
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                for changed in mutations(item) {
                    let mut copy = items.clone();
                    copy[i] = changed;
                    out.push(Value::Array(copy));
                }
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let mut without = members.clone();
                without.remove(name);
                out.push(Value::Object(without));
                for changed in mutations(member) {
                    let mut copy = members.clone();
                    copy.insert(name.clone(), changed);
                    out.push(Value::Object(copy));
                }
            }
        }
        _ => {}
    }
    out
}

fn snapshot_commit() -> Value {
    json!({
        "requirements": [
            {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null},
            {"type": "assert-last-assigned-field-id", "last-assigned-field-id": 2},
        ],
        "updates": [
            {"action": "add-snapshot", "snapshot": {
                "snapshot-id": 7, "sequence-number": 1, "timestamp-ms": 1_700_000_000_000_i64,
                "manifest-list": "s3://lake/else/where/metadata/snap.avro", "schema-id": 0,
                "summary": {"operation": "append"}}},
            {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": 7},
            {"action": "add-schema", "schema": {"type": "struct", "schema-id": 1, "fields": [
                {"id": 3, "name": "l", "required": false, "type":
                    {"type": "list", "element-id": 4, "element": "int", "element-required": true}}]}},
            {"action": "add-spec", "spec": {"spec-id": 1, "fields": [
                {"source-id": 1, "field-id": 1000, "name": "p", "transform": "bucket[4]"}]}},
            {"action": "add-sort-order", "sort-order": {"order-id": 1, "fields": [
                {"source-id": 1, "transform": "identity", "direction": "asc",
                 "null-order": "nulls-first"}]}},
            {"action": "remove-snapshots", "snapshot-ids": [1]},
            {"action": "set-statistics", "statistics": {"snapshot-id": 7,
                "statistics-path": "s3://lake/x", "file-size-in-bytes": 1,
                "file-footer-size-in-bytes": 1, "blob-metadata": []}},
            {"action": "set-location", "location": "s3://lake/else/where"},
        ],
    })
}

#[tokio::test]
async fn no_strange_body_is_an_internal_error() {
    let c = catalog().await;
    c.namespace("ns").await;
    c.table("ns", "t").await;
    let create = json!({
        "name": "m", "location": "s3://lake/ns/m", "schema": schema(), "stage-create": true,
        "partition-spec": {"spec-id": 0, "fields": [
            {"source-id": 1, "name": "p", "transform": "identity"}]},
        "write-order": {"order-id": 1, "fields": [{"source-id": 1, "transform": "identity",
            "direction": "asc", "null-order": "nulls-first"}]},
        "properties": {"format-version": "2", "write.data.path": "s3://lake/ns/m/d"},
    });
    let change = json!({"identifier": {"namespace": ["ns"], "name": "t"},
        "requirements": [], "updates": []});
    let bodies = [
        (
            "/namespaces",
            json!({"namespace": ["n"], "properties": {"a": "b"}}),
        ),
        (
            "/namespaces/ns/properties",
            json!({"removals": ["a"], "updates": {"b": "c"}}),
        ),
        ("/namespaces/ns/tables", create),
        ("/namespaces/ns/tables/t", snapshot_commit()),
        (
            "/namespaces/ns/register",
            json!({"name": "r", "metadata-location": "s3://lake/r"}),
        ),
        ("/transactions/commit", json!({"table-changes": [change]})),
        (
            "/tables/rename",
            json!({
            "source": {"namespace": ["ns"], "name": "no"},
            "destination": {"namespace": ["ns"], "name": "no2"}}),
        ),
    ];
    for (path, body) in bodies {
        for changed in mutations(&body) {
            let reply = c.post(path, &changed).await;
            let status = reply.status.as_u16();
            assert!(status < 500, "{path} {changed}: {}", reply.text);
            if status >= 400 {
                assert!(
                    reply.json["error"]["message"].is_string(),
                    "{path}: {}",
                    reply.text
                );
            }
        }
    }
}
