//! The Iceberg REST catalog protocol (`rest-catalog-open-api.yaml` of Apache Iceberg).

use crate::append::CreateTableBody;
use crate::error::ClientError;
use crate::sigv4::{Credentials, Scope, UNRESERVED};
use crate::tls::Trust;
use crate::transport::{Auth, Endpoint, Reply, Request};
use bytes::Bytes;
use http::Method;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How a catalog wants to know its client.
#[derive(Clone, Debug)]
pub enum IcebergAuth {
    /// Not at all.
    None,
    /// A fixed token.
    Bearer(String),
    /// The OAuth2 client credentials flow at the catalog's `v1/oauth/tokens` or elsewhere.
    OAuth {
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: String,
        /// Scope, for example `PRINCIPAL_ROLE:ALL`.
        scope: String,
        /// Full address of the token endpoint, if it is not the catalog's own.
        token_uri: Option<String>,
    },
    /// AWS Signature Version 4.
    SigV4(Credentials, Scope),
}

/// Which catalog, and as whom.
#[derive(Clone, Debug)]
pub struct IcebergConfig {
    /// Base address, to which `/v1/…` is appended.
    pub uri: String,
    /// Warehouse: for Floeberg a table bucket's name or ARN.
    pub warehouse: Option<String>,
    /// Authentication.
    pub auth: IcebergAuth,
}

/// A catalog whose configuration has been read; clones share connections.
#[derive(Clone, Debug)]
pub struct IcebergClient {
    endpoint: Endpoint,
    prefix: String,
}

