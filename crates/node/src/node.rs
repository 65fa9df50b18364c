//! One node: stores, groups, services and the two request services of its ports.

use crate::identity::{self, Identity};
use crate::ports::{CatalogPort, ObjectsPort};
use crate::room;
use crate::stores::{self, Stores};
use crate::{NodeConfig, StartError};
use floeberg_api_admin::{
    AdminState, Endpoints, GroupRole, GroupStatus, NodeStatus, Probes, Readiness,
};
use floeberg_api_iceberg::{IcebergState, Settings};
use floeberg_api_s3::{S3Api, S3Settings, S3State};
use floeberg_api_s3tables::{S3TablesState, Settings as S3TablesSettings};
use floeberg_auth::sigv4::{RegionRule, ScopeRules};
use floeberg_auth::{Authorizer, Keyring};
use floeberg_catalog::janitor::{Janitor, JanitorConfig};
use floeberg_catalog::{Catalog, CatalogConfig};
use floeberg_consensus::GroupHooks;
use floeberg_env::{DiskFile, Env};
use floeberg_http::{Limits, Room, Shell};
use floeberg_kv::Kv;
use floeberg_metastore::{Store, StoreConfig, StoreParts};
use floeberg_objects::{Objects, ObjectsConfig, ObjectsParts};
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics, NodeMetrics};
use floeberg_types::{GroupId, TimestampMs};
use floeberg_volume::Volume;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// A running node without its listeners: requests enter through [`Node::lakehouse`] and
/// [`Node::s3`], over sockets or straight from a test.
pub struct Node {
    groups: Groups,
    volume: Volume,
    catalog: Catalog,
    keys: Arc<Keyring>,
    env: Env,
    lakehouse: axum::Router,
    s3: S3Api,
    background: Vec<JoinHandle<()>>,
    files: Arc<ObjectsPort>,
    metrics: NodeMetrics,
    /// Keeps other processes away from the data directory.
    _lock: Arc<dyn DiskFile>,
}

#[derive(Clone)]
struct Groups {
    catalog: Store,
    objects: Store,
}

impl Groups {
    async fn open(
        opened: &stores::Opened,
        identity: Identity,
        env: &Env,
        metrics: &NodeMetrics,
    ) -> Result<Self, StartError> {
        let open = |id, kv: &Arc<dyn Kv>, raft: &ConsensusMetrics, store: &MetastoreMetrics| {
            let parts = StoreParts {
                kv: kv.clone(),
                log: opened.log.clone(),
                hooks: hooks(raft.clone()),
                metrics: store.clone(),
            };
            async move {
                let config = StoreConfig::new(identity.cluster, id, identity.node);
                Store::open(&config, env, parts).await
            }
        };
        let m = metrics;
        let catalog = open(
            GroupId::CATALOG,
            &opened.catalog,
            &m.catalog_group,
            &m.catalog_store,
        );
        let objects = open(
            GroupId::OBJECTS,
            &opened.objects,
            &m.objects_group,
            &m.objects_store,
        );
        Ok(Self {
            catalog: catalog.await?,
            objects: objects.await?,
        })
    }
}

/// What the services share while they are wired.
struct Wiring<'a> {
    config: &'a NodeConfig,
    env: &'a Env,
    identity: Identity,
    metrics: &'a NodeMetrics,
    keys: &'a Arc<Keyring>,
    groups: &'a Groups,
    volume: &'a Volume,
    room: Room,
    started: TimestampMs,
}

