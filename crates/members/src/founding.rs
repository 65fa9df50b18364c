//! How a data directory comes to belong to a cluster: `cluster init` founds one, `cluster join`
//! enters one. Both write everything else first and the identity last, so that either can be
//! repeated after a crash, and neither can happen twice.

use crate::desk::{JoinReply, JoinRequest, UnreadableReply};
use crate::home::{Home, HomeError, Identity};
use crate::model::FeatureLevels;
use crate::secrets::{self, ClusterAuthority};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_pki::{Credentials, JoinToken, NodeKey, PkiError, TokenError, join_config};
use floeberg_rpc::{CallError, Doorway, RefusalCode, knock};
use floeberg_types::{ClusterId, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why a data directory does not belong to a cluster now.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The data directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A member refused.
    #[error("{address} refused: {message}")]
    Refused {
        /// Which member.
        address: String,
        /// Why.
        message: String,
    },
    /// No member answered.
    #[error(
        "no member could be asked ({reasons}): name one that runs with `--peer` or peer.seeds, by its \
         node-to-node port, and open that. If a certificate was refused, the token is older than the \
         cluster's authority: make a new one with `floeberg cluster token`"
    )]
    Nobody {
        /// What happened, by member.
        reasons: String,
    },
    /// The answer is not one.
    #[error(transparent)]
    Reply(#[from] UnreadableReply),
}

/// Founds a cluster in an empty data directory: its id, its authority, and node 1.
///
/// # Errors
/// The directory belongs to somebody, or the disk refuses.
pub fn found(home: &Home, address: &str, env: &Env) -> Result<Identity, FoundingError> {
    home.empty()?;
    let identity = Identity {
        cluster: ClusterId::from_bytes(env.rng.id128()),
        node: NodeId(1),
    };
    let authority = ClusterAuthority::create(identity.cluster, env)?;
    let key = NodeKey::generate()?;
    let chain = authority.sign(&key.request()?, identity.node, address)?;
    enter(home, identity, &authority, key, chain, env)?;
    Ok(identity)
}

/// A node that wants to join.
pub struct Applicant<'a> {
    /// Its data directory.
    pub home: &'a Home,
    /// As it was printed by `floeberg cluster token`.
    pub token: &'a str,
    /// Members to ask, host and port.
    pub members: &'a [String],
    /// Where the others will reach it.
    pub address: &'a str,
    /// What fails together with it.
    pub labels: BTreeMap<String, String>,
    /// What its binary can work at.
    pub features: FeatureLevels,
    /// The version of its binary.
    pub version: &'a str,
    /// The account that it is set to.
    pub account: &'a str,
    /// The region that it is set to.
    pub region: &'a str,
}

impl Applicant<'_> {
    /// Asks the members one after the other until one lets it in, and keeps what it gets.
    ///
    /// # Errors
    /// Nobody does, or the disk refuses.
    pub async fn join(&self, env: &Env) -> Result<Identity, FoundingError> {
        self.home.empty()?;
        let token: JoinToken = self.token.parse()?;
        let doorway = Doorway::Pinned(join_config(&token, env.clock.clone())?);
        self.join_by(env, async |address: &str, body| {
            knock(address, doorway.clone(), body, PATIENCE).await
        })
        .await
    }

    /// The same over another way to the members: `knock` takes an address and the body of
    /// [`Method::Join`](floeberg_rpc::Method::Join).
    ///
    /// # Errors
    /// As [`Self::join`].
    pub async fn join_by(
        &self,
        env: &Env,
        knock: impl AsyncFn(&str, Bytes) -> Result<Bytes, CallError>,
    ) -> Result<Identity, FoundingError> {
        self.home.empty()?;
        let key = NodeKey::generate()?;
        let request = JoinRequest {
            token: self.token.to_owned(),
            // One request for all attempts: whoever answers, it is the same node id.
            certificate_request: key.request()?.into(),
            address: self.address.to_owned(),
            labels: self.labels.clone(),
            features: self.features,
            version: self.version.to_owned(),
            account: self.account.to_owned(),
            region: self.region.to_owned(),
        };
        let reply = self.ask(&request, knock).await?;
        let identity = Identity {
            cluster: reply.cluster,
            node: reply.node,
        };
        let (secrets, authorities) = (&reply.secrets, &reply.authorities);
        let authority = ClusterAuthority::receive(identity.cluster, secrets, authorities, env)?;
        enter(self.home, identity, &authority, key, reply.chain, env)?;
        Ok(identity)
    }

    async fn ask(
        &self,
        request: &JoinRequest,
        knock: impl AsyncFn(&str, Bytes) -> Result<Bytes, CallError>,
    ) -> Result<JoinReply, FoundingError> {
        let mut reasons = Vec::new();
        for address in self.members {
            let asked = knock(address, request.encode()).await;
            match asked {
                Ok(body) => return Ok(JoinReply::decode(body)?),
                Err(CallError::Refused(refusal)) => {
                    let message = refusal.message;
                    // Another member may lead, or be less busy; what is wrong with the request
                    // itself is wrong everywhere.
                    if matches!(refusal.code, RefusalCode::NotServing | RefusalCode::Busy) {
                        reasons.push(format!("{address}: {message}"));
                    } else {
                        let address = address.clone();
                        return Err(FoundingError::Refused { address, message });
                    }
                }
                Err(error) => reasons.push(format!("{address}: {error}")),
            }
        }
        if reasons.is_empty() {
            reasons.push("none is known".to_owned());
        }
        let reasons = reasons.join("; ");
        Err(FoundingError::Nobody { reasons })
    }
}

