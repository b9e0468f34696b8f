//! The read side: fills one `Observed` per pass, from the cache and by reading what is not cached. It writes
//! nothing, and after it nobody reads.

pub mod cache;
mod events;
pub mod live;
mod packed;
mod particular;
pub mod reduce;
mod shapes;
mod text;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::api::protocol::{Credentials, FORMAT, Report, path};
use crate::api::wire::{Meta, MetaOnly};
use crate::api::{API_VERSION, manager};
use crate::certificate::Keys;
use crate::claim::ClaimId;
use crate::plan::observed::{Child, Detail, Integrity, Observed, Ownership, SecretState};
use crate::render::{Kind, Slot};
use cache::Cache;
use reduce::Seen;

/// Reading failed.
#[derive(Debug, Error)]
pub enum Error {
    /// One object.
    #[error("cannot read {kind} {name}: {source}")]
    Read {
        /// Kind.
        kind: &'static str,
        /// Name.
        name: String,
        /// The API client's error.
        source: kube::Error,
    },
}

/// What a pass asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The claim.
    pub id: &'a ClaimId,
    /// Its team, as its markers have it when their Secrets have it.
    pub team: &'a str,
    /// Objects that a POST found to exist and that no watch has shown.
    pub suspects: &'a [Slot],
    /// What is known of the Secrets.
    pub secrets: Known<'a>,
    /// Whether the claim has not been ready, or its volume has not grown, for so long that Events are worth a look.
    pub in_trouble: bool,
    /// Time of the pass: the Secrets are read when a certificate is to be renewed.
    pub now: Timestamp,
}

/// What a pass knows of the claim's Secrets before it looks.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    /// They are read whatever their markers say.
    Nothing,
    /// Nothing was ever done for the claim: they are read only if something of it, or of a former claim of its name,
    /// is there.
    Untouched,
    /// The pass before this one made both.
    Made(&'a MadeSecrets),
    /// They are read if a marker is missing, or if the agent that runs has no password from them yet.
    Doubtful,
    /// They are read if a marker is missing.
    Marked,
}

/// The two Secrets of a claim that were made together, from one password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeSecrets {
    /// UID of the agent's.
    pub admin: String,
    /// UID of the applications'.
    pub app: String,
}

/// Reads for passes; shared by all of them.
pub struct Observer {
    client: Client,
    /// The cache, which the controller feeds.
    pub cache: Cache,
    /// Fingerprints that were found to be what our own writes yield. Few: they do not depend on the claim.
    trusted: Mutex<HashSet<(Slot, u64)>>,
    looks: events::Looks,
}

