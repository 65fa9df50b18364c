//! Prints how long commits take that repeat something N, 2N and 4N times: times that grow faster than
//! the counts show work that is not linear. `cargo run --release -p floeberg-iceberg --example growth`
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use floeberg_iceberg::{ApplyContext, NewTable, RawJson, TableMetadata, TableUpdate};
use std::time::Instant;

fn columns(count: usize) -> String {
    let fields: Vec<String> = (1..=count)
        .map(|n| format!(r#"{{"id":{n},"name":"c{n}","required":false,"type":"long"}}"#))
        .collect();
    format!(r#"{{"type":"struct","fields":[{}]}}"#, fields.join(","))
}

fn table(count: usize) -> TableMetadata {
    let new = NewTable {
        uuid: "6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001".into(),
        location: "s3://lake/t".into(),
        schema: RawJson::parse(&columns(count)).expect("a schema"),
        partition_spec: None,
        sort_order: None,
        properties: Vec::new(),
        now_ms: 1_700_000_000_000,
    };
    TableMetadata::new_table(&new).expect("a table")
}

fn parse(updates: &[String]) -> Vec<TableUpdate> {
    let text = format!("[{}]", updates.join(","));
    serde_json::from_str(&text).expect("updates")
}

fn apply(base: &TableMetadata, updates: &[String]) -> (TableMetadata, f64) {
    let updates = parse(updates);
    let context = ApplyContext {
        now_ms: 1_700_000_000_000,
        clock_ms: 1_700_000_000_000,
        previous: None,
    };
    let begun = Instant::now();
    let applied = base.apply(&updates, &context).expect("applied");
    (applied.metadata, begun.elapsed().as_secs_f64())
}

fn add_schemas(count: usize) -> Vec<String> {
    let schema = |n| {
        format!(
            r#"{{"action":"add-schema","schema":{{"type":"struct","fields":[{{"id":1,"name":"v{n}","required":false,"type":"long"}}]}}}}"#
        )
    };
    (0..count).map(schema).collect()
}

fn wide_spec(count: usize) -> String {
    let field = |n| format!(r#"{{"source-id":{n},"name":"p{n}","transform":"bucket[4]"}}"#);
    let fields: Vec<String> = (1..=count).map(field).collect();
    let fields = fields.join(",");
    format!(r#"{{"action":"add-spec","spec":{{"fields":[{fields}]}}}}"#)
}

fn many_specs(count: usize) -> Vec<String> {
    let spec = |n| {
        format!(
            r#"{{"action":"add-spec","spec":{{"fields":[{{"source-id":1,"name":"p{n}","transform":"bucket[4]"}}]}}}}"#
        )
    };
    (0..count).map(spec).collect()
}

fn snapshots(count: usize) -> Vec<String> {
    let pair = |n: usize| {
        let id = n + 1;
        [
            format!(
                r#"{{"action":"add-snapshot","snapshot":{{"snapshot-id":{id},"sequence-number":{id},"timestamp-ms":1700000000000,"manifest-list":"s3://lake/t/{id}.avro","summary":{{"operation":"append"}}}}}}"#
            ),
            format!(
                r#"{{"action":"set-snapshot-ref","ref-name":"t{id}","type":"tag","snapshot-id":{id}}}"#
            ),
        ]
    };
    (0..count).flat_map(pair).collect()
}

fn expiries(count: usize) -> Vec<String> {
    let expire = |id| format!(r#"{{"action":"remove-snapshots","snapshot-ids":[{id}]}}"#);
    (1..=count).map(expire).collect()
}

fn main() {
    let narrow = table(1);
    for n in [2_000, 4_000, 8_000] {
        let begun = Instant::now();
        table(n);
        let create = begun.elapsed().as_secs_f64();
        let (_, schemas) = apply(&narrow, &add_schemas(n));
        let (_, specs) = apply(&narrow, &many_specs(n));
        let (_, spec) = apply(&table(n), &[wide_spec(n)]);
        let (full, grown) = apply(&narrow, &snapshots(n));
        let (_, expired) = apply(&full, &expiries(n));
        println!(
            "{n:>6}: columns {create:.3} s, add-schema {schemas:.3} s, add-spec {specs:.3} s, \
             fields of a spec {spec:.3} s, snapshots with tags {grown:.3} s, expired {expired:.3} s"
        );
    }
}
