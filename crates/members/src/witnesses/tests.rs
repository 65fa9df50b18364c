//! What is asked, told and kept of marks.

use super::*;
use expect_test::expect;
use floeberg_env::Env;
use std::path::Path;

const GROUPS: [GroupId; 2] = [GroupId::CATALOG, GroupId::OBJECTS];
const TWO: NodeId = NodeId(2);

fn mark(term: u64, accepted: u64) -> AckMark {
    AckMark {
        term,
        node: NodeId(1),
        committed: true,
        accepted: Some(accepted),
    }
}

fn own(catalog: AckMark) -> BTreeMap<GroupId, AckMark> {
    BTreeMap::from([(GroupId::CATALOG, catalog)])
}

const ROOMY: Space = Space {
    commands: true,
    chunks: true,
};

fn of_volume(id: u8, sequence: u64) -> VolumeMark {
    VolumeMark::from_message(&volume::VolumeMark {
        format: 1,
        volume_id: vec![id; 16].into(),
        sequence,
    })
    .unwrap()
}

fn telling<'a>(
    own: &'a BTreeMap<GroupId, AckMark>,
    barred: Option<&'a Barred>,
    alarms: &'a [Alarm],
) -> Telling<'a> {
    Telling {
        own,
        volume: None,
        barred,
        alarms,
        space: ROOMY,
    }
}

async fn asks(desk: &MarksDesk, own: &BTreeMap<GroupId, AckMark>, barred: Option<&Barred>) -> Said {
    let alarm = Alarm {
        kind: AlarmKind::Clock,
        text: "off".to_owned(),
        since: TimestampMs(1),
    };
    said(
        desk.handle(TWO, ask(telling(own, barred, &[alarm])))
            .await
            .map_err(Into::into),
    )
}

fn known(marks: BTreeMap<GroupId, AckMark>) -> Said {
    let clock_ms = Env::simulated(1).0.clock.now().0;
    Said::Known {
        marks,
        volume: None,
        clock_ms,
    }
}

fn desk() -> MarksDesk {
    MarksDesk {
        witnesses: Arc::new(Witnesses::none(GROUPS.into_iter())),
        standing: Standing::asking(),
        clock: Env::simulated(1).0.clock,
    }
}

#[tokio::test]
async fn who_asks_is_told_what_was_known_before() {
    let desk = desk();
    assert_eq!(
        asks(&desk, &own(mark(3, 5)), None).await,
        known(BTreeMap::new())
    );
    assert_eq!(
        asks(&desk, &own(mark(3, 4)), None).await,
        known(own(mark(3, 5)))
    );
    assert_eq!(
        asks(&desk, &own(mark(3, 9)), None).await,
        known(own(mark(3, 5)))
    );
    assert_eq!(
        desk.witnesses.marks(GroupId::CATALOG),
        BTreeMap::from([(TWO, mark(3, 9))])
    );
    let why = Barred::Held("removed".to_owned());
    asks(&desk, &own(mark(3, 9)), Some(&why)).await;
    assert_eq!(
        desk.witnesses.refused(),
        BTreeMap::from([(TWO, "removed".to_owned())])
    );
    asks(&desk, &own(mark(3, 9)), None).await;
    assert_eq!(desk.witnesses.refused(), BTreeMap::new());
    let now = desk.clock.now();
    assert_eq!(desk.witnesses.alarms(now)[0].1.text, "off");
    assert_eq!(desk.witnesses.alarms(now.plus_ms(FRESH_MS)), []);
    desk.standing.bar(why);
    let refused = asks(&desk, &own(mark(3, 9)), None).await;
    assert_eq!(
        refused,
        Said::Nothing("removed".to_owned()),
        "it may have lost what it heard"
    );
}