impl Observer {
    /// An observer with an empty cache.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            cache: Cache::default(),
            trusted: Mutex::default(),
            looks: events::Looks::default(),
        }
    }

    /// Remembers fingerprints as ours.
    pub fn trust(&self, fingerprints: impl IntoIterator<Item = (Slot, u64)>) {
        self.trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(fingerprints);
    }

    fn is_trusted(&self, slot: Slot, fingerprint: u64) -> bool {
        self.trusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&(slot, fingerprint))
    }

    /// One snapshot.
    ///
    /// # Errors
    /// When the API server cannot be read.
    pub async fn observe(&self, ask: Ask<'_>) -> Result<Observed, Error> {
        let id = ask.id;
        let mut seen = self.cache.of(&(id.namespace.clone(), id.name.clone()));
        for slot in ask.suspects {
            let kind = slot.kind();
            if kind != Kind::Secret && !seen.iter().any(|it| it.kind == kind && it.name == slot.name(id)) {
                seen.extend(self.look_up(id, *slot).await?);
            }
        }
        // Whoever deletes a claim and keeps its objects takes the claim off them one by one. To put it back would
        // have them collected with it.
        let orphaned = seen
            .iter()
            .any(|it| it.controller.is_none() && it.kind != Kind::PersistentVolumeClaim);
        let mut children = Vec::with_capacity(seen.len());
        for seen in seen {
            children.push(self.child(id, seen).await?);
        }
        let mut observed = Observed {
            children,
            ..Observed::default()
        };
        self.secrets(ask, &mut observed).await?;
        if orphaned {
            observed.claim_gone = !self.still_there(id).await?;
        }
        if ask.in_trouble {
            observed.warning = self.warning(id, &observed).await;
        }
        Ok(observed)
    }

    /// The Secrets: neither listed nor watched, and read only where nothing else tells of them.
    async fn secrets(&self, ask: Ask<'_>, observed: &mut Observed) -> Result<(), Error> {
        let id = ask.id;
        let marked = |slot| {
            let marker = observed.slot(id, slot);
            marker.is_some_and(|it| !it.deleting && it.team.as_deref() == Some(ask.team))
        };
        let unknown = |report: &Report| report.applied.credentials == 0;
        let read = match ask.secrets {
            Known::Untouched if observed.children.is_empty() => {
                (observed.admin, observed.app) = (SecretState::Untried, SecretState::Untried);
                return Ok(());
            }
            Known::Made(MadeSecrets { admin, app }) => {
                let made = |uid: &String| SecretState::Made { uid: uid.clone() };
                (observed.admin, observed.app) = (made(admin), made(app));
                return Ok(());
            }
            Known::Nothing | Known::Untouched => true,
            Known::Doubtful if observed.current_report(id).is_some_and(unknown) => true,
            Known::Doubtful | Known::Marked => {
                let renewal = observed.renewal(id).is_some_and(|at| at <= ask.now);
                renewal || !marked(Slot::AdminMarker) || !marked(Slot::AppMarker)
            }
        };
        if read {
            observed.admin = self.secret(id, Slot::AdminSecret).await?;
            observed.app = self.secret(id, Slot::AppSecret).await?;
        }
        Ok(())
    }

    /// The claim as the API server has it now, by a quorum read: what survives deletion is made only for a
    /// claim that is still there.
    ///
    /// # Errors
    /// When the API server cannot be read.
    pub async fn still_there(&self, id: &ClaimId) -> Result<bool, Error> {
        let url = format!(
            "/apis/{API_VERSION}/namespaces/{}/databaseclaims/{}",
            id.namespace, id.name
        );
        let found: Option<MetaOnly> = self
            .get(&url, METADATA_ONLY)
            .await
            .map_err(read("DatabaseClaim", &id.name))?;
        Ok(found.is_some_and(|claim| {
            let claim = claim.metadata.object;
            claim.uid.as_deref() == Some(&id.uid) && claim.deletion_timestamp.is_none()
        }))
    }

    async fn child(&self, id: &ClaimId, seen: Seen) -> Result<Child, Error> {
        let ownership = ownership(id, &seen);
        let slot = Slot::ALL
            .into_iter()
            .find(|slot| slot.kind() == seen.kind && slot.name(id) == seen.name);
        let integrity = match slot {
            Some(slot) if ownership == Ownership::Ours && !self.is_trusted(slot, seen.fingerprint) => {
                let url = format!("{}/{}", seen.kind.path(&id.namespace), seen.name);
                let live: Option<Value> = self
                    .get(&url, "application/json")
                    .await
                    .map_err(read(seen.kind.name(), &seen.name))?;
                Integrity::Unknown(seen.fingerprint, Box::new(live.unwrap_or_default()))
            }
            _ => Integrity::Known(seen.fingerprint),
        };
        Ok(Child {
            kind: seen.kind,
            name: seen.name,
            uid: seen.uid,
            resource_version: seen.resource_version,
            ownership,
            deleting: seen.deleting,
            applied: seen.applied,
            integrity,
            team: seen.team,
            detail: seen.detail,
        })
    }

    async fn look_up(&self, id: &ClaimId, slot: Slot) -> Result<Option<Seen>, Error> {
        let (kind, name) = (slot.kind(), slot.name(id));
        let url = format!("{}/{name}", kind.path(&id.namespace));
        let found: Option<MetaOnly> = self
            .get(&url, METADATA_ONLY)
            .await
            .map_err(read(kind.name(), &name))?;
        Ok(found.and_then(|object| seen(kind, object.metadata)))
    }

    async fn secret(&self, id: &ClaimId, slot: Slot) -> Result<SecretState, Error> {
        let name = slot.name(id);
        let url = format!("{}/{name}", Kind::Secret.path(&id.namespace));
        let found: Option<Secret> = self
            .get(&url, "application/json")
            .await
            .map_err(read(Kind::Secret.name(), &name))?;
        let Some(secret) = found else {
            return Ok(SecretState::Absent);
        };
        // Nobody asks for the fingerprint of a Secret: `intact` looks at who owns its data.
        let meta = Meta {
            object: secret.metadata.clone(),
            fingerprint: 0,
        };
        let Some(seen) = reduce::metadata(Kind::Secret, &meta, Detail::None) else {
            return Ok(SecretState::Absent);
        };
        let entry = |key: &str| {
            secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map(|it| it.0.as_slice())
        };
        let credentials = match slot {
            Slot::AdminSecret => entry(path::CREDENTIALS_FILE)
                .and_then(|bytes| serde_json::from_slice::<Credentials>(bytes).ok())
                .filter(|it| !it.password.is_empty()),
            _ => entry("password")
                .and_then(|it| String::from_utf8(it.to_vec()).ok())
                .filter(|it| !it.is_empty())
                .map(|password| Credentials {
                    v: FORMAT,
                    password,
                    login: entry("username").and_then(|it| String::from_utf8(it.to_vec()).ok()),
                    ..Credentials::default()
                }),
        };
        let text = |key| {
            let bytes = entry(key).unwrap_or_default();
            String::from_utf8(bytes.to_vec()).unwrap_or_default()
        };
        let keys = Keys {
            ca: text(path::CA_FILE),
            ca_key: text(path::CA_KEY_FILE),
            certificate: text(path::CERTIFICATE_FILE),
            key: text(path::KEY_FILE),
        };
        let intact = intact(&secret);
        Ok(SecretState::Present {
            ownership: ownership(id, &seen),
            uid: seen.uid,
            credentials,
            keys: Box::new(keys),
            deleting: seen.deleting,
            applied: seen.applied.filter(|_| intact),
        })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str, accept: &str) -> Result<Option<T>, kube::Error> {
        let request = Request::get(url)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        match self.client.request::<T>(request).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

fn read(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Read { kind, name, source }
}

/// Detail that can be told from metadata alone.
pub fn detail(kind: Kind, meta: ObjectMeta) -> Detail {
    match kind {
        Kind::ConfigMap => reduce::config_map_detail(&meta),
        // Without its status it counts as not taken up, until the watch has told.
        Kind::StatefulSet => reduce::stateful_set(&meta, None, None),
        Kind::PersistentVolumeClaim => reduce::volume(&PersistentVolumeClaim {
            metadata: meta,
            ..PersistentVolumeClaim::default()
        }),
        Kind::Pod => reduce::pod(&meta, None, None),
        _ => Detail::None,
    }
}

/// What is kept of an object whose metadata an answer holds.
pub fn seen(kind: Kind, meta: Meta) -> Option<Seen> {
    let seen = reduce::metadata(kind, &meta, Detail::None)?;
    Some(Seen {
        detail: detail(kind, meta.object),
        ..seen
    })
}

fn ownership(id: &ClaimId, seen: &Seen) -> Ownership {
    if let Some(uid) = reduce::controlled_by_claim(seen) {
        return if uid == id.uid {
            Ownership::Ours
        } else {
            Ownership::FormerClaim { uid: uid.to_owned() }
        };
    }
    let labelled = seen.labelled && seen.claim.as_deref() == Some(&id.name);
    let ours = match &seen.controller {
        None => true,
        // A marker belongs to its Secret, a Pod to its StatefulSet, an EndpointSlice to its Service.
        Some((kind, ..)) => matches!(
            (seen.kind, kind.as_str()),
            (Kind::ConfigMap, "Secret") | (Kind::Pod, "StatefulSet") | (Kind::EndpointSlice, "Service")
        ),
    };
    if (labelled || is_recorded(id, seen)) && ours {
        Ownership::Ours
    } else {
        Ownership::Foreign
    }
}

/// Whether a volume's own record says that it was made for this claim. Its labels can be lost; without them it is in
/// no watch.
fn is_recorded(id: &ClaimId, seen: &Seen) -> bool {
    let Detail::Volume(volume) = &seen.detail else {
        return false;
    };
    let claim = volume.identity.as_ref().map(|it| it.claim.as_str());
    claim == Some(format!("{}/{}", id.namespace, id.name).as_str())
}

/// Whether nobody but us owns a part of a Secret's data; a hand edit takes fields from our entry.
fn intact(secret: &Secret) -> bool {
    let entries = secret.metadata.managed_fields.as_deref().unwrap_or_default();
    entries.iter().all(|entry| {
        entry.manager.as_deref() == Some(manager::OPERATOR)
            || entry
                .fields_v1
                .as_ref()
                .is_none_or(|fields| fields.0.get("f:data").is_none())
    })
}
