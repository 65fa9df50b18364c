//! Clients of a running node, all as root.

use crate::process::Endpoints;
use bytes::Bytes;
use floeberg_client::{
    Auth, ClientError, Credentials, Endpoint, IcebergAuth, IcebergClient, IcebergConfig, Request,
    S3Client, S3TablesClient, Scope,
};
use http::Method;

/// The table bucket of all tests.
pub const LAKE: &str = "lake";
/// The bucket of plain objects.
pub const FILES: &str = "files";

/// One connection pool per protocol; clones share them.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The catalog of [`LAKE`].
    pub iceberg: IcebergClient,
    /// S3.
    pub s3: S3Client,
    objects: Endpoint,
}

fn credentials(endpoints: &Endpoints) -> Credentials {
    Credentials {
        access_key: endpoints.access_key.clone(),
        secret_key: endpoints.secret_key.clone(),
        session_token: None,
    }
}

fn scope(endpoints: &Endpoints, service: &str) -> Scope {
    Scope {
        region: endpoints.region.clone(),
        service: service.to_owned(),
    }
}

/// Creates the buckets of the tests.
///
/// # Errors
/// If they exist, or as any call.
pub async fn create_buckets(endpoints: &Endpoints) -> Result<(), ClientError> {
    let credentials = credentials(endpoints);
    let tables = S3TablesClient::new(
        &endpoints.s3tables_uri,
        credentials.clone(),
        &endpoints.region,
    )?;
    tables.create_table_bucket(LAKE).await?;
    S3Client::new(&endpoints.s3_uri, credentials, &endpoints.region)?
        .create_bucket(FILES)
        .await
}

/// The catalog of [`LAKE`] at `uri`, which may lead through a proxy.
///
/// # Errors
/// As any call.
pub async fn catalog(endpoints: &Endpoints, uri: &str) -> Result<IcebergClient, ClientError> {
    let auth = IcebergAuth::SigV4(credentials(endpoints), scope(endpoints, "s3tables"));
    let warehouse = Some(LAKE.to_owned());
    IcebergClient::connect(&IcebergConfig {
        uri: uri.to_owned(),
        warehouse,
        auth,
    })
    .await
}

impl Clients {
    /// Connects to a node whose buckets exist.
    ///
    /// # Errors
    /// As any call.
    pub async fn connect(endpoints: &Endpoints) -> Result<Self, ClientError> {
        let auth = Auth::sigv4(credentials(endpoints), scope(endpoints, "s3"));
        Ok(Self {
            iceberg: catalog(endpoints, &endpoints.iceberg_uri).await?,
            s3: S3Client::new(&endpoints.s3_uri, credentials(endpoints), &endpoints.region)?,
            objects: Endpoint::new(&endpoints.s3_uri, auth)?,
        })
    }

    /// `CreateMultipartUpload`: the upload's id.
    ///
    /// # Errors
    /// As any call.
    pub async fn create_upload(&self, bucket: &str, key: &str) -> Result<String, ClientError> {
        let request =
            Request::new(Method::POST, format!("/{bucket}/{key}")).query("uploads=".into());
        let reply = self.objects.send(&request).await?;
        let text = String::from_utf8_lossy(&reply.body);
        let id = text
            .split_once("<UploadId>")
            .and_then(|(_, rest)| rest.split_once("</UploadId>"));
        id.map(|(id, _)| id.to_owned())
            .ok_or_else(|| ClientError::Answer {
                operation: "CreateMultipartUpload",
                cause: "no upload id".to_owned(),
            })
    }

    /// `UploadPart`: the part's ETag.
    ///
    /// # Errors
    /// As any call.
    pub async fn upload_part(
        &self,
        (bucket, key): (&str, &str),
        upload: &str,
        number: usize,
        body: Bytes,
    ) -> Result<String, ClientError> {
        let mut request = Request::new(Method::PUT, format!("/{bucket}/{key}"))
            .query(format!("partNumber={number}&uploadId={upload}"));
        request.body = body;
        let reply = self.objects.send(&request).await?;
        let etag = reply
            .headers
            .get(http::header::ETAG)
            .and_then(|v| v.to_str().ok());
        etag.map(str::to_owned).ok_or_else(|| ClientError::Answer {
            operation: "UploadPart",
            cause: "no ETag".to_owned(),
        })
    }

    /// `CompleteMultipartUpload` with the ETags of parts 1, 2, …
    ///
    /// # Errors
    /// As any call.
    pub async fn complete_upload(
        &self,
        (bucket, key): (&str, &str),
        upload: &str,
        etags: &[String],
    ) -> Result<(), ClientError> {
        let parts: String = (1..)
            .zip(etags)
            .map(|(number, etag)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let mut request = Request::new(Method::POST, format!("/{bucket}/{key}"))
            .query(format!("uploadId={upload}"));
        request.body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into();
        let reply = self.objects.send(&request).await?;
        // S3 may say 200 first and then fail in the body.
        let text = String::from_utf8_lossy(&reply.body);
        if text.contains("<CompleteMultipartUploadResult") {
            return Ok(());
        }
        Err(ClientError::Answer {
            operation: "CompleteMultipartUpload",
            cause: text.into_owned(),
        })
    }
}
