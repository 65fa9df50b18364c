//! The bodies of hostile requests, as large as a route says that it takes.

use super::ground::{NAMESPACE, TABLE};
use super::shapes::Shape;
use super::targets::{Reads, Target};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Write as _;

/// What a body is made for: the same one serves many routes.
type Wanted = (&'static str, Reads, &'static str);

/// Bodies that were made; large ones are used by many requests at a time.
#[derive(Default)]
pub(super) struct Documents {
    made: Mutex<HashMap<Wanted, Bytes>>,
}

/// Of what is no document and is stored as it comes.
const STREAM_BYTES: usize = 32 << 20;
/// Of what a route does not want: it must not be read at all.
const UNWANTED_BYTES: usize = 1 << 20;
/// Levels of nested parts: a little more than any parser takes.
const DEPTH: usize = 200;

impl Documents {
    pub(super) fn body(&self, target: &Target, shape: Shape) -> Bytes {
        let operation = match target.reads {
            Reads::Xml(_) => target.operation,
            Reads::Json(_) | Reads::Stream => "",
        };
        let wanted = (shape.name(), target.reads, operation);
        if let Some(made) = self.made.lock().get(&wanted) {
            return made.clone();
        }
        let made = Bytes::from(make(target, shape));
        self.made.lock().insert(wanted, made.clone());
        made
    }
}

fn make(target: &Target, shape: Shape) -> Vec<u8> {
    let most = match target.reads {
        Reads::Json(0) | Reads::Xml(0) => UNWANTED_BYTES,
        Reads::Json(most) | Reads::Xml(most) => most,
        Reads::Stream => STREAM_BYTES,
    };
    match shape {
        Shape::LargeBody | Shape::ChunkedBody | Shape::PromisedBody | Shape::SlowBody => {
            vec![b'x'; most]
        }
        Shape::DeepBody => vec![b'['; most.min(4 << 20)],
        Shape::RepeatedFields => repeat("", most.min(4 << 20), "", |i| format!("a{i}=b&")),
        Shape::FileForm => {
            let mut form = b"--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n".to_vec();
            form.resize(most, b'x');
            form
        }
        Shape::DeepParts | Shape::ManyParts | Shape::ManyNames | Shape::MuchWork => {
            match target.reads {
                Reads::Xml(_) => xml(target.operation, shape, most),
                Reads::Json(_) | Reads::Stream => json(target, shape, most),
            }
        }
        Shape::LongPath
        | Shape::DeepPath
        | Shape::LongQuery
        | Shape::LongHeader
        | Shape::ManyHeaders
        | Shape::RepeatedSigned
        | Shape::RepeatedPresigned
        | Shape::LongKeyId
        | Shape::SlowHead
        | Shape::NeverReads => Vec::new(),
    }
}

/// As many parts between two texts as `most` bytes take.
fn repeat(before: &str, most: usize, after: &str, part: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = before.to_owned();
    for i in 0.. {
        let part = part(i);
        if text.len() + part.len() + after.len() > most {
            break;
        }
        text.push_str(&part);
    }
    text.push_str(after);
    text.into_bytes()
}

