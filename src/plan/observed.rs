//! All that the planner may know of the cluster: one plain value per pass.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Step;
use crate::api::protocol::{Credentials, Identity, Report};
use crate::certificate::Keys;
use crate::claim::Claim;
use crate::claim::quantity::Bytes;
use crate::render::{Kind, Slot};

/// One snapshot of what belongs to a claim, or stands in its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Objects, each at most once.
    pub children: Vec<Child>,
    /// The agent's Secret.
    pub admin: SecretState,
    /// The applications' Secret.
    pub app: SecretState,
    /// Whether the API server says that the claim is gone, going, or another one. Asked only when a plan would
    /// make something that survives the claim, or when something of the claim has no owner any more.
    pub claim_gone: bool,
    /// Newest warning about the one object that holds the claim up. Asked only when it lasts.
    pub warning: Option<Warning>,
}

/// What a controller or the kubelet says about an object, from an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Kind of the object.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// Reason, such as `FailedCreate` or `ProvisioningFailed`.
    pub reason: String,
    /// Message.
    pub message: String,
}

impl Warning {
    /// Whether it is about the growth of a volume, by the reasons that resizers, the volume controller and the kubelet
    /// give: `VolumeResizeFailed`, `FileSystemResizeFailed`, `ExternalExpanding`.
    pub fn is_about_growth(&self) -> bool {
        ["Resiz", "Expan"].iter().any(|it| self.reason.contains(it))
    }

    /// Whether Kubernetes' own controller says that a driver has to enlarge the volume. It says so of every volume of
    /// a driver; it tells something only where no driver has taken that up.
    pub fn is_left_to_a_driver(&self) -> bool {
        self.reason == "ExternalExpanding"
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// UID; every write names it.
    pub uid: String,
    /// Version that was seen.
    pub resource_version: String,
    /// Whose it is.
    pub ownership: Ownership,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
    /// Value of the `applied` annotation.
    pub applied: Option<String>,
    /// Whether the fields that we wrote are still ours.
    pub integrity: Integrity,
    /// Value of the team label.
    pub team: Option<String>,
    /// What is particular to the kind.
    pub detail: Detail,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Of this claim, or adoptable: our labels, this claim's name, and no other controller.
    Ours,
    /// Controlled by a former claim of the same name.
    FormerClaim {
        /// UID of that claim.
        uid: String,
    },
    /// Somebody else's.
    Foreign,
}

/// Whether the fields that we wrote are still ours, told from `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub enum Integrity {
    /// As after our own last write.
    Known(u64),
    /// A fingerprint that we do not know, with the whole live object to compare.
    Unknown(u64, Box<Value>),
}

/// What is particular to a kind. Its JSON, and that of its parts, is for this process' own memory: nobody else reads it,
/// and it may change with every build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Detail {
    /// Nothing that matters.
    None,
    /// A workload.
    StatefulSet(Workload),
    /// A volume.
    Volume(Box<Volume>),
    /// A database Pod.
    Pod(Box<Pod>),
    /// A member's report, if there is one that can be read.
    Report(Option<Box<Report>>),
    /// A marker and the UID of the Secret that owns it.
    Marker {
        /// UID.
        secret_uid: String,
    },
    /// Addresses of a Service.
    Endpoints {
        /// Name of the Service.
        service: String,
        /// Whether one address is listed ready.
        ready: bool,
    },
}

/// A StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Hash of what its template would start.
    pub restart_hash: Option<String>,
    /// Hash of what the claim's owner had asked for when the template was written.
    pub asked: Option<String>,
    /// Whether its controller starts Pods from the newest template; before, it may use the one before.
    pub taken_up: bool,
    /// Revision from which its controller starts Pods.
    pub revision: Option<String>,
    /// Whether it shall have no Pod.
    pub stopped: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its record, if there is one that can be read.
    pub identity: Option<Identity>,
    /// `status.phase` is Bound.
    pub bound: bool,
    /// What it asks for.
    pub requested: Option<Bytes>,
    /// What it has.
    pub capacity: Option<Bytes>,
    /// Its class.
    pub storage_class: Option<String>,
    /// How its growth stands, where its status says something of it.
    pub growth: Option<Box<Growth>>,
    /// Whether this very version of it, as the API server has it, says that no volume was ever bound to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_bound: bool,
}

