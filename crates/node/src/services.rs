//! The use cases and the protocols over them: who is given what.

use crate::NodeConfig;
use crate::group_stores::GroupStores;
use crate::ports::{CatalogPort, ObjectsPort};
use crate::vigil::Budgets;
use floeberg_api_admin::{AdminState, Endpoints, Probes};
use floeberg_api_iceberg::{IcebergState, Settings};
use floeberg_api_s3::{S3Api, S3Settings, S3State};
use floeberg_api_s3tables::{S3TablesState, Settings as S3TablesSettings};
use floeberg_auth::sigv4::{RegionRule, ScopeRules};
use floeberg_auth::{Authorizer, Keyring};
use floeberg_catalog::{Catalog, CatalogConfig, PieceSizes};
use floeberg_env::Env;
use floeberg_http::{Door, Limits, Room, Shell};
use floeberg_members::{Identity, Members};
use floeberg_objects::{Objects, ObjectsConfig, ObjectsParts};
use floeberg_shards::Shards;
use floeberg_telemetry::NodeMetrics;
use std::sync::Arc;

/// The cluster's keys.
pub(crate) fn keyring(config: &NodeConfig, identity: Identity) -> Arc<Keyring> {
    let (root_key, account) = (config.root_key.clone(), config.account.clone());
    Arc::new(Keyring::new(root_key, account, identity.cluster))
}

/// What the services share while they are wired.
pub(crate) struct Services<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) env: &'a Env,
    pub(crate) metrics: &'a NodeMetrics,
    pub(crate) keys: &'a Arc<Keyring>,
    pub(crate) stores: &'a GroupStores,
    pub(crate) shards: &'a Shards,
    pub(crate) members: Option<Members>,
    pub(crate) backups: Arc<dyn floeberg_backup::Source>,
    pub(crate) probes: Probes,
    pub(crate) room: Room,
    pub(crate) door: Door,
}

impl Services<'_> {
    /// What bounds the memory of requests.
    pub(crate) fn budgets(&self, catalog: &Catalog) -> Budgets {
        [self.door.budgets(), catalog.budgets()].concat()
    }

    pub(crate) fn use_cases(
        &self,
        files: &Arc<ObjectsPort>,
        pieces: PieceSizes,
    ) -> (Catalog, Arc<Objects>) {
        let config = CatalogConfig {
            pieces,
            ..CatalogConfig::default()
        };
        let catalog = Catalog::new(
            self.stores.catalog.clone(),
            self.env.clone(),
            &config,
            files.clone(),
            self.metrics.catalog.clone(),
        );
        let port = Arc::new(CatalogPort(catalog.clone()));
        let objects = Arc::new(Objects::new(ObjectsParts {
            store: self.stores.objects.clone(),
            shards: self.shards.clone(),
            buckets: port.clone(),
            tables: port,
            env: self.env.clone(),
            metrics: self.metrics.objects.clone(),
            account: self.config.account.clone(),
            config: ObjectsConfig {
                chunk_max: self.shards.max_chunk_bytes(),
                ..ObjectsConfig::default()
            },
        }));
        files.connect(objects.clone(), catalog.clone());
        (catalog, objects)
    }

    pub(crate) fn lakehouse(&self, catalog: &Catalog) -> axum::Router {
        let shell = Shell {
            env: self.env.clone(),
            keys: self.keys.clone(),
            rules: ScopeRules {
                region: RegionRule::Exactly(self.config.region.clone()),
                services: ScopeRules::CATALOG_SERVICES,
            },
            metrics: self.metrics.http.clone(),
            limits: Limits {
                body_bytes: self.config.limits.body_bytes,
                body_stall: self.config.limits.body_stall,
                operation_time: self.config.limits.operation_time,
            },
            room: self.room.clone(),
            door: self.door.clone(),
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
            probes: self.probes.clone(),
            endpoints: self.endpoints(),
            authorizer: Authorizer,
            members: self.members.clone(),
            backups: self.backups.clone(),
        };
        floeberg_api_iceberg::router(shell.clone(), iceberg)
            .merge(floeberg_api_s3tables::router(shell.clone(), tables))
            .merge(floeberg_api_admin::router(shell, admin))
    }

    pub(crate) fn s3(&self, objects: &Arc<Objects>) -> S3Api {
        floeberg_api_s3::service(S3State {
            objects: objects.clone(),
            keyring: self.keys.clone(),
            env: self.env.clone(),
            metrics: self.metrics.http.clone(),
            room: self.room.clone(),
            door: self.door.clone(),
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
}
