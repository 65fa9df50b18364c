//! ARNs of table buckets and tables, in the form Floeberg gives out and the forms it accepts.

use crate::{AccountId, BucketName, Region, TableId};
use std::fmt;
use std::str::FromStr;

/// A text that is no ARN of a table bucket or table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a table bucket ARN; expected `arn:aws:s3tables:REGION:ACCOUNT:bucket/NAME`"
)]
pub struct ArnParseError {
    /// What was given.
    pub text: String,
}

/// `arn:aws:s3tables:{region}:{account}:bucket/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableBucketArn {
    /// Region of the cluster.
    pub region: Region,
    /// Owner of the bucket.
    pub account: AccountId,
    /// The bucket's name.
    pub bucket: BucketName,
}

/// `arn:aws:s3tables:{region}:{account}:bucket/{name}/table/{table-id}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableArn {
    /// The bucket's ARN.
    pub bucket: TableBucketArn,
    /// The table, which keeps its id through renames.
    pub table: TableId,
}

/// Splits `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE` or `acs:SERVICE:REGION:ACCOUNT:RESOURCE`
/// into region, account and resource.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.splitn(2, ':');
    let scheme = parts.next()?;
    let mut rest = parts.next()?;
    match scheme {
        "arn" => {
            let (partition, tail) = rest.split_once(':')?;
            if !partition.starts_with("aws") {
                return None;
            }
            rest = tail;
        }
        "acs" => {}
        _ => return None,
    }
    let mut fields = rest.splitn(4, ':');
    let service = fields.next()?;
    if !matches!(
        (scheme, service),
        ("arn", "s3tables") | ("acs", "osstables")
    ) {
        return None;
    }
    Some((fields.next()?, fields.next()?, fields.next()?))
}

fn parse_bucket(text: &str) -> Option<(TableBucketArn, Option<&str>)> {
    let (region, account, resource) = split(text)?;
    let path = resource.strip_prefix("bucket/")?;
    let (bucket, tail) = match path.split_once('/') {
        Some((bucket, tail)) => (bucket, Some(tail)),
        None => (path, None),
    };
    let arn = TableBucketArn {
        region: region.parse().ok()?,
        account: account.parse().ok()?,
        bucket: BucketName::for_lookup(bucket).ok()?,
    };
    Some((arn, tail))
}

impl FromStr for TableBucketArn {
    type Err = ArnParseError;
    fn from_str(text: &str) -> Result<Self, ArnParseError> {
        match parse_bucket(text) {
            Some((arn, None)) => Ok(arn),
            _ => Err(ArnParseError {
                text: text.to_owned(),
            }),
        }
    }
}

impl FromStr for TableArn {
    type Err = ArnParseError;
    fn from_str(text: &str) -> Result<Self, ArnParseError> {
        let refuse = || ArnParseError {
            text: text.to_owned(),
        };
        let (bucket, tail) = parse_bucket(text).ok_or_else(refuse)?;
        let id = tail
            .and_then(|t| t.strip_prefix("table/"))
            .ok_or_else(refuse)?;
        Ok(Self {
            bucket,
            table: id.parse().map_err(|_| refuse())?,
        })
    }
}

impl fmt::Display for TableBucketArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "arn:aws:s3tables:{}:{}:bucket/{}",
            self.region, self.account, self.bucket
        )
    }
}

impl fmt::Display for TableArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/table/{}", self.bucket, self.table)
    }
}

/// How a client may name a table bucket: by ARN or by plain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableBucketRef {
    /// A full ARN; region and account must match the cluster's.
    Arn(TableBucketArn),
    /// The plain name.
    Name(BucketName),
}

impl TableBucketRef {
    /// The bucket's name in either form.
    #[must_use]
    pub const fn bucket(&self) -> &BucketName {
        match self {
            Self::Arn(arn) => &arn.bucket,
            Self::Name(name) => name,
        }
    }
}

impl FromStr for TableBucketRef {
    type Err = ArnParseError;
    fn from_str(text: &str) -> Result<Self, ArnParseError> {
        if text.contains(':') {
            return text.parse().map(Self::Arn);
        }
        BucketName::for_lookup(text)
            .map(Self::Name)
            .map_err(|_| ArnParseError {
                text: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_round_trip_and_aliases_are_accepted() {
        let text = "arn:aws:s3tables:us-east-1:000000000000:bucket/lake";
        let arn: TableBucketArn = text.parse().unwrap();
        assert_eq!(arn.to_string(), text);
        let alias: TableBucketArn = "acs:osstables:us-east-1:000000000000:bucket/lake"
            .parse()
            .unwrap();
        assert_eq!(alias, arn);
        let table = TableArn {
            bucket: arn,
            table: TableId::from_bytes([3; 16]),
        };
        assert_eq!(table.to_string().parse::<TableArn>().unwrap(), table);
        assert!(table.to_string().parse::<TableBucketArn>().is_err());
        assert!("arn:aws:s3:::lake".parse::<TableBucketArn>().is_err());
        assert_eq!(
            "lake".parse::<TableBucketRef>().unwrap().bucket().as_str(),
            "lake"
        );
    }
}
