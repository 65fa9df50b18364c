//! Names in paths and bodies, parsed once.

use crate::failure::Failure;
use floeberg_types::{
    AccountId, BucketName, NAMESPACE_SEPARATOR, Namespace, Region, TableBucketArn, TableBucketRef,
    TableIdent,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a path segment (RFC 3986, unreserved characters).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(crate) fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// The prefix that clients paste into every path: the bucket's ARN as one encoded segment.
pub(crate) fn prefix_of(region: &Region, account: &AccountId, bucket: &BucketName) -> String {
    let arn = TableBucketArn {
        region: region.clone(),
        account: account.clone(),
        bucket: bucket.clone(),
    };
    encode_segment(&arn.to_string())
}

/// The bucket that a warehouse or a path prefix names, by ARN or plain name.
pub(crate) fn bucket(
    text: &str,
    region: &Region,
    account: &AccountId,
) -> Result<BucketName, Failure> {
    let unknown = || Failure::no_such_warehouse(text);
    match text.parse::<TableBucketRef>().map_err(|_| unknown())? {
        TableBucketRef::Name(name) => Ok(name),
        TableBucketRef::Arn(arn) if arn.region == *region && arn.account == *account => {
            Ok(arn.bucket)
        }
        TableBucketRef::Arn(_) => Err(unknown()),
    }
}

/// A namespace as one path segment or query value; levels are separated by the unit separator.
pub(crate) fn namespace(text: &str) -> Result<Namespace, Failure> {
    let levels = text
        .split(NAMESPACE_SEPARATOR)
        .map(ToOwned::to_owned)
        .collect();
    Ok(Namespace::new(levels)?)
}

pub(crate) fn table(namespace_text: &str, table: &str) -> Result<TableIdent, Failure> {
    Ok(TableIdent {
        namespace: namespace(namespace_text)?,
        name: table.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_by_arn_or_plainly() {
        let (region, account) = (
            "us-east-1".parse().unwrap(),
            "000000000000".parse().unwrap(),
        );
        let find = |text: &str| bucket(text, &region, &account).ok();
        let lake = BucketName::for_tables("lake").unwrap();
        assert_eq!(find("lake"), Some(lake.clone()));
        let arn = "arn:aws:s3tables:us-east-1:000000000000:bucket/lake";
        assert_eq!(find(arn), Some(lake.clone()));
        assert_eq!(
            find(&arn.replace("arn:aws:s3tables", "acs:osstables")),
            Some(lake.clone())
        );
        assert_eq!(find(&arn.replace("us-east-1", "eu-west-1")), None);
        assert_eq!(find(&arn.replace("000000000000", "111111111111")), None);
        assert_eq!(find("no/bucket"), None);
        assert_eq!(
            prefix_of(&region, &account, &lake),
            "arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake"
        );
    }

    #[test]
    fn namespaces_split_at_the_unit_separator() {
        let nested = namespace("a\u{1f}b.c").unwrap();
        assert_eq!(nested.levels(), ["a", "b.c"]);
        assert!(namespace("a\u{1f}").is_err());
        assert!(namespace("").is_err());
    }
}
