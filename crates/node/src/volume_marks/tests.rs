//! When a volume is doubted, and when it is not.

use super::*;
use floeberg_kv::MemKvStore;
use floeberg_proto::floeberg::volume::v1 as pb;
use floeberg_telemetry::VolumeMetrics;
use floeberg_types::GroupId;
use floeberg_volume::{IndexStore, VolumeConfig};
use std::path::Path;

const ME: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

struct Bench {
    env: Env,
    index: MemKvStore,
    home: Home,
    witnesses: Arc<Witnesses>,
}

impl Bench {
    fn new() -> Self {
        let (env, _) = Env::simulated(7);
        env.disk.create_dir_all(Path::new("/data")).unwrap();
        Self {
            home: Home::new(Path::new("/data"), env.disk.clone()),
            env,
            index: MemKvStore::new(),
            witnesses: Arc::new(Witnesses::none([GroupId::OBJECTS].into_iter())),
        }
    }

    async fn open(&self) -> (Volume, VolumeMarks) {
        let config = VolumeConfig::new(IndexStore::Memory(self.index.clone()));
        let (env, metrics) = (self.env.clone(), VolumeMetrics::default());
        let opened = Volume::open(Path::new("/volume"), config, env, metrics).await;
        let volume = opened.unwrap().0;
        let kept = (&self.home, &self.witnesses);
        let marks = VolumeMarks::open((ME, &volume), kept, &self.env).await;
        (volume, marks.unwrap())
    }
}

async fn put(volume: &Volume) {
    let mut writer = volume.begin().await;
    writer.append(vec![1; 100].into()).await.unwrap();
    writer.finish().await.unwrap();
}

fn ahead(mark: VolumeMark, by: u64) -> VolumeMark {
    VolumeMark::from_message(&pb::VolumeMark {
        sequence: mark.sequence() + by,
        ..mark.to_message()
    })
    .unwrap()
}

#[tokio::test]
async fn whoever_knows_more_makes_the_volume_doubted_until_it_is_trusted_again() {
    let bench = Bench::new();
    let (volume, marks) = bench.open().await;
    put(&volume).await;
    let here = volume.mark();
    drop((volume, marks));
    let (volume, marks) = bench.open().await;
    // Nothing is said to who has not said anything.
    assert_eq!(marks.told_to(TWO), None);
    marks.hear(TWO, Some(here));
    assert!(!marks.holdings().are_doubted());
    assert_eq!(marks.told_to(TWO), Some(here));
    // What is written now has higher numbers, and hides nothing.
    put(&volume).await;
    marks.hear(THREE, Some(ahead(here, 5)));
    assert!(marks.holdings().are_doubted());
    assert_eq!((marks.told_to(TWO), marks.told_to(THREE)), (None, None));
    marks.keep().unwrap();
    drop((volume, marks));

    // The next start knows, whatever its mark is by now.
    let (volume, marks) = bench.open().await;
    let lost = marks.lost().unwrap();
    assert_eq!((lost.known, lost.witness), (ahead(here, 5), THREE));
    assert!(marks.holdings().are_doubted() && !volume.mark().lacks(&lost.known));
    marks.hear(TWO, None);
    assert!(marks.trust(lost).await.unwrap());
    assert!(!marks.holdings().are_doubted());
    assert!(lost.known.lacks(&marks.told_to(TWO).unwrap()));
    drop((volume, marks));
    let (_volume, marks) = bench.open().await;
    assert_eq!(marks.lost(), None);
}

#[tokio::test]
async fn more_that_is_known_by_then_keeps_the_volume_doubted() {
    let bench = Bench::new();
    let (volume, marks) = bench.open().await;
    put(&volume).await;
    let here = volume.mark();
    drop((volume, marks));
    let (_volume, marks) = bench.open().await;
    marks.hear(TWO, Some(ahead(here, 5)));
    let lost = marks.lost().unwrap();
    marks.hear(THREE, Some(ahead(here, 9)));
    assert!(!marks.trust(lost).await.unwrap());
    assert!(marks.holdings().are_doubted());
    // What is heard again later are marks of this start.
    marks.hear(TWO, Some(ahead(here, 100)));
    assert_eq!(marks.lost().unwrap().known, ahead(here, 9));
}

#[tokio::test]
async fn the_node_is_a_witness_of_its_own_volume() {
    let bench = Bench::new();
    let (volume, marks) = bench.open().await;
    put(&volume).await;
    let known = Some(ahead(volume.mark(), 1));
    drop((volume, marks));
    bench.witnesses.hear_volume(ME, known);
    let (_volume, marks) = bench.open().await;
    assert!(marks.holdings().are_doubted());
    // Another volume in its place has nothing of what this one had.
    let bench = Bench::new();
    let (volume, _) = bench.open().await;
    let other = pb::VolumeMark {
        volume_id: vec![9; 16].into(),
        sequence: 1,
        ..volume.mark().to_message()
    };
    drop(volume);
    bench
        .witnesses
        .hear_volume(ME, VolumeMark::from_message(&other).ok());
    let (_volume, marks) = bench.open().await;
    let lost = marks.lost().unwrap();
    assert!(marks.trust(lost).await.unwrap());
}