/// How far the growth of a volume has come, by what its driver's resizer and the kubelet write into its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// A resizer has taken it up.
    pub taken_up: bool,
    /// The volume has grown, and its file system follows on the node.
    pub on_node: bool,
    /// Trying again will not help.
    pub infeasible: bool,
    /// What failed last, such as `ControllerResizeError`, and in which words, which may be empty.
    pub failure: Option<(String, String)>,
}

/// A database Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Condition Ready.
    pub ready: bool,
    /// Hash of what it was started from.
    pub restart_hash: Option<String>,
    /// Hash of what the claim's owner had asked for when it was started.
    pub asked: Option<String>,
    /// Revision of the StatefulSet that it was started from.
    pub revision: Option<String>,
    /// What its agent was told last to take over.
    pub wanted: Option<String>,
    /// Memory that the database container may use, by its spec.
    pub requested_memory: Option<Bytes>,
    /// Memory that it may use by now.
    pub memory: Option<Bytes>,
    /// Why the kubelet does not resize it, in its words.
    pub resize_pending: Option<String>,
    /// Message of a PodScheduled condition that is False.
    pub unschedulable: Option<String>,
    /// First container that does not run as it should.
    pub trouble: Option<ContainerTrouble>,
    /// Node.
    pub node: Option<String>,
    /// How a container that runs again ended before.
    pub last_end: Option<LastEnd>,
    /// Condition Ready is False although every container is ready: only the node controller writes that, about
    /// a node that does not answer.
    pub node_silent: bool,
    /// When the Pod should have been gone: `deletionTimestamp`, which has the grace period in it.
    pub gone_by: Option<Timestamp>,
    /// Names of its containers other than the database, such as a proxy that a mesh adds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_containers: Vec<String>,
}

/// An end of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// Container.
    pub container: String,
    /// Reason, such as `OOMKilled` or `Error`.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A container that does not run as it should, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTrouble {
    /// Container.
    pub container: String,
    /// Image.
    pub image: String,
    /// Reason, such as `ImagePullBackOff` or `OOMKilled`.
    pub reason: String,
    /// Message; may be empty.
    pub message: String,
}

/// What is known of a Secret. Secrets are neither listed nor watched.
#[derive(Clone, Default, PartialEq)]
pub enum SecretState {
    /// It is there (its marker is) and was not read in this pass.
    #[default]
    Unread,
    /// Nothing of the claim was ever seen, so nobody has asked. It is made by POST, which says if there is one.
    Untried,
    /// The API server says that there is none.
    Absent,
    /// The pass before this one made it. What it says is not kept in memory.
    Made {
        /// UID.
        uid: String,
    },
    /// Read.
    Present {
        /// UID.
        uid: String,
        /// Whose it is.
        ownership: Ownership,
        /// What it says, where it can be read as what we write. The binding Secret has generation 0.
        credentials: Option<Credentials>,
        /// Keys and certificates, as they stand there; the binding Secret has `ca.crt` alone.
        keys: Box<Keys>,
        /// Whether it has a deletionTimestamp.
        deleting: bool,
        /// Hash of its content, to compare with what is desired.
        applied: Option<String>,
    },
}

impl std::fmt::Debug for SecretState {
    // A password must never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unread => f.write_str("Unread"),
            Self::Untried => f.write_str("Untried"),
            Self::Absent => f.write_str("Absent"),
            Self::Made { uid } => f.debug_struct("Made").field("uid", uid).finish(),
            Self::Present { uid, .. } => f
                .debug_struct("Present")
                .field("uid", uid)
                .finish_non_exhaustive(),
        }
    }
}

impl SecretState {
    /// Whether it was read and is not ours.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Present { ownership, .. } if *ownership != Ownership::Ours)
    }
}

impl Volume {
    /// Whether it asks for more than it has.
    pub fn is_growing(&self) -> bool {
        self.capacity.is_some() && self.requested > self.capacity
    }

    /// Whether its record says that it was made for a claim of this name and has no data yet.
    pub fn awaits_data(&self, id: &crate::claim::ClaimId) -> bool {
        let empty = |it: &Identity| it.claim == id.path() && it.initialized.is_none();
        self.identity.as_ref().is_some_and(empty)
    }

    /// Whether its record says that it holds data.
    pub fn is_initialized(&self) -> bool {
        self.identity.as_ref().is_some_and(|it| it.initialized.is_some())
    }
}