/// The answer of create, load and commit.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LoadedTable {
    /// Where the metadata file is; absent for a staged table.
    pub metadata_location: Option<String>,
    /// Table metadata as the Iceberg specification defines it.
    pub metadata: Value,
    /// Settings for reading the table, for example vended credentials.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ConfigReply {
    #[serde(default)]
    overrides: BTreeMap<String, String>,
    #[serde(default)]
    defaults: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NamespacePage {
    namespaces: Vec<Vec<String>>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Identifier {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TablePage {
    identifiers: Vec<Identifier>,
    next_page_token: Option<String>,
}

fn parse<T: DeserializeOwned>(operation: &'static str, reply: &Reply) -> Result<T, ClientError> {
    serde_json::from_slice(&reply.body).map_err(|error| ClientError::Answer {
        operation,
        cause: error.to_string(),
    })
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

impl IcebergClient {
    /// Authenticates and reads the catalog's configuration.
    ///
    /// # Errors
    /// As any call; also if the catalog does not know the warehouse.
    pub async fn connect(config: &IcebergConfig) -> Result<Self, ClientError> {
        Self::connect_trusting(config, &Trust::System).await
    }

    /// As [`Self::connect`], to a catalog that `trust` certifies.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_trusting(
        config: &IcebergConfig,
        trust: &Trust,
    ) -> Result<Self, ClientError> {
        let anonymous = Endpoint::trusting(&config.uri, Auth::None, trust)?;
        let auth = match &config.auth {
            IcebergAuth::None => Auth::None,
            IcebergAuth::Bearer(token) => Auth::Bearer(token.clone()),
            IcebergAuth::SigV4(credentials, scope) => {
                Auth::sigv4(credentials.clone(), scope.clone())
            }
            IcebergAuth::OAuth {
                client_id,
                client_secret,
                scope,
                token_uri,
            } => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret),
                    ("scope", scope),
                ];
                Auth::Bearer(token(&anonymous, token_uri.as_deref(), &form, trust).await?)
            }
        };
        let mut client = Self {
            endpoint: anonymous.with_auth(auth),
            prefix: String::new(),
        };
        let mut request = Request::new(Method::GET, "/v1/config".into());
        if let Some(warehouse) = &config.warehouse {
            request.query = format!("warehouse={}", encode(warehouse));
        }
        let reply = client.endpoint.send(&request).await?;
        let reply: ConfigReply = parse("getConfig", &reply)?;
        let prefix = reply
            .overrides
            .get("prefix")
            .or(reply.defaults.get("prefix"));
        if let Some(prefix) = prefix.filter(|p| !p.is_empty()) {
            // The catalog gives it encoded; it goes into paths as it is.
            client.prefix = format!("/{prefix}");
        }
        Ok(client)
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1{}{rest}", self.prefix)
    }

    fn namespace_path(&self, namespace: &[&str]) -> String {
        // Levels are joined by the unit separator, as the protocol's default says.
        self.path(&format!(
            "/namespaces/{}",
            encode(&namespace.join("\u{1f}"))
        ))
    }

    fn table_path(&self, namespace: &[&str], table: &str) -> String {
        format!(
            "{}/tables/{}",
            self.namespace_path(namespace),
            encode(table)
        )
    }

    async fn call(&self, method: Method, path: String) -> Result<Reply, ClientError> {
        self.endpoint.send(&Request::new(method, path)).await
    }

    async fn post(&self, path: String, body: impl Into<Bytes>) -> Result<Reply, ClientError> {
        let request = Request::new(Method::POST, path).json(body);
        self.endpoint.send(&request).await
    }

    /// `createNamespace`.
    ///
    /// # Errors
    /// 409 if it exists.
    pub async fn create_namespace(&self, namespace: &[&str]) -> Result<(), ClientError> {
        let body = json!({"namespace": namespace, "properties": {}}).to_string();
        self.post(self.path("/namespaces"), body).await.map(|_| ())
    }

    /// `listNamespaces`, all pages: the namespaces right below `parent`, or those of the top level.
    ///
    /// # Errors
    /// As any call; 404 if there is no such parent.
    pub async fn list_namespaces(&self, parent: &[&str]) -> Result<Vec<Vec<String>>, ClientError> {
        let below = match parent {
            [] => String::new(),
            levels => format!("&parent={}", encode(&levels.join("\u{1f}"))),
        };
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let request = Request::new(Method::GET, self.path("/namespaces"))
                .query(format!("pageToken={}{below}", encode(&token)));
            let page: NamespacePage =
                parse("listNamespaces", &self.endpoint.send(&request).await?)?;
            found.extend(page.namespaces);
            match page.next_page_token.filter(|t| !t.is_empty()) {
                Some(next) => token = next,
                None => return Ok(found),
            }
        }
    }

    /// `dropNamespace`; it must be empty.
    ///
    /// # Errors
    /// 404 or 409.
    pub async fn drop_namespace(&self, namespace: &[&str]) -> Result<(), ClientError> {
        self.call(Method::DELETE, self.namespace_path(namespace))
            .await
            .map(|_| ())
    }

    /// `listTables`, all pages: names of the namespace's tables.
    ///
    /// # Errors
    /// 404 without such a namespace.
    pub async fn list_tables(&self, namespace: &[&str]) -> Result<Vec<String>, ClientError> {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("{}/tables", self.namespace_path(namespace));
            let request =
                Request::new(Method::GET, path).query(format!("pageToken={}", encode(&token)));
            let page: TablePage = parse("listTables", &self.endpoint.send(&request).await?)?;
            found.extend(page.identifiers.into_iter().map(|i| i.name));
            match page.next_page_token.filter(|t| !t.is_empty()) {
                Some(next) => token = next,
                None => return Ok(found),
            }
        }
    }

    /// `listTables` without paging: names of the namespace's tables, of one moment.
    ///
    /// # Errors
    /// 404 without such a namespace, 400 if there are too many for one answer.
    pub async fn list_tables_at_once(
        &self,
        namespace: &[&str],
    ) -> Result<Vec<String>, ClientError> {
        let path = format!("{}/tables", self.namespace_path(namespace));
        let reply = self.endpoint.send(&Request::new(Method::GET, path)).await?;
        let page: TablePage = parse("listTables", &reply)?;
        Ok(page.identifiers.into_iter().map(|i| i.name).collect())
    }

    /// `createTable`.
    ///
    /// # Errors
    /// 409 if it exists, 404 without the namespace.
    pub async fn create_table(
        &self,
        namespace: &[&str],
        table: &CreateTableBody<'_>,
    ) -> Result<LoadedTable, ClientError> {
        let path = format!("{}/tables", self.namespace_path(namespace));
        parse("createTable", &self.post(path, table.render()).await?)
    }

    /// `registerTable`; the answer is left unparsed, as it can be large.
    ///
    /// # Errors
    /// 409 if the name is taken, 400 for a file that is not taken over.
    pub async fn register_table(
        &self,
        namespace: &[&str],
        table: &str,
        metadata_location: &str,
    ) -> Result<Reply, ClientError> {
        let path = format!("{}/register", self.namespace_path(namespace));
        let body = json!({"name": table, "metadata-location": metadata_location});
        self.post(path, body.to_string()).await
    }

    /// `loadTable`.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn load_table(
        &self,
        namespace: &[&str],
        table: &str,
    ) -> Result<LoadedTable, ClientError> {
        parse("loadTable", &self.load_table_raw(namespace, table).await?)
    }

    /// `loadTable` with its answer unparsed.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn load_table_raw(
        &self,
        namespace: &[&str],
        table: &str,
    ) -> Result<Reply, ClientError> {
        self.call(Method::GET, self.table_path(namespace, table))
            .await
    }

    /// `loadTable` with an answer that is read and not kept; how many bytes it had.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn drain_table(&self, namespace: &[&str], table: &str) -> Result<u64, ClientError> {
        let path = self.table_path(namespace, table);
        self.endpoint.drain(&Request::new(Method::GET, path)).await
    }

    /// `tableExists`.
    ///
    /// # Errors
    /// Any but 404.
    pub async fn table_exists(&self, namespace: &[&str], table: &str) -> Result<bool, ClientError> {
        match self
            .call(Method::HEAD, self.table_path(namespace, table))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `dropTable`, leaving its files.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn drop_table(&self, namespace: &[&str], table: &str) -> Result<(), ClientError> {
        let path = self.table_path(namespace, table);
        self.call(Method::DELETE, path).await.map(|_| ())
    }

    /// `dropTable` with `purgeRequested`: the catalog also removes its files.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn purge_table(&self, namespace: &[&str], table: &str) -> Result<(), ClientError> {
        let path = self.table_path(namespace, table);
        let request = Request::new(Method::DELETE, path).query("purgeRequested=true".into());
        self.endpoint.send(&request).await.map(|_| ())
    }

    /// `renameTable` within or between namespaces.
    ///
    /// # Errors
    /// 404 without the source, 409 if the destination exists.
    pub async fn rename_table(
        &self,
        from: (&[&str], &str),
        to: (&[&str], &str),
    ) -> Result<(), ClientError> {
        let body = json!({
            "source": {"namespace": from.0, "name": from.1},
            "destination": {"namespace": to.0, "name": to.1},
        });
        self.post(self.path("/tables/rename"), body.to_string())
            .await
            .map(|_| ())
    }

    /// `updateTable` with a rendered body; the answer is left unparsed, as it can be large.
    ///
    /// # Errors
    /// 409 if a requirement failed: nothing was applied. 500, 502 and 504 leave the outcome open.
    pub async fn update_table(
        &self,
        namespace: &[&str],
        table: &str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, ClientError> {
        self.post(self.table_path(namespace, table), body).await
    }

    /// `updateTable`, with its answer read.
    ///
    /// # Errors
    /// As [`IcebergClient::update_table`].
    pub async fn commit(
        &self,
        namespace: &[&str],
        table: &str,
        body: impl Into<Bytes>,
    ) -> Result<LoadedTable, ClientError> {
        parse(
            "updateTable",
            &self.update_table(namespace, table, body).await?,
        )
    }

    /// `commitTransaction` with a rendered body: all tables or none.
    ///
    /// # Errors
    /// As [`IcebergClient::update_table`].
    pub async fn commit_transaction(&self, body: impl Into<Bytes>) -> Result<Reply, ClientError> {
        self.post(self.path("/transactions/commit"), body).await
    }
}

async fn token(
    catalog: &Endpoint,
    uri: Option<&str>,
    form: &[(&str, &str)],
    trust: &Trust,
) -> Result<String, ClientError> {
    let pairs: Vec<String> = form
        .iter()
        .map(|(n, v)| format!("{n}={}", encode(v)))
        .collect();
    let (endpoint, path) = match uri {
        None => (catalog.clone(), "/v1/oauth/tokens"),
        Some(uri) => (Endpoint::trusting(uri, Auth::None, trust)?, ""),
    };
    let mut request = Request::new(Method::POST, path.into());
    request
        .headers
        .push(("content-type", "application/x-www-form-urlencoded".into()));
    request.body = pairs.join("&").into();
    let reply = endpoint.send(&request).await?;
    Ok(parse::<TokenReply>("getToken", &reply)?.access_token)
}
