//! ARNs and names of requests, parsed once.

use crate::Settings;
use crate::failure::Failure;
use floeberg_types::{
    BucketName, NAMESPACE_SEPARATOR, Namespace, TableArn, TableBucketArn, TableBucketRef, TableId,
    TableIdent,
};

/// The bucket of an ARN. `acs:osstables` ARNs and plain names are accepted as well.
pub(crate) fn bucket(text: &str, settings: &Settings) -> Result<BucketName, Failure> {
    match text
        .parse::<TableBucketRef>()
        .map_err(Failure::bad_request)?
    {
        TableBucketRef::Name(name) => Ok(name),
        TableBucketRef::Arn(arn) => ours(arn, text, settings),
    }
}

/// The bucket and id of a table's ARN.
pub(crate) fn table_arn(text: &str, settings: &Settings) -> Result<(BucketName, TableId), Failure> {
    let arn: TableArn = text.parse().map_err(|_| {
        Failure::bad_request(format!(
            "`{text}` is not a table ARN; expected \
             `arn:aws:s3tables:REGION:ACCOUNT:bucket/NAME/table/ID`"
        ))
    })?;
    Ok((ours(arn.bucket, text, settings)?, arn.table))
}

fn ours(arn: TableBucketArn, text: &str, settings: &Settings) -> Result<BucketName, Failure> {
    if arn.region == settings.region && arn.account == settings.account {
        Ok(arn.bucket)
    } else {
        Err(Failure::not_found(format!(
            "`{text}` does not exist in this cluster"
        )))
    }
}

pub(crate) fn bucket_arn(bucket: &BucketName, settings: &Settings) -> TableBucketArn {
    TableBucketArn {
        region: settings.region.clone(),
        account: settings.account.clone(),
        bucket: bucket.clone(),
    }
}

/// A namespace in a path or query. Nested ones, which only the Iceberg API creates, are named with
/// its separator.
pub(crate) fn namespace(text: &str) -> Result<Namespace, Failure> {
    let levels = text
        .split(NAMESPACE_SEPARATOR)
        .map(ToOwned::to_owned)
        .collect();
    Namespace::new(levels).map_err(Failure::bad_request)
}

pub(crate) fn table(namespace_text: &str, name: &str) -> Result<TableIdent, Failure> {
    let name = name.parse().map_err(Failure::bad_request)?;
    Ok(TableIdent {
        namespace: namespace(namespace_text)?,
        name,
    })
}

/// Checks a name that is to be created (S3 Tables, "Naming rules").
pub(crate) fn check_new(what: &str, name: &str) -> Result<(), Failure> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let first = name.bytes().next().is_some_and(|b| b != b'_');
    if name.len() > 255 || !first || !name.bytes().all(legal) {
        return Err(Failure::bad_request(format!(
            "invalid {what} `{name}`: use 1 to 255 lower-case letters, digits and underscores, \
             beginning with a letter or digit"
        )));
    }
    if what == "namespace" && name.starts_with("aws") {
        let text = format!("invalid namespace `{name}`: the prefix `aws` is reserved");
        return Err(Failure::bad_request(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_follow_the_rules_of_the_service() {
        for good in ["a", "0a", "daily_sales", &"x".repeat(255)] {
            assert!(check_new("table", good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "A", "a-b", "a.b", "ä", &"x".repeat(256)] {
            assert!(check_new("table", bad).is_err(), "{bad}");
        }
        assert!(check_new("namespace", "aws_x").is_err());
        assert!(check_new("table", "aws_x").is_ok());
    }
}