pub(crate) fn enter(
    home: &Home,
    identity: Identity,
    authority: &ClusterAuthority,
    key: NodeKey,
    chain: Vec<Bytes>,
    env: &Env,
) -> Result<(), FoundingError> {
    home.prepare()?;
    let chain = chain.iter().map(|der| der.to_vec().into()).collect();
    let credentials = Credentials::new(key, chain)?;
    authority.save(home)?;
    credentials.save(&*env.disk, &secrets::dir(home))?;
    home.take(identity)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Authority as _;
    use std::path::Path;

    fn home(env: &Env, dir: &str) -> Home {
        Home::new(Path::new(dir), env.disk.clone())
    }

    #[tokio::test]
    async fn a_founded_cluster_has_node_1_and_an_authority_that_lets_others_in() {
        let (env, _) = Env::simulated(3);
        let first = home(&env, "/one");
        let identity = found(&first, "n1.example:7000", &env).unwrap();
        assert_eq!(identity.node, NodeId(1));
        let again = found(&first, "n1.example:7000", &env).unwrap_err();
        assert!(again.to_string().contains("belongs to node 1"), "{again}");
        let credentials = Credentials::load(&*env.disk, &secrets::dir(&first)).unwrap();
        assert_eq!(
            credentials.unwrap().identity(),
            (identity.cluster, NodeId(1))
        );
        let authority = ClusterAuthority::load(&first, &env).unwrap();
        let token = authority.token(Duration::from_secs(60)).await.unwrap();
        let now = env.clock.now();
        authority.check_token(&token, now).await.unwrap();
        let late = authority.check_token(&token, now.plus_ms(60_000)).await;
        assert!(late.unwrap_err().to_string().contains("expired"));
    }

    #[tokio::test]
    async fn every_member_can_let_the_next_one_in() {
        let (env, _) = Env::simulated(3);
        let first = home(&env, "/one");
        let identity = found(&first, "[::1]:7000", &env).unwrap();
        let mut authority = ClusterAuthority::load(&first, &env).unwrap();
        for node in 2..4 {
            let key = NodeKey::generate().unwrap();
            let request = key.request().unwrap().into();
            authority.check_request(&request).await.unwrap();
            let node = NodeId(node);
            let got = authority.certify(&request, node, "n2:7000").await.unwrap();
            let received =
                ClusterAuthority::receive(identity.cluster, &got.secrets, &got.authorities, &env);
            let next = home(&env, &format!("/node-{node}"));
            let me = Identity { node, ..identity };
            enter(&next, me, &received.unwrap(), key, got.chain, &env).unwrap();
            assert_eq!(next.occupant().unwrap(), me);
            // The next one is let in by the one before it.
            authority = ClusterAuthority::load(&next, &env).unwrap();
        }
        let garbage = Bytes::from_static(b"not a request");
        assert!(authority.check_request(&garbage).await.is_err());
    }

    #[test]
    fn a_certificate_is_renewed_in_time_and_not_before() {
        let (env, control) = Env::simulated(3);
        let first = home(&env, "/one");
        found(&first, "n1:7000", &env).unwrap();
        let authority = ClusterAuthority::load(&first, &env).unwrap();
        let before = authority.renewed(&first, "n1:7000").unwrap().expires();
        assert_eq!(
            authority.renewed(&first, "n1:7000").unwrap().expires(),
            before
        );
        control.jump_clock(61 * 24 * 3600 * 1000);
        let after = authority.renewed(&first, "n1:7000").unwrap();
        assert!(after.expires() > before);
        assert_eq!(after.identity().1, NodeId(1));
        let kept = Credentials::load(&*env.disk, &secrets::dir(&first)).unwrap();
        assert_eq!(kept.unwrap().expires(), after.expires());
    }

    #[tokio::test]
    async fn who_asks_nobody_is_told_to_name_a_member() {
        let (env, _) = Env::simulated(3);
        let first = home(&env, "/one");
        found(&first, "n1:7000", &env).unwrap();
        let authority = ClusterAuthority::load(&first, &env).unwrap();
        let token = authority.token(Duration::from_secs(60)).await.unwrap();
        let second = home(&env, "/two");
        let applicant = |token| Applicant {
            home: &second,
            token,
            members: &[],
            address: "n2:7000",
            labels: BTreeMap::new(),
            features: FeatureLevels { low: 1, high: 1 },
            version: "0.1.0",
            account: "000000000000",
            region: "us-east-1",
        };
        let error = applicant(&token).join(&env).await.unwrap_err();
        assert!(error.to_string().contains("`--peer`"), "{error}");
        let error = applicant("nonsense").join(&env).await.unwrap_err();
        assert!(matches!(error, FoundingError::Token(_)), "{error}");
        assert_eq!(second.identity().unwrap(), None);
    }
}
