//! Buckets of both kinds.

use super::lab::*;
use crate::*;
use floeberg_types::BucketName;

#[tokio::test]
async fn table_buckets_are_created_found_and_deleted() {
    let lab = Lab::new().await;
    let created = lab.create_bucket("lake").await.unwrap();
    assert_eq!(
        (created.kind, created.state),
        (BucketKind::Table, BucketState::Live)
    );
    let found = lab
        .catalog
        .get_table_bucket(&allowed(), &cx(), &lake())
        .await
        .unwrap();
    assert_eq!(found, created);

    let again = lab.create_bucket("lake").await.unwrap_err();
    assert!(matches!(
        again,
        CreateBucketError::Exists(BucketExists {
            owner: BucketOwner::Caller,
            ..
        })
    ));
    let general = lab
        .catalog
        .create_general_bucket(&cx(), "lake")
        .await
        .unwrap_err();
    assert!(
        matches!(general, CreateBucketError::Exists(_)),
        "one name space"
    );
    for bad in ["Lake", "x--table-s3", "a.b"] {
        let refused = lab.create_bucket(bad).await.unwrap_err();
        assert!(
            matches!(refused, CreateBucketError::InvalidName(_)),
            "{bad}"
        );
    }

    lab.create_namespace(&["ns"]).await.unwrap();
    let delete = || async {
        lab.catalog
            .delete_table_bucket(&allowed(), &cx(), &lake())
            .await
    };
    assert!(matches!(
        delete().await,
        Err(DeleteBucketError::NotEmpty(_))
    ));
    lab.catalog
        .drop_namespace(&allowed(), &cx(), &lake(), &ns(&["ns"]))
        .await
        .unwrap();
    delete().await.unwrap();
    assert!(matches!(
        delete().await,
        Err(DeleteBucketError::NoSuchBucket(_))
    ));

    let anew = lab.create_bucket("lake").await.unwrap();
    assert_ne!(anew.id, created.id);
}

#[tokio::test]
async fn table_buckets_are_listed_by_prefix_and_page() {
    let lab = Lab::new().await;
    for name in ["lake-b", "lake-a", "lake-c", "other"] {
        lab.create_bucket(name).await.unwrap();
    }
    lab.catalog
        .create_general_bucket(&cx(), "lake-aa")
        .await
        .unwrap();
    let list = async |prefix: &str, page: PageRequest| {
        let prefix = prefix.to_owned();
        let request = ListBuckets { prefix, page };
        lab.catalog
            .list_table_buckets(&allowed(), &cx(), &request)
            .await
    };
    let names = |page: &Page<BucketInfo>| -> Vec<String> {
        page.items.iter().map(|b| b.name.to_string()).collect()
    };
    let all = list("", PageRequest::default()).await.unwrap();
    assert_eq!(names(&all), ["lake-a", "lake-b", "lake-c", "other"]);
    assert_eq!(all.next, None);

    let first = list(
        "lake",
        PageRequest {
            token: None,
            size: Some(2),
        },
    )
    .await
    .unwrap();
    assert_eq!(
        names(&first),
        ["lake-a", "lake-b"],
        "general buckets take no place"
    );
    let second = list(
        "lake",
        PageRequest {
            token: first.next.clone(),
            size: Some(2),
        },
    );
    let second = second.await.unwrap();
    assert_eq!(
        (names(&second), second.next),
        (vec!["lake-c".to_owned()], None)
    );

    let foreign = list(
        "other",
        PageRequest {
            token: first.next,
            size: None,
        },
    )
    .await;
    assert!(matches!(
        foreign,
        Err(ListBucketsError::Listing(ListingRefused::UnknownToken))
    ));
}

#[tokio::test]
async fn general_buckets_are_deleted_in_steps() {
    let lab = Lab::new().await;
    let logs = lab
        .catalog
        .create_general_bucket(&cx(), "my.logs")
        .await
        .unwrap();
    assert_eq!(logs.kind, BucketKind::General);
    let asked = lab
        .catalog
        .get_table_bucket(&allowed(), &cx(), &logs.name)
        .await;
    assert!(matches!(asked, Err(GetTableBucketError::NoSuchBucket(_))));

    let begin = async |bucket: &BucketInfo| {
        lab.catalog
            .begin_delete_bucket(&cx(), &bucket.name, bucket.id)
            .await
    };
    let abort = async |bucket: &BucketInfo, deletion| {
        lab.catalog
            .abort_delete_bucket(&cx(), &bucket.name, bucket.id, deletion)
            .await
    };
    let finish = async |bucket: &BucketInfo, deletion| {
        lab.catalog
            .finish_delete_bucket(&cx(), &bucket.name, bucket.id, deletion)
            .await
    };
    let state = async || {
        let found = lab.catalog.find_bucket(&logs.name).await.unwrap();
        found.map(|bucket| bucket.state)
    };
    assert_eq!(
        finish(&logs, 0).await.unwrap(),
        DeletionEnd::Aborted,
        "never begun"
    );
    assert_eq!(begin(&logs).await.unwrap(), 1);
    assert_eq!(begin(&logs).await.unwrap(), 1, "the running one goes on");
    assert_eq!(state().await, Some(BucketState::Deleting { deletion: 1 }));
    let taken = lab.catalog.create_general_bucket(&cx(), "my.logs").await;
    assert!(matches!(taken, Err(CreateBucketError::Exists(_))));
    abort(&logs, 1).await.unwrap();
    assert_eq!(state().await, Some(BucketState::Live));
    assert_eq!(finish(&logs, 1).await.unwrap(), DeletionEnd::Aborted);
    abort(&logs, 1).await.unwrap();

    assert_eq!(begin(&logs).await.unwrap(), 2, "another one");
    assert_eq!(finish(&logs, 1).await.unwrap(), DeletionEnd::Aborted);
    abort(&logs, 1).await.unwrap();
    assert_eq!(state().await, Some(BucketState::Deleting { deletion: 2 }));
    assert_eq!(finish(&logs, 2).await.unwrap(), DeletionEnd::Removed);
    assert_eq!(state().await, None);

    let anew = lab
        .catalog
        .create_general_bucket(&cx(), "my.logs")
        .await
        .unwrap();
    for late in [
        begin(&logs).await.map(|_| ()),
        abort(&logs, 2).await,
        finish(&logs, 2).await.map(|_| ()),
    ] {
        assert!(
            matches!(late, Err(DeleteBucketError::NoSuchBucket(_))),
            "another bucket by now"
        );
    }
    assert_eq!(lab.catalog.all_buckets().await.unwrap(), [anew]);
    let table = lab.create_bucket("lake").await.unwrap();
    let wrong = begin(&table).await;
    assert!(matches!(wrong, Err(DeleteBucketError::NoSuchBucket(_))));
    assert!(BucketName::for_tables("my.logs").is_err());
}