/// A table of one column under this name.
fn new_table(name: &str) -> String {
    let column = r#"{"id":1,"name":"a","type":"long","required":false}"#;
    let schema = format!(r#"{{"type":"struct","fields":[{column}]}}"#);
    format!(
        r#"{{"name":"{name}","format":"ICEBERG","schema":{schema},"requirements":[],"namespace":["{name}"],"#
    )
}

/// A document in which every route finds what it wants: members that it does not know are nothing to it.
fn json(target: &Target, shape: Shape, most: usize) -> Vec<u8> {
    let head = new_table("hostile");
    match shape {
        Shape::DeepParts => {
            let deep = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
            let object = format!(
                "{}{}1{}",
                r#"{"a":"#,
                r#"{"a":"#.repeat(DEPTH),
                "}".repeat(DEPTH + 1)
            );
            let mut text = String::from("{");
            for name in [
                "schema",
                "properties",
                "updates",
                "namespace",
                "partition-spec",
            ] {
                let _ = write!(text, r#""{name}":{object},"#);
            }
            let _ = write!(
                text,
                r#""requirements":[{object}],"table-changes":[{deep}]}}"#
            );
            text.into_bytes()
        }
        // The smallest parts: what they become is many times as large.
        Shape::ManyParts => {
            let list = match target.pattern.ends_with("/commit") {
                true => r#""table-changes":[{}"#.to_owned(),
                false => r#""requirements":[],"updates":[{}"#.to_owned(),
            };
            let head = head.replace(r#""requirements":[],"#, "");
            repeat(&format!("{head}{list}"), most, "]}", |_| ",{}".to_owned())
        }
        Shape::ManyNames => {
            let begin = match target.pattern.ends_with("/{table}") {
                true => r#""updates":[{"action":"set-properties","updates":{"a":"""#,
                false => r#""properties":{"a":"""#,
            };
            let end = match target.pattern.ends_with("/{table}") {
                true => "}}]}",
                false => "}}",
            };
            repeat(&format!("{head}{begin}"), most, end, |i| {
                format!(r#","{i:x}":"""#)
            })
        }
        _ => much_work(target, &head, most),
    }
}

/// What is allowed, as often as it is.
fn much_work(target: &Target, head: &str, most: usize) -> Vec<u8> {
    let pattern = &target.pattern;
    let column = |i: usize| {
        format!(
            r#",{{"id":{},"name":"c{i}","type":"long","required":false}}"#,
            i + 2
        )
    };
    let first = r#"{"id":1,"name":"a","type":"long","required":false}"#;
    if pattern.ends_with("/commit") {
        let name = format!(r#"{{"namespace":["{NAMESPACE}"],"name":"{TABLE}"}}"#);
        let change = move |i: usize| {
            let update = format!(r#"{{"action":"set-properties","updates":{{"p{i}":"v"}}}}"#);
            format!(r#"{{"identifier":{name},"requirements":[],"updates":[{update}]}},"#)
        };
        let changes: String = (0..1_999).map(change).collect();
        let last = changes.trim_end_matches(',');
        return format!(r#"{{"table-changes":[{last}]}}"#).into_bytes();
    }
    if pattern.ends_with("/{table}") {
        let updates: String = (0..99_999)
            .map(|i| {
                format!(
                    r#",{{"action":"set-properties","updates":{{"p{}":"{i}"}}}}"#,
                    i % 5_000
                )
            })
            .collect();
        let assign = r#"{"action":"set-properties","updates":{}}"#;
        return format!(r#"{{"requirements":[],"updates":[{assign}{updates}]}}"#).into_bytes();
    }
    if pattern.ends_with("/tables") {
        let columns: String = (0..19_000).map(column).collect();
        let schema = format!(r#"{{"type":"struct","fields":[{first}{columns}]}}"#);
        return format!(r#"{{"name":"wide","stage-create":true,"schema":{schema}}}"#).into_bytes();
    }
    repeat(&format!(r#"{head}"removals":["a""#), most, "]}", |i| {
        format!(r#","r{i}""#)
    })
}

/// The root of an operation's document and what it repeats.
fn parts_of(operation: &str) -> (&str, &'static str, fn(usize) -> String) {
    match operation {
        "DeleteObjects" => ("Delete", "<Object/>", |i| {
            format!("<Object><Key>k{i}</Key></Object>")
        }),
        "CompleteMultipartUpload" => ("CompleteMultipartUpload", "<Part/>", |i| {
            format!(
                "<Part><PartNumber>{}</PartNumber><ETag>e</ETag></Part>",
                i + 1
            )
        }),
        "PutObjectTagging" => ("Tagging", "<TagSet/>", |i| {
            format!("<TagSet><Tag><Key>k{i}</Key><Value>v</Value></Tag></TagSet>")
        }),
        "CreateBucket" => ("CreateBucketConfiguration", "<Tags/>", |i| {
            format!("<LocationConstraint>r{i}</LocationConstraint>")
        }),
        other => (other, "<Part/>", |i| format!("<Part>{i}</Part>")),
    }
}

fn xml(operation: &str, shape: Shape, most: usize) -> Vec<u8> {
    let (root, smallest, usual) = parts_of(operation);
    let (begin, end) = (format!("<{root}>"), format!("</{root}>"));
    match shape {
        Shape::DeepParts => repeat(&begin, most, "", |_| format!("<{root}>")),
        Shape::ManyParts => repeat(&begin, most, &end, |_| smallest.to_owned()),
        // Attributes have names.
        Shape::ManyNames => repeat(&format!("<{root}"), most, &format!(">{end}"), |i| {
            format!(" a{i}=''")
        }),
        _ => repeat(&begin, most, &end, usual),
    }
}
