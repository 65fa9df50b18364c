//! What `floeberg dev` prints once it serves: endpoints, keys and settings to copy.

use floeberg_node::NodeConfig;
use std::io::Write as _;

/// Prints to standard output; a closed pipe is no reason to stop the node.
pub fn print(config: &NodeConfig) {
    let text = render(config);
    let mut out = std::io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        tracing::debug!("standard output is closed");
    }
}

fn render(config: &NodeConfig) -> String {
    let catalog = format!("{}/iceberg", config.lakehouse_endpoint);
    let s3 = &config.s3_endpoint;
    let (access, secret) = (
        config.root_key.access_key(),
        config.root_key.secret().expose(),
    );
    let (region, account) = (&config.region, &config.account);
    let data = config.data_dir.display();
    format!(
        r#"
Floeberg is ready. Data: {data}

  Iceberg REST   {catalog}
  S3 Tables      {lakehouse}
  S3             {s3}
  access key     {access}
  secret key     {secret}

Make a table bucket first:
  export FLOEBERG_ROOT_ACCESS_KEY={access} FLOEBERG_ROOT_SECRET_KEY={secret}
  floeberg bucket create lake --endpoint {lakehouse} --region {region} --account {account}

PyIceberg
  from pyiceberg.catalog import load_catalog
  catalog = load_catalog("floeberg", type="rest", uri="{catalog}", warehouse="lake",
      **{{"rest.sigv4-enabled": "true", "rest.signing-name": "s3tables",
         "rest.signing-region": "{region}", "client.region": "{region}",
         "client.access-key-id": "{access}", "client.secret-access-key": "{secret}"}})

DuckDB
  CREATE SECRET floeberg (TYPE iceberg, CLIENT_ID '{access}', CLIENT_SECRET '{secret}',
      OAUTH2_SERVER_URI '{catalog}/v1/oauth/tokens');
  ATTACH 'lake' AS lake (TYPE iceberg, SECRET floeberg, ENDPOINT '{catalog}');

Spark
  spark.sql.extensions                         org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions
  spark.sql.catalog.lake                       org.apache.iceberg.spark.SparkCatalog
  spark.sql.catalog.lake.type                  rest
  spark.sql.catalog.lake.uri                   {catalog}
  spark.sql.catalog.lake.warehouse             lake
  spark.sql.catalog.lake.rest.auth.type        oauth2
  spark.sql.catalog.lake.credential            {access}:{secret}
  spark.sql.catalog.lake.oauth2-server-uri     {catalog}/v1/oauth/tokens
  spark.sql.catalog.lake.io-impl               org.apache.iceberg.aws.s3.S3FileIO
  spark.sql.catalog.lake.s3.endpoint           {s3}
  spark.sql.catalog.lake.s3.path-style-access  true
  spark.sql.catalog.lake.client.region         {region}
  spark.sql.catalog.lake.header.X-Iceberg-Access-Delegation  vended-credentials

AWS CLI
  export AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret} AWS_DEFAULT_REGION={region}
  aws s3tables list-table-buckets --endpoint-url {lakehouse}
  aws s3 ls --endpoint-url {s3}

Stop with Ctrl-C; start again with the same --data-dir to continue.
"#,
        lakehouse = config.lakehouse_endpoint,
    )
}
