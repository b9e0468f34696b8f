//! One API server for all tests of this program, with the CRD installed.

use anyhow::Context as _;
use devcluster::{Cluster, Options, Profile, Progress};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::json;

/// What a test is given.
pub struct Suite {
    pub client: Client,
    /// Whether there is what Pods are played on.
    pub staged: tokio::sync::OnceCell<()>,
    cluster: Cluster,
}

impl Suite {
    /// Starts the API server and installs the CRD from `crds/`, as a user would.
    pub async fn start() -> anyhow::Result<Self> {
        let options = Options {
            profile: Profile::Api,
            name: None,
            progress: Progress::Stderr,
        };
        let cluster = Cluster::start(options).await?;
        let suite = Self {
            client: cluster.client()?,
            staged: tokio::sync::OnceCell::new(),
            cluster,
        };
        suite.install_crd().await?;
        Ok(suite)
    }

    async fn install_crd(&self) -> anyhow::Result<()> {
        let crd = dbclaim::api::crd::database_claims()?;
        let crd: DynamicObject = serde_json::from_value(crd)?;
        let resource = ApiResource::erase::<
            k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
        >(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        api.patch(&crd.name_any(), &PatchParams::apply("test"), &Patch::Apply(&crd))
            .await?;
        let established = kube::runtime::conditions::is_crd_established();
        let typed = Api::all(self.client.clone());
        let wait =
            kube::runtime::wait::await_condition(typed, "databaseclaims.platform.acme.com", established);
        tokio::time::timeout(std::time::Duration::from_secs(20), wait)
            .await
            .context("the CRD was not established within 20 s")??;
        Ok(())
    }

    /// A new namespace whose name begins with `name`.
    pub async fn namespace(&self, name: &str) -> String {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"generateName": format!("{name}-")}}));
        let made = namespaces
            .create(&PostParams::default(), &namespace.unwrap())
            .await;
        made.expect("a namespace can be made").name_any()
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.cluster.stop().await?)
    }

    /// How a program of its own reaches the API server.
    pub fn kubeconfig(&self) -> &std::path::Path {
        self.cluster.kubeconfig()
    }

    /// One event per request that the API server has answered.
    pub fn audit_log(&self) -> &std::path::Path {
        self.cluster.audit_log()
    }

    /// How to reach the API server, for clients of one's own.
    pub fn config(&self) -> kube::Config {
        self.cluster.config()
    }
}
