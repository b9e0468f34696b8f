//! Who is measured. Another operator is another implementation of [`Contender`]; the scenarios know nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use kube::Client;
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::agents;

/// An operator that turns claims into objects.
pub trait Contender: Send + Sync {
    /// For messages.
    fn name(&self) -> &'static str;
    /// Its chart.
    fn chart(&self) -> PathBuf;
    /// Namespace and name of its ServiceAccount.
    fn account(&self) -> (&'static str, &'static str);
    /// How it is started outside of the cluster; `/readyz` at `listen` says when it is ready.
    fn command(&self, kubeconfig: &Path, listen: SocketAddr) -> tokio::process::Command;
    /// Its program.
    fn program(&self) -> &Path;
    /// A claim of this name, ready to be posted.
    fn claim(&self, name: &str) -> Value;
    /// The kind of its claims.
    fn claims(&self) -> ApiResource;
    /// The kinds of the objects that it makes for a claim.
    fn kinds(&self) -> Vec<ApiResource>;
    /// How many objects that is for each claim.
    fn children(&self) -> usize;
    /// Selects those objects.
    fn selector(&self) -> String;
    /// The label on them that names the claim.
    fn claim_label(&self) -> &'static str;
    /// Its histogram of the seconds that one pass over a claim takes, on `/metrics`.
    fn pass_metric(&self) -> &'static str;
    /// Claims that it works on side by side.
    fn in_flight(&self) -> usize;
    /// Does on fake nodes what its Pods would do for a claim to become Ready. Never ends.
    fn play_pods(&self, client: Client) -> BoxFuture<'static, anyhow::Result<()>>;
}

/// This project.
#[derive(Debug)]
pub struct Dbclaim {
    /// The operator.
    pub program: PathBuf,
}

impl Contender for Dbclaim {
    fn name(&self) -> &'static str {
        "dbclaim"
    }

    fn chart(&self) -> PathBuf {
        crate::root().join("charts/dbclaim")
    }

    fn account(&self) -> (&'static str, &'static str) {
        (devcluster::operator::NAMESPACE, "dbclaim")
    }

    fn command(&self, kubeconfig: &Path, listen: SocketAddr) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg("run")
            .env("KUBECONFIG", kubeconfig)
            .env("DBCLAIM_AGENT_IMAGE", "devcluster.local/dbclaim:measured")
            .env("DBCLAIM_LISTEN", listen.to_string());
        command
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn claim(&self, name: &str) -> Value {
        json!({
            "apiVersion": dbclaim::api::API_VERSION, "kind": dbclaim::api::KIND, "metadata": {"name": name},
            "spec": {"engine": "postgres", "size": "small", "team": "checkout", "storage": "1Gi"},
        })
    }

    fn claims(&self) -> ApiResource {
        ApiResource::erase::<dbclaim::api::v1::DatabaseClaim>(&())
    }

    fn kinds(&self) -> Vec<ApiResource> {
        use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, rbac::v1 as rbac};
        vec![
            ApiResource::erase::<apps::StatefulSet>(&()),
            ApiResource::erase::<core::PersistentVolumeClaim>(&()),
            ApiResource::erase::<core::Service>(&()),
            ApiResource::erase::<core::ConfigMap>(&()),
            ApiResource::erase::<core::Secret>(&()),
            ApiResource::erase::<core::ServiceAccount>(&()),
            ApiResource::erase::<rbac::Role>(&()),
            ApiResource::erase::<rbac::RoleBinding>(&()),
        ]
    }

    fn children(&self) -> usize {
        dbclaim::render::Slot::ALL.len()
    }

    fn selector(&self) -> String {
        format!(
            "{}={}",
            dbclaim::api::label::MANAGED_BY,
            dbclaim::api::label::MANAGER
        )
    }

    fn claim_label(&self) -> &'static str {
        dbclaim::api::key::CLAIM
    }

    fn pass_metric(&self) -> &'static str {
        "dbclaim_reconcile_duration_seconds"
    }

    fn in_flight(&self) -> usize {
        16
    }

    fn play_pods(&self, client: Client) -> BoxFuture<'static, anyhow::Result<()>> {
        Box::pin(agents::play(client))
    }
}
