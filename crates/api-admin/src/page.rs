//! The landing page: where things are, for whoever opens the port in a browser.

use crate::Endpoints;

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

pub(crate) fn landing(endpoints: &Endpoints) -> String {
    let rows = [
        ("Iceberg REST catalog", &endpoints.iceberg),
        ("S3 Tables API", &endpoints.s3tables),
        ("S3", &endpoints.s3),
        ("Region", &endpoints.region),
        ("Version", &endpoints.version),
    ];
    let rows: String = rows
        .iter()
        .map(|(what, value)| {
            format!(
                "<tr><th>{what}</th><td><code>{}</code></td></tr>\n",
                escape(value)
            )
        })
        .collect();
    let docs = escape(&endpoints.docs);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Floeberg</title>\n\
         <style>body{{font:16px/1.5 sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}\
         th{{text-align:left;padding-right:2rem}}</style></head>\n<body><h1>Floeberg</h1>\n\
         <p>A lakehouse storage cluster: an Apache Iceberg REST catalog, the S3 Tables API and S3.\
         </p>\n<table>\n{rows}</table>\n\
         <p><a href=\"/healthz\">health</a> · <a href=\"/readyz\">readiness</a> · \
         <a href=\"/metrics\">metrics</a> · documentation: {docs}</p>\n\
         </body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_and_escaped() {
        let page = landing(&Endpoints {
            iceberg: "http://h:8181/iceberg".to_owned(),
            s3tables: "http://h:8181".to_owned(),
            s3: "http://h:9000/<script>".to_owned(),
            region: "us-east-1".to_owned(),
            version: "0.1.0".to_owned(),
            docs: "https://docs".to_owned(),
        });
        assert!(
            page.contains("<code>http://h:8181/iceberg</code>"),
            "{page}"
        );
        assert!(page.contains("http://h:9000/&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script>"));
    }
}