impl Node {
    /// Opens the data directory and starts every part of the node.
    ///
    /// # Errors
    /// See [`StartError`]: the directory is in use, damaged or not writable.
    pub async fn start(config: NodeConfig, env: Env, stores: Stores) -> Result<Self, StartError> {
        let metrics = NodeMetrics::new();
        let started = env.clock.now();
        let opening = {
            let (config, env, metrics) = (config.clone(), env.clone(), metrics.clone());
            let tasks = env.tasks.clone();
            tasks.spawn_blocking("open-stores", move || {
                let opened = stores::open(&config, &stores, &env, &metrics)?;
                let identity = identity::load_or_create(&config.data_dir, &env)?;
                Ok::<_, StartError>((opened, identity))
            })
        };
        let (opened, identity) = opening.await.map_err(|_| StartError::Stopping)??;
        tracing::info!(cluster = %identity.cluster, node = %identity.node, "starting");
        let volume =
            stores::open_volume(&config, opened.volume_index.clone(), &env, &metrics).await?;
        let groups = Groups::open(&opened, identity, &env, &metrics).await?;
        let keys = Arc::new(Keyring::new(
            config.root_key.clone(),
            config.account.clone(),
            identity.cluster,
        ));
        let wiring = Wiring {
            config: &config,
            env: &env,
            identity,
            metrics: &metrics,
            keys: &keys,
            groups: &groups,
            volume: &volume,
            room: room::of(config.data_dir.clone(), &env),
            started,
        };
        let files = Arc::new(ObjectsPort::new(keys.root_principal()));
        let (catalog, objects) = wiring.services(&files);
        let lakehouse = wiring.lakehouse(&catalog);
        let s3 = wiring.s3(&objects);
        let background = vec![
            env.tasks.spawn("reclaimer", objects.run_reclaimer()),
            env.tasks.spawn("janitor", janitor(&catalog, &config).run()),
        ];
        let lock = opened.lock;
        Ok(Self {
            groups,
            volume,
            catalog,
            keys,
            env,
            lakehouse,
            s3,
            background,
            files,
            metrics,
            _lock: lock,
        })
    }

    /// The request service of the lakehouse port: Iceberg REST, S3 Tables, admin.
    pub fn lakehouse(&self) -> axum::Router {
        self.lakehouse.clone()
    }

    /// The request service of the S3 port.
    #[must_use]
    pub fn s3(&self) -> S3Api {
        self.s3.clone()
    }

    /// The catalog, for callers in the same process.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The cluster's keys, for callers in the same process.
    #[must_use]
    pub const fn keys(&self) -> &Arc<Keyring> {
        &self.keys
    }

    /// The environment the node runs in.
    #[must_use]
    pub const fn env(&self) -> &Env {
        &self.env
    }

    /// What the node counts.
    pub(crate) const fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// Waits until both groups accept work.
    pub async fn ready(&self) {
        for store in [&self.groups.catalog, &self.groups.objects] {
            let mut leadership = store.leadership();
            // An error means the group has stopped; its hook has been told, and requests will be.
            if leadership.wait_for(|l| l.ready).await.is_err() {
                tracing::error!("a group stopped before it was ready");
            }
        }
    }

    /// Stops background work and both groups, and makes applied rows durable, so that the next
    /// start replays nothing. Requests must have ended before.
    pub async fn shutdown(&self) {
        for task in &self.background {
            task.abort();
        }
        for store in [&self.groups.objects, &self.groups.catalog] {
            if let Err(error) = store.shutdown().await {
                tracing::warn!(%error, "rows were not flushed; the log will be replayed");
            }
        }
        self.volume.close().await;
    }
}

fn janitor(catalog: &Catalog, config: &NodeConfig) -> Janitor {
    Janitor::new(catalog.clone(), JanitorConfig::new(config.account.clone()))
}

impl Drop for Node {
    fn drop(&mut self) {
        self.files.disconnect();
    }
}

/// A group that fails stops the process: only recovery from what is durable is safe.
fn hooks(metrics: ConsensusMetrics) -> GroupHooks {
    GroupHooks {
        on_fatal: Arc::new(|group, cause| {
            tracing::error!(%group, cause, "a group failed; aborting so that recovery can decide");
            std::process::abort();
        }),
        metrics,
    }
}

