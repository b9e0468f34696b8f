//! The API: the custom resource's types and every string that is shared with the cluster.

pub mod protocol;

/// API group of all our kinds, and prefix of our labels and annotations.
pub const GROUP: &str = "platform.acme.com";

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
    /// Annotation on a Pod: wanted generations, so that the kubelet delivers changed files at once.
    pub const WANTED: &str = "platform.acme.com/wanted";
}

/// Field managers of server-side apply and of our other writes.
pub mod manager {
    /// The operator's objects.
    pub const OPERATOR: &str = "dbclaim";
    /// The agent's report.
    pub const AGENT: &str = "dbclaim-agent";
}
