//! The cluster's authority on a member: what signs certificates and join tokens. Every member keeps
//! it, so that each can let others join whoever else is down.

use crate::home::{CERTIFICATES, Home, HomeError};
use crate::ports::{Authority, Certified, MemberSecrets, TokenRefused};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_pki::{
    self as pki, Credentials, JoinKey, JoinToken, NODE_LIFETIME, NodeKey, PkiError, Subject,
    TrustBundle,
};
use floeberg_types::{ClusterId, NodeId, TimestampMs};
use parking_lot::RwLock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod succession;

const JOIN_KEY: &str = "join-key";

/// The authority of a cluster, as a member holds it.
pub struct ClusterAuthority {
    cluster: ClusterId,
    held: RwLock<Held>,
    join_key: JoinKey,
    /// Where it is kept; `None` as long as it is not.
    home: Option<Home>,
    env: Env,
}

/// What changes when the cluster's authority does.
struct Held {
    /// What signs.
    authority: Arc<pki::Authority>,
    /// What will sign.
    next: Option<Arc<pki::Authority>>,
    /// What is trusted.
    trust: TrustBundle,
}

impl Held {
    fn new(authority: pki::Authority, trust: TrustBundle) -> RwLock<Self> {
        RwLock::new(Self {
            authority: Arc::new(authority),
            next: None,
            trust,
        })
    }
}

/// Where certificates and keys are kept below a data directory.
pub(crate) fn dir(home: &Home) -> PathBuf {
    home.path(CERTIFICATES)
}

impl ClusterAuthority {
    /// Makes the authority of a new cluster.
    pub(crate) fn create(cluster: ClusterId, env: &Env) -> Result<Self, PkiError> {
        let authority = pki::Authority::create(cluster, env)?;
        let trust = TrustBundle::new(authority.certificate())?;
        Ok(Self {
            cluster,
            held: Held::new(authority, trust),
            join_key: JoinKey::draw(&*env.rng),
            home: None,
            env: env.clone(),
        })
    }

    /// The authority that another member has handed over.
    pub(crate) fn receive(
        cluster: ClusterId,
        secrets: &MemberSecrets,
        authorities: &str,
        env: &Env,
    ) -> Result<Self, PkiError> {
        let authority = pki::Authority::from_secret_pem(secrets.authority.as_bytes())?;
        let trust = TrustBundle::from_pem(authorities.as_bytes())?;
        Ok(Self {
            cluster,
            held: Held::new(authority, trust),
            join_key: JoinKey::from_bytes(secrets.join_key),
            home: None,
            env: env.clone(),
        })
    }

    /// Keeps it in a data directory, readable by the owner alone.
    pub(crate) fn save(&self, home: &Home) -> Result<(), HomeError> {
        let (disk, dir) = (&*self.env.disk, dir(home));
        let held = self.held.read();
        held.authority.save(disk, &dir)?;
        held.trust.save(disk, &dir)?;
        home.write_secret("pki", JOIN_KEY, self.join_key.secret_bytes())
    }

    /// The authority kept in a data directory.
    ///
    /// # Errors
    /// Something is missing or damaged.
    pub fn load(home: &Home, env: &Env) -> Result<Self, HomeError> {
        let (disk, dir) = (&*env.disk, dir(home));
        let key_path = dir.join(JOIN_KEY);
        let missing = |path: PathBuf| HomeError::Damaged {
            path,
            reason: "it is missing or cut short",
        };
        let authority = pki::Authority::load(disk, &dir)?;
        let trust = TrustBundle::load(disk, &dir)?;
        let key: Option<[u8; 32]> = home
            .read(&key_path)?
            .and_then(|bytes| bytes.try_into().ok());
        let authority = authority.ok_or_else(|| missing(dir.join("authority.pem")))?;
        let held = Held::new(
            authority,
            trust.ok_or_else(|| missing(dir.join("trust.pem")))?,
        );
        held.write().next = succession::load(disk, &dir)?;
        Ok(Self {
            cluster: home.occupant()?.cluster,
            held,
            home: Some(home.clone()),
            join_key: JoinKey::from_bytes(key.ok_or_else(|| missing(key_path))?),
            env: env.clone(),
        })
    }

    /// The authorities that this member trusts.
    #[must_use]
    pub fn trust(&self) -> TrustBundle {
        self.held.read().trust.clone()
    }

    /// Gives the node of `home` a new certificate if two thirds of the present one's time are over;
    /// returns the credentials to use.
    ///
    /// # Errors
    /// There are none, or the disk refuses.
    pub fn renewed(&self, home: &Home, address: &str) -> Result<Credentials, HomeError> {
        let present = self.credentials(home)?;
        if self.env.clock.now() < present.renew_at() {
            return Ok(present);
        }
        self.renew(home, address)
    }

    fn credentials(&self, home: &Home) -> Result<Credentials, HomeError> {
        let dir = dir(home);
        let kept = Credentials::load(&*self.env.disk, &dir)?;
        kept.ok_or_else(|| HomeError::Damaged {
            path: dir.join("node.pem"),
            reason: "it is missing",
        })
    }

    fn renew(&self, home: &Home, address: &str) -> Result<Credentials, HomeError> {
        let key = NodeKey::generate()?;
        let chain = self.sign(&key.request()?, home.occupant()?.node, address)?;
        let chain = chain.iter().map(|der| der.to_vec().into()).collect();
        let next = Credentials::new(key, chain)?;
        next.save(&*self.env.disk, &dir(home))?;
        Ok(next)
    }

    pub(crate) fn sign(
        &self,
        request: &[u8],
        node: NodeId,
        address: &str,
    ) -> Result<Vec<Bytes>, PkiError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let subject = Subject {
            cluster: self.cluster,
            node,
            names: vec![host.to_owned()],
        };
        let authority = self.held.read().authority.clone();
        let chain = authority.sign(request, &subject, NODE_LIFETIME, &self.env)?;
        Ok(chain
            .iter()
            .map(|der| Bytes::copy_from_slice(der))
            .collect())
    }
}

#[async_trait]
impl Authority for ClusterAuthority {
    async fn token(&self, ttl: Duration) -> Result<String, String> {
        let token = self
            .join_key
            .issue(self.cluster, &self.trust(), ttl, &self.env);
        token
            .map(|token| token.to_secret_text())
            .map_err(|e| e.to_string())
    }

    async fn check_token(&self, token: &str, now: TimestampMs) -> Result<(), TokenRefused> {
        let refused = |error: pki::TokenError| TokenRefused {
            reason: error.to_string(),
        };
        let token: JoinToken = token.parse().map_err(refused)?;
        self.join_key
            .verify(&token, self.cluster, now)
            .map_err(refused)
    }

    async fn check_request(&self, request: &Bytes) -> Result<(), String> {
        // Signing is the only complete check; what comes out is thrown away.
        let nobody = self.sign(request, NodeId(u64::MAX), "localhost:1");
        nobody.map(|_| ()).map_err(|e| e.to_string())
    }

    async fn prepare_next(&self) -> Result<Bytes, String> {
        self.make_next().map_err(|e| e.to_string())
    }

    async fn certify(
        &self,
        request: &Bytes,
        node: NodeId,
        address: &str,
    ) -> Result<Certified, String> {
        let chain = self.sign(request, node, address);
        Ok(Certified {
            chain: chain.map_err(|e| e.to_string())?,
            authorities: self.trust().to_pem(),
            secrets: MemberSecrets {
                authority: self.held.read().authority.to_secret_pem(),
                join_key: *self.join_key.secret_bytes(),
            },
        })
    }
}