#[tokio::test]
async fn the_marks_of_volumes_are_told_and_kept_too() {
    let desk = desk();
    let own = own(mark(3, 5));
    let told = async |volume| {
        let request = ask(Telling {
            volume,
            space: Space {
                chunks: false,
                ..ROOMY
            },
            ..telling(&own, None, &[])
        });
        match said(desk.handle(TWO, request).await.map_err(Into::into)) {
            Said::Known { volume, .. } => volume,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(Some(of_volume(1, 7))).await, None);
    assert_eq!(told(Some(of_volume(1, 5))).await, Some(of_volume(1, 7)));
    assert_eq!(
        told(None).await,
        Some(of_volume(1, 7)),
        "silence is no news"
    );
    // The disk was replaced: what the old one had is nobody's business any more.
    assert_eq!(told(Some(of_volume(2, 1))).await, Some(of_volume(1, 7)));
    assert_eq!(told(None).await, Some(of_volume(2, 1)));
    let now = desk.clock.now();
    assert_eq!(desk.witnesses.full(now), BTreeSet::new());
    assert_eq!(desk.witnesses.full_of_chunks(now), BTreeSet::from([TWO]));
    let later = now.plus_ms(FRESH_MS);
    assert_eq!(desk.witnesses.full_of_chunks(later), BTreeSet::new());

    let (env, _) = Env::simulated(1);
    let home = Home::new(Path::new("/data"), env.disk.clone());
    home.prepare().unwrap();
    desk.witnesses.keep(&home).unwrap();
    let bytes = home.read(&home.path(FILE)).unwrap().unwrap();
    expect![
        "080112280802120c120a08011003180120012805221608011210020202020202020202020202020202021801"
    ]
    .assert_eq(&hex::encode(&bytes));
    let again = Witnesses::load(&home, GROUPS.into_iter()).unwrap();
    assert_eq!(again.volume(TWO), Some(of_volume(2, 1)));
    again.dismiss(&BTreeSet::from([TWO]));
    assert_eq!(again.volume(TWO), None);
}

#[test]
fn what_is_known_outlives_a_restart_and_members_that_are_gone_do_not() {
    let (env, _) = Env::simulated(1);
    let home = Home::new(Path::new("/data"), env.disk.clone());
    home.prepare().unwrap();
    let known = Witnesses::load(&home, GROUPS.into_iter()).unwrap();
    known.hear(TWO, &[group_mark(GroupId::OBJECTS, &mark(4, 300))]);
    known.hear(NodeId(3), &[group_mark(GroupId(9), &mark(4, 1))]);
    known.note(NodeId(3), "lost");
    known.keep(&home).unwrap();
    let bytes = home.read(&home.path(FILE)).unwrap().unwrap();
    expect!["080112130802120f0801120b080110041801200128ac02120808031a046c6f7374"]
        .assert_eq(&hex::encode(&bytes));
    let again = Witnesses::load(&home, GROUPS.into_iter()).unwrap();
    assert_eq!(
        again.marks(GroupId::OBJECTS),
        BTreeMap::from([(TWO, mark(4, 300))])
    );
    assert_eq!(
        again.refused(),
        BTreeMap::from([(NodeId(3), "lost".to_owned())])
    );
    again.dismiss(&BTreeSet::from([TWO, NodeId(3)]));
    assert_eq!(again.marks(GroupId::OBJECTS), BTreeMap::new());
    assert_eq!(again.refused(), BTreeMap::new());
    home.write(FILE, &[0xff]).unwrap();
    assert!(Witnesses::load(&home, GROUPS.into_iter()).is_err());
}

#[test]
fn an_older_member_is_no_evidence() {
    let refused = |code| said(Err(CallError::Refused(Refusal::new(code, "no"))));
    assert_eq!(refused(RefusalCode::UnknownMethod), Said::NoMarks);
    assert_eq!(refused(RefusalCode::Removed), Said::Removed);
    assert_eq!(
        refused(RefusalCode::NotServing),
        Said::Nothing("no".to_owned())
    );
    assert!(matches!(said(Ok(Bytes::new())), Said::Nothing(_)));
}

/// A changed expectation here is a changed protocol.
#[test]
fn golden_messages() {
    let why = Barred::Held("lost".to_owned());
    let alarm = Alarm {
        kind: AlarmKind::Clock,
        text: "off".to_owned(),
        since: TimestampMs(5),
    };
    let own = own(mark(3, 5));
    let earlier = |telling| {
        let message = pb::MarksRequest::decode(ask(telling).body).unwrap();
        // Members of earlier versions do not say for what they have room.
        let message = pb::MarksRequest {
            space: None,
            ..message
        };
        message.encode_to_vec()
    };
    let request = earlier(telling(&own, Some(&why), &[]));
    let troubled = earlier(telling(&own, None, &[alarm]));
    let now = ask(Telling {
        volume: Some(of_volume(0xd1, 300)),
        ..telling(&own, None, &[])
    });
    let reply = pb::MarksReply {
        format: FORMAT,
        known: vec![group_mark(GroupId::CATALOG, &mark(3, 5))],
        clock_ms: 0,
        known_volume: None,
    };
    let with_volume = pb::MarksReply {
        known_volume: Some(of_volume(0xd1, 300).to_message()),
        ..reply.clone()
    };
    let with_time = pb::MarksReply {
        clock_ms: 300,
        ..reply.clone()
    };
    let text = format!(
        "{}\n{}\n{}\n{}\n{}\n{}\n",
        hex::encode(request),
        hex::encode(reply.encode_to_vec()),
        hex::encode(troubled),
        hex::encode(with_time.encode_to_vec()),
        hex::encode(now.body),
        hex::encode(with_volume.encode_to_vec())
    );
    expect![[r#"
        0801120c120a080110031801200128051a046c6f7374
        0801120c120a08011003180120012805
        0801120c120a08011003180120012805220e0a05636c6f636b12036f66661805
        0801120c120a0801100318012001280518ac02
        0801120c120a080110031801200128052a1708011210d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d118ac02320408011001
        0801120c120a08011003180120012805221708011210d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d118ac02
    "#]]
    .assert_eq(&text);
}