impl Wiring<'_> {
    fn services(&self, files: &Arc<ObjectsPort>) -> (Catalog, Arc<Objects>) {
        let catalog = Catalog::new(
            self.groups.catalog.clone(),
            self.env.clone(),
            &CatalogConfig::default(),
            files.clone(),
            self.metrics.catalog.clone(),
        );
        let port = Arc::new(CatalogPort(catalog.clone()));
        let objects = Arc::new(Objects::new(ObjectsParts {
            store: self.groups.objects.clone(),
            volume: self.volume.clone(),
            buckets: port.clone(),
            tables: port,
            env: self.env.clone(),
            metrics: self.metrics.objects.clone(),
            account: self.config.account.clone(),
            config: ObjectsConfig {
                chunk_max: self.volume.max_chunk_bytes(),
                ..ObjectsConfig::default()
            },
        }));
        files.connect(objects.clone(), catalog.clone());
        (catalog, objects)
    }

    fn lakehouse(&self, catalog: &Catalog) -> axum::Router {
        let shell = Shell {
            env: self.env.clone(),
            keys: self.keys.clone(),
            rules: ScopeRules {
                region: RegionRule::Exactly(self.config.region.clone()),
                services: ScopeRules::CATALOG_SERVICES,
            },
            metrics: self.metrics.http.clone(),
            limits: Limits {
                body_stall: self.config.limits.body_stall,
                ..Limits::default()
            },
            room: self.room.clone(),
        };
        let iceberg = IcebergState {
            catalog: catalog.clone(),
            keys: self.keys.clone(),
            authorizer: Authorizer,
            settings: Settings {
                region: self.config.region.clone(),
                account: self.config.account.clone(),
                s3_endpoint: self.config.s3_endpoint.clone(),
            },
        };
        let tables = S3TablesState {
            catalog: catalog.clone(),
            authorizer: Authorizer,
            settings: S3TablesSettings {
                region: self.config.region.clone(),
                account: self.config.account.clone(),
            },
        };
        let admin = AdminState {
            metrics: self.metrics.clone(),
            probes: self.probes(),
            endpoints: self.endpoints(),
            authorizer: Authorizer,
        };
        floeberg_api_iceberg::router(shell.clone(), iceberg)
            .merge(floeberg_api_s3tables::router(shell.clone(), tables))
            .merge(floeberg_api_admin::router(shell, admin))
    }

    fn s3(&self, objects: &Arc<Objects>) -> S3Api {
        floeberg_api_s3::service(S3State {
            objects: objects.clone(),
            keyring: self.keys.clone(),
            env: self.env.clone(),
            metrics: self.metrics.http.clone(),
            room: self.room.clone(),
            settings: S3Settings {
                region: self.config.region.clone(),
                enforce_region: false,
                domains: self.config.s3_domain.iter().cloned().collect(),
                body_stall: self.config.limits.body_stall,
            },
        })
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            iceberg: format!("{}/iceberg", self.config.lakehouse_endpoint),
            s3tables: self.config.lakehouse_endpoint.clone(),
            s3: self.config.s3_endpoint.clone(),
            region: self.config.region.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            docs: "docs/ of the source tree".to_owned(),
        }
    }

    fn probes(&self) -> Probes {
        let leaderships = [
            (GroupId::CATALOG, self.groups.catalog.leadership()),
            (GroupId::OBJECTS, self.groups.objects.leadership()),
        ];
        let groups = move || -> Vec<GroupStatus> {
            let status = leaderships.iter().map(|(group, leadership)| {
                let now = *leadership.borrow();
                let role = if now.is_leader {
                    GroupRole::Leader
                } else {
                    GroupRole::Follower
                };
                GroupStatus {
                    group: group.0,
                    role,
                    term: now.term,
                    ready: now.ready,
                }
            });
            status.collect()
        };
        let groups = Arc::new(groups);
        let readiness = groups.clone();
        let volume = self.volume.clone();
        let room = self.room.clone();
        let base = NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.identity.cluster.to_string(),
            node: self.identity.node.0,
            region: self.config.region.to_string(),
            account: self.config.account.to_string(),
            started_at_ms: self.started.0,
            groups: Vec::new(),
        };
        Probes {
            readiness: Arc::new(move || {
                if let Some(g) = readiness().iter().find(|g| !g.ready) {
                    return Readiness::NotReady {
                        waiting_for: format!("a ready leader of group {}", g.group),
                    };
                }
                let full = volume.check_room().map_err(|full| full.to_string());
                let full = full.and_then(|()| room.check().map_err(|full| full.to_string()));
                match full {
                    Ok(()) => Readiness::Ready,
                    Err(why) => Readiness::ReadsOnly { why },
                }
            }),
            status: Arc::new(move || NodeStatus {
                groups: groups(),
                ..base.clone()
            }),
        }
    }
}