impl Observed {
    /// The object of a kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Child> {
        self.children
            .iter()
            .find(|child| child.kind == kind && child.name == name)
    }

    /// The object in a slot.
    pub fn slot(&self, id: &crate::claim::ClaimId, slot: Slot) -> Option<&Child> {
        self.find(slot.kind(), &slot.name(id))
    }

    /// The volume in our slot, if it is ours.
    pub fn volume(&self, id: &crate::claim::ClaimId) -> Option<(&Child, &Volume)> {
        let child = self.slot(id, Slot::Volume)?;
        match (&child.ownership, &child.detail) {
            (Ownership::Ours, Detail::Volume(volume)) => Some((child, volume)),
            _ => None,
        }
    }

    /// The API server has accepted what the steps ask of the volume, and a status told from here says so, without
    /// waiting for the watch to show it.
    pub fn promise(&mut self, steps: &[Step], claim: &Claim) {
        let enlarges =
            |step: &Step| matches!(step, Step::Apply { object, .. } if object.slot == Slot::Volume);
        let name = Slot::Volume.name(&claim.id);
        let mut children = self.children.iter_mut();
        if let Some(volume) = children.find(|it| it.kind == Slot::Volume.kind() && it.name == name)
            && let Detail::Volume(volume) = &mut volume.detail
            && steps.iter().any(enlarges)
        {
            volume.requested = Some(claim.storage_request);
        }
    }

    /// The Pod of the first member, if it is ours.
    pub fn pod(&self, id: &crate::claim::ClaimId) -> Option<(&Child, &Pod)> {
        let child = self.find(Kind::Pod, &id.pod(crate::claim::FIRST_MEMBER))?;
        match (&child.ownership, &child.detail) {
            (Ownership::Ours, Detail::Pod(pod)) => Some((child, pod)),
            _ => None,
        }
    }

    /// The workload, if it is ours.
    pub fn workload(&self, id: &crate::claim::ClaimId) -> Option<(&Child, &Workload)> {
        let child = self.slot(id, Slot::StatefulSet)?;
        match (&child.ownership, &child.detail) {
            (Ownership::Ours, Detail::StatefulSet(workload)) => Some((child, workload)),
            _ => None,
        }
    }

    /// The warning, if it is about this kind of object.
    pub fn warning(&self, kind: Kind) -> Option<&Warning> {
        self.warning.as_ref().filter(|warning| warning.kind == kind)
    }

    /// The warning, if it is about the growth of the volume.
    pub fn growth_warning(&self) -> Option<&Warning> {
        self.warning.as_ref().filter(|it| it.is_about_growth())
    }

    /// The report of the Pod that runs now; a former Pod's is history.
    pub fn current_report(&self, id: &crate::claim::ClaimId) -> Option<&Report> {
        let (pod, _) = self.pod(id)?;
        self.any_report(id).filter(|report| report.pod_uid == pod.uid)
    }

    /// The report, whichever Pod of this claim wrote it.
    pub fn any_report(&self, id: &crate::claim::ClaimId) -> Option<&Report> {
        let child = self.slot(id, Slot::Report)?;
        match (&child.ownership, &child.detail) {
            (Ownership::Ours, Detail::Report(report)) => report.as_deref(),
            _ => None,
        }
    }

    /// When a certificate is to be renewed, as the agent that runs has it.
    pub fn renewal(&self, id: &crate::claim::ClaimId) -> Option<Timestamp> {
        let tls = self.current_report(id)?.tls.as_ref()?;
        tls.due.as_ref()?.parse().ok()
    }

    /// Whether the volume certainly holds no data, and no Pod is there that could write any. `before`: whether the
    /// claim's status says that data was once created.
    pub fn is_vacant(&self, id: &crate::claim::ClaimId, before: bool) -> bool {
        let reported = self.any_report(id).is_some_and(|it| it.initialized.is_some());
        let pod = self.find(Kind::Pod, &id.pod(crate::claim::FIRST_MEMBER));
        let volume = self.volume(id);
        let awaits = volume.is_some_and(|(_, it)| it.awaits_data(id));
        let never_bound = volume.is_some_and(|(_, it)| it.never_bound);
        awaits && !before && !reported && (never_bound || pod.is_none())
    }

    /// Whether the read-write Service lists a ready address.
    pub fn endpoint_ready(&self, id: &crate::claim::ClaimId) -> bool {
        let base = id.base();
        self.children.iter().any(
            |child| matches!(&child.detail, Detail::Endpoints { service, ready: true } if *service == base),
        )
    }
}
