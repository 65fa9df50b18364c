//! `floeberg bucket|namespace|table …`: what a running node holds.

use crate::output::{print_done, print_json, print_rows};
use crate::target::Target;
use clap::Subcommand;
use floeberg_client::{ClientError, LoadedTable};
use serde_json::json;

#[derive(Subcommand)]
pub enum BucketCommand {
    /// Create a table bucket
    Create {
        /// 3 to 63 lower-case letters, digits and hyphens
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// List table buckets
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show one table bucket
    Show {
        /// Name or ARN
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete an empty table bucket
    Delete {
        /// Name or ARN
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Subcommand)]
pub enum NamespaceCommand {
    /// Create a namespace; levels are separated by dots
    Create {
        /// Table bucket
        bucket: String,
        /// For example `sales` or `sales.europe`
        namespace: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the namespaces of a table bucket, or those right below another
    List {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots; the top level if not given
        #[arg(default_value = "")]
        parent: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete an empty namespace
    Delete {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots
        namespace: String,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Subcommand)]
pub enum TableCommand {
    /// List the tables of a namespace
    List {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots
        namespace: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show a table; with --json the whole metadata
    Show {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots
        namespace: String,
        /// Table name
        table: String,
        #[command(flatten)]
        target: Target,
    },
    /// Rename a table inside its namespace
    Rename {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots
        namespace: String,
        /// Current name
        table: String,
        /// New name
        to: String,
        #[command(flatten)]
        target: Target,
    },
    /// Drop a table
    Delete {
        /// Table bucket
        bucket: String,
        /// Levels separated by dots
        namespace: String,
        /// Table name
        table: String,
        #[command(flatten)]
        target: Target,
    },
}

fn levels(namespace: &str) -> Vec<&str> {
    namespace.split('.').collect()
}

pub async fn bucket(command: BucketCommand) -> anyhow::Result<()> {
    match command {
        BucketCommand::Create { name, target } => {
            let made = target.s3tables()?.create_table_bucket(&name).await;
            let arn = made.map_err(|e| target.explain(e))?;
            if target.json {
                print_json(&json!({"name": name, "arn": arn}))?;
            }
            print_done(target.json, &format!("created {arn}"))?;
        }
        BucketCommand::List { target } => {
            let found = target.s3tables()?.list_table_buckets().await;
            let found = found.map_err(|e| target.explain(e))?;
            let rows: Vec<_> = found
                .into_iter()
                .map(|b| vec![b.name, b.created_at, b.arn])
                .collect();
            print_rows(target.json, &["name", "created", "arn"], &rows)?;
        }
        BucketCommand::Show { name, target } => {
            let found = target
                .s3tables()?
                .get_table_bucket(&target.arn(&name))
                .await;
            let found = found.map_err(|e| target.explain(e))?;
            let row = vec![found.name, found.created_at, found.arn];
            print_rows(target.json, &["name", "created", "arn"], &[row])?;
        }
        BucketCommand::Delete { name, target } => {
            let gone = target
                .s3tables()?
                .delete_table_bucket(&target.arn(&name))
                .await;
            gone.map_err(|e| target.explain(e))?;
            print_done(target.json, &format!("deleted {name}"))?;
        }
    }
    Ok(())
}

pub async fn namespace(command: NamespaceCommand) -> anyhow::Result<()> {
    match command {
        NamespaceCommand::Create {
            bucket,
            namespace,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let made = client.create_namespace(&levels(&namespace)).await;
            made.map_err(|e| target.explain(e))?;
            print_done(target.json, &format!("created {namespace} in {bucket}"))?;
        }
        NamespaceCommand::List {
            bucket,
            parent,
            target,
        } => {
            let parent = if parent.is_empty() {
                Vec::new()
            } else {
                levels(&parent)
            };
            let found = target.iceberg(&bucket).await?;
            let found = found.list_namespaces(&parent).await;
            let found = found.map_err(|e| target.explain(e))?;
            let rows: Vec<_> = found.iter().map(|levels| vec![levels.join(".")]).collect();
            print_rows(target.json, &["namespace"], &rows)?;
        }
        NamespaceCommand::Delete {
            bucket,
            namespace,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let gone = client.drop_namespace(&levels(&namespace)).await;
            gone.map_err(|e| target.explain(e))?;
            print_done(target.json, &format!("deleted {namespace} from {bucket}"))?;
        }
    }
    Ok(())
}

pub async fn table(command: TableCommand) -> anyhow::Result<()> {
    match command {
        TableCommand::List {
            bucket,
            namespace,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let found = client.list_tables(&levels(&namespace)).await;
            let found = found.map_err(|e| target.explain(e))?;
            let rows: Vec<_> = found
                .into_iter()
                .map(|name| vec![namespace.clone(), name])
                .collect();
            print_rows(target.json, &["namespace", "table"], &rows)?;
        }
        TableCommand::Show {
            bucket,
            namespace,
            table,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let loaded = client.load_table(&levels(&namespace), &table).await;
            show(loaded.map_err(|e| target.explain(e))?, target.json)?;
        }
        TableCommand::Rename {
            bucket,
            namespace,
            table,
            to,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let levels = levels(&namespace);
            let done: Result<(), ClientError> =
                client.rename_table((&levels, &table), (&levels, &to)).await;
            done.map_err(|e| target.explain(e))?;
            print_done(target.json, &format!("renamed {table} to {to}"))?;
        }
        TableCommand::Delete {
            bucket,
            namespace,
            table,
            target,
        } => {
            let client = target.iceberg(&bucket).await?;
            let gone = client.drop_table(&levels(&namespace), &table).await;
            gone.map_err(|e| target.explain(e))?;
            print_done(target.json, &format!("dropped {namespace}.{table}"))?;
        }
    }
    Ok(())
}

fn show(loaded: LoadedTable, json: bool) -> anyhow::Result<()> {
    let metadata = &loaded.metadata;
    if json {
        let location = &loaded.metadata_location;
        print_json(&json!({"metadata-location": location, "metadata": metadata}))?;
        return Ok(());
    }
    let text = |name: &str| metadata[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str| {
        metadata[name]
            .as_i64()
            .map_or_else(|| "-".to_owned(), |n| n.to_string())
    };
    let count = |name: &str| metadata[name].as_array().map_or(0, Vec::len).to_string();
    let rows = vec![
        vec![
            "metadata".to_owned(),
            loaded.metadata_location.unwrap_or_else(|| "-".to_owned()),
        ],
        vec!["location".to_owned(), text("location")],
        vec!["format version".to_owned(), number("format-version")],
        vec!["table uuid".to_owned(), text("table-uuid")],
        vec!["current snapshot".to_owned(), number("current-snapshot-id")],
        vec!["snapshots".to_owned(), count("snapshots")],
        vec!["schemas".to_owned(), count("schemas")],
    ];
    print_rows(json, &["field", "value"], &rows)?;
    Ok(())
}
