//! The little XML that S3 answers need: text of named elements, without attributes.

/// The unescaped text of the first `<name>`.
pub(crate) fn text(xml: &str, name: &str) -> Option<String> {
    inner(xml, name).map(|(text, _)| unescape(text))
}

/// The contents of every `<name>` element, in order; they do not nest in S3 answers.
pub(crate) fn all<'a>(mut xml: &'a str, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    while let Some((text, rest)) = inner(xml, name) {
        found.push(text);
        xml = rest;
    }
    found
}

fn inner<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let open = format!("<{name}>");
    let close = format!("</{name}>");
    let from = xml.find(&open)? + open.len();
    let len = xml[from..].find(&close)?;
    Some((&xml[from..from + len], &xml[from + len + close.len()..]))
}

fn unescape(text: &str) -> String {
    // The ampersand comes last, so that an escaped entity is not unescaped twice.
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_order() {
        let xml = "<L><C><K>a&amp;lt;</K></C><C><K>b</K></C></L>";
        let keys: Vec<_> = all(xml, "C").iter().map(|c| text(c, "K")).collect();
        assert_eq!(keys, [Some("a&lt;".into()), Some("b".into())]);
        assert_eq!(text(xml, "None"), None);
    }
}
