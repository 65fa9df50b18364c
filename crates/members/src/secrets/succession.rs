//! The next authority beside the present one, and how the one takes the place of the other.

use super::{ClusterAuthority, dir};
use crate::home::{Home, HomeError};
use crate::plan::RotationPhase;
use bytes::Bytes;
use floeberg_env::Disk;
use floeberg_pki::{self as pki, Credentials, Fingerprint, PkiError, TrustBundle};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The next authority below the directory of the present one.
fn next_dir(dir: &Path) -> PathBuf {
    dir.join("next")
}

/// The next authority that is kept below `dir`.
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Arc<pki::Authority>>, PkiError> {
    Ok(pki::Authority::load(disk, &next_dir(dir))?.map(Arc::new))
}

impl ClusterAuthority {
    /// Makes an authority and keeps it as the next one.
    pub(super) fn make_next(&self) -> Result<Bytes, HomeError> {
        let made = pki::Authority::create(self.cluster, &self.env)?;
        let certificate = Bytes::copy_from_slice(made.certificate());
        let home = self.home.clone().ok_or(HomeError::Vacant {
            path: PathBuf::new(),
        })?;
        self.keep(&home, made)?;
        Ok(certificate)
    }

    /// Keeps the next authority as another member has handed it over.
    pub(crate) fn keep_next(
        &self,
        home: &Home,
        secret: &str,
        fingerprint: Fingerprint,
    ) -> Result<(), HomeError> {
        let next = pki::Authority::from_secret_pem(secret.as_bytes())?;
        if next.fingerprint()? != fingerprint {
            let reason = "another one was asked for";
            return Err(HomeError::Successor { reason });
        }
        self.keep(home, next)
    }

    fn keep(&self, home: &Home, next: pki::Authority) -> Result<(), HomeError> {
        let mut held = self.held.write();
        next.save(&*self.env.disk, &next_dir(&dir(home)))?;
        held.next = Some(Arc::new(next));
        Ok(())
    }

    /// The present or the next authority of this key.
    fn find(&self, fingerprint: Fingerprint) -> Option<Arc<pki::Authority>> {
        let held = self.held.read();
        let both = [Some(&held.authority), held.next.as_ref()];
        let mut both = both.into_iter().flatten();
        let found = both.find(|a| a.fingerprint().is_ok_and(|f| f == fingerprint));
        found.cloned()
    }

    /// Whether this member has the key of an authority.
    pub(crate) fn has(&self, fingerprint: Fingerprint) -> bool {
        self.find(fingerprint).is_some()
    }

    /// An authority with its key, for another member.
    pub(crate) fn secret_of(&self, fingerprint: Fingerprint) -> Option<String> {
        self.find(fingerprint).map(|found| found.to_secret_pem())
    }

    /// Does everything up to `phase`, durably, as far as it is not done; what to show and to trust
    /// from now on. Trust is widened before anything signs with the next authority, and narrowed
    /// after this node's own certificate is of it.
    pub(crate) fn take_over(
        &self,
        home: &Home,
        address: &str,
        next: Fingerprint,
        phase: RotationPhase,
    ) -> Result<(Credentials, TrustBundle), HomeError> {
        let reason = "its key is not here";
        let next = self.find(next).ok_or(HomeError::Successor { reason })?;
        self.trust_both(home, &next, phase)?;
        if phase < RotationPhase::Renew {
            return Ok((self.credentials(home)?, self.trust()));
        }
        self.sign_with(home, &next)?;
        let mut credentials = self.credentials(home)?;
        if !credentials.is_signed_by(next.certificate()) {
            credentials = self.renew(home, address)?;
        }
        if phase >= RotationPhase::Drop {
            self.trust_only(home, &next)?;
        }
        Ok((credentials, self.trust()))
    }

    fn trust_both(
        &self,
        home: &Home,
        next: &pki::Authority,
        phase: RotationPhase,
    ) -> Result<(), HomeError> {
        let mut held = self.held.write();
        let trust = match phase {
            // A next one that was given up before anybody used it is trusted no more.
            RotationPhase::Trust => TrustBundle::new(held.authority.certificate())?,
            _ => held.trust.clone(),
        };
        let trust = trust.with(next.certificate())?;
        if held.trust != trust {
            trust.save(&*self.env.disk, &dir(home))?;
            held.trust = trust;
        }
        Ok(())
    }

    fn sign_with(&self, home: &Home, next: &Arc<pki::Authority>) -> Result<(), HomeError> {
        let mut held = self.held.write();
        if held.authority.certificate() != next.certificate() {
            next.save(&*self.env.disk, &dir(home))?;
            held.authority = next.clone();
        }
        Ok(())
    }

    fn trust_only(&self, home: &Home, next: &pki::Authority) -> Result<(), HomeError> {
        let mut held = self.held.write();
        let (disk, dir) = (&*self.env.disk, dir(home));
        let trust = TrustBundle::new(next.certificate())?;
        if held.trust != trust {
            trust.save(disk, &dir)?;
            held.trust = trust;
        }
        held.next = None;
        Ok(pki::Authority::remove(disk, &next_dir(&dir))?)
    }
}
