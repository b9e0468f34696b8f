//! The API: the custom resource's types and every string that is shared with the cluster.

pub mod condition;
pub mod crd;
pub mod protocol;
pub mod v1;
pub mod wire;

/// API group of all our kinds, and prefix of our labels and annotations.
pub const GROUP: &str = "platform.acme.com";
/// `apiVersion` of a claim.
pub const API_VERSION: &str = "platform.acme.com/v1";
/// `kind` of a claim.
pub const KIND: &str = "DatabaseClaim";
/// On claims whose deletion policy is Delete, and on no others.
pub const FINALIZER: &str = "platform.acme.com/delete-data";

/// Recommended labels: <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>.
pub mod label {
    /// The engine.
    pub const NAME: &str = "app.kubernetes.io/name";
    /// The claim.
    pub const INSTANCE: &str = "app.kubernetes.io/instance";
    /// [`DATABASE`].
    pub const COMPONENT: &str = "app.kubernetes.io/component";
    /// [`MANAGER`].
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// [`MANAGER`].
    pub const PART_OF: &str = "app.kubernetes.io/part-of";
    /// Revision of its StatefulSet that a Pod was made from (`ControllerRevisionHashLabelKey` of
    /// `k8s.io/api/apps/v1`).
    pub const REVISION: &str = "controller-revision-hash";
    /// Value of [`COMPONENT`].
    pub const DATABASE: &str = "database";
    /// Value of [`MANAGED_BY`]; also the selector of every watch.
    pub const MANAGER: &str = "dbclaim";
}

/// Label and annotation keys.
pub mod key {
    /// Label: name of the claim.
    pub const CLAIM: &str = "platform.acme.com/claim";
    /// Label: team that owns the claim. May change, so it is in no selector.
    pub const TEAM: &str = "platform.acme.com/team";
    /// Annotation on a PVC: [`super::protocol::Identity`] as JSON.
    pub const IDENTITY: &str = "platform.acme.com/identity";
    /// Annotation on a report ConfigMap: [`super::protocol::Report`] as JSON.
    pub const REPORT: &str = "platform.acme.com/report";
    /// Annotation on every object of ours: hash of what was written last.
    pub const APPLIED: &str = "platform.acme.com/applied";
    /// Annotation on a StatefulSet and its Pods: hash of what needs a restart to change.
    pub const RESTART_HASH: &str = "platform.acme.com/restart-hash";
    /// Annotation on a StatefulSet and its Pods: hash of what the claim's owner has asked for that takes a
    /// restart. Where it differs, the restart is granted.
    pub const ASKED: &str = "platform.acme.com/asked";
    /// Annotation on a claim: any other value than before asks for one restart of the database.
    pub const RESTART: &str = "platform.acme.com/restart";
    /// Annotation on a claim: any other value than before asks for new credentials.
    pub const ROTATE: &str = "platform.acme.com/rotate-credentials";
    /// Annotation on a claim: any other value than before ends the previous credentials at once.
    pub const END_PREVIOUS: &str = "platform.acme.com/end-previous-credentials";
    /// Annotation on a Pod: wanted generations, so that the kubelet delivers changed files at once.
    pub const WANTED: &str = "platform.acme.com/wanted";
}

/// Field managers of server-side apply and of our other writes.
pub mod manager {
    /// The operator's objects.
    pub const OPERATOR: &str = "dbclaim";
    /// The operator's status of a claim.
    pub const STATUS: &str = "dbclaim-status";
    /// The agent's report.
    pub const AGENT: &str = "dbclaim-agent";
}
