//! What is there to be attacked: requests that name nothing do not come far.

use super::targets::Target;
use crate::connect::{Clients, FILES, LAKE, create_buckets};
use crate::process::Endpoints;
use crate::world::create_table;
use bytes::Bytes;

/// Names of things that exist, for the varying parts of a route.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    arn: String,
    upload: String,
}

pub(super) const NAMESPACE: &str = "ground";
pub(super) const TABLE: &str = "held";

/// Objects that listings show.
const OBJECTS: usize = 200;

impl Ground {
    pub(super) async fn prepare(endpoints: &Endpoints) -> anyhow::Result<Self> {
        create_buckets(endpoints).await?;
        let clients = Clients::connect(endpoints).await?;
        clients.iceberg.create_namespace(&[NAMESPACE]).await?;
        create_table(&clients, NAMESPACE, TABLE).await?;
        for n in 0..OBJECTS {
            let body = Bytes::from_static(b"an object");
            clients
                .s3
                .put_object(FILES, &format!("k-{n}"), body)
                .await?;
        }
        let upload = clients.create_upload(FILES, "k").await?;
        let arn = format!(
            "arn:aws:s3tables:{}:000000000000:bucket/{LAKE}",
            endpoints.region
        );
        Ok(Self {
            arn: arn.replace(':', "%3A").replace('/', "%2F"),
            upload,
        })
    }

    /// Path and query of a route. What a DELETE names is not there, so that the rest stays.
    pub(super) fn fill(&self, target: &Target, strange: Option<&str>) -> String {
        let mut parts = target.pattern.split(['{', '}']);
        let mut filled = parts.next().unwrap_or_default().to_owned();
        while let (Some(name), Some(fixed)) = (parts.next(), parts.next()) {
            let named = match name {
                "prefix" => LAKE,
                "arn" => &self.arn,
                "bucket" => FILES,
                "namespace" | "ns" => NAMESPACE,
                "table" | "t" => lost(target, TABLE),
                "key" => lost(target, "k-1"),
                "upload" => lost(target, &self.upload),
                _ => "1",
            };
            filled.push_str(strange.unwrap_or(named));
            filled.push_str(fixed);
        }
        filled
    }
}

fn lost<'n>(target: &Target, name: &'n str) -> &'n str {
    match target.method {
        "DELETE" => "nothing",
        _ => name,
    }
}
