//! Query strings, decoded exactly as the signature check decodes them.

use floeberg_types::limits::QUERY_FIELDS;
use percent_encoding::percent_decode_str;

/// Why a query was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Percent escapes that are not UTF-8.
    #[error("the query string is not percent-encoded UTF-8 text")]
    Undecodable,
    /// More parameters than any operation takes.
    #[error("the query string has more than {QUERY_FIELDS} parameters")]
    TooMany,
}

/// Decoded names and values in arrival order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a raw query; `+` is a space.
    ///
    /// # Errors
    /// When there are too many parameters, or an escape does not decode.
    pub fn parse(raw: &str) -> Result<Self, QueryError> {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            let text = percent_decode_str(&spaced).decode_utf8();
            text.map(Into::into).map_err(|_| QueryError::Undecodable)
        };
        if raw.split('&').nth(QUERY_FIELDS).is_some() {
            return Err(QueryError::TooMany);
        }
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first value of `name`, unless it is empty.
    #[must_use]
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_once() {
        let query = Query::parse("warehouse=a%3Ab%2Fc&x=1+2%2B3&pageToken=&flag").unwrap();
        assert_eq!(query.get("warehouse"), Some("a:b/c"));
        assert_eq!(query.get("x"), Some("1 2+3"));
        assert_eq!(query.get("pageToken"), Some(""));
        assert_eq!(query.filled("pageToken"), None);
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("other"), None);
        assert_eq!(Query::parse("a=%ff"), Err(QueryError::Undecodable));
    }

    #[test]
    fn parameters_have_a_bound() {
        let most = vec!["a=b"; QUERY_FIELDS].join("&");
        assert!(Query::parse(&most).is_ok());
        assert_eq!(Query::parse(&format!("{most}&a")), Err(QueryError::TooMany));
    }
}
