//! One API server for all tests of this program, with the CRD installed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use devcluster::{Cluster, Options, Profile, Progress};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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

    /// Installs it, also once more after it was deleted.
    pub async fn install_crd(&self) -> anyhow::Result<()> {
        let crd = dbclaim::api::crd::database_claims()?;
        let crd: DynamicObject = serde_json::from_value(crd)?;
        let resource = ApiResource::erase::<CustomResourceDefinition>(&());
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

    /// The definitions that this API server has.
    pub fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
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

/// The API server's process, which a test may kill.
pub struct ApiServer {
    id: Pid,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl ApiServer {
    pub fn kill(&self) {
        kill(self.id, Signal::SIGKILL).expect("the API server can be killed");
    }

    /// The same with the same data; it ends with what is returned.
    pub fn start_again(&self) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.envs(self.environment.iter().cloned());
        let (stdin, stdout) = (std::process::Stdio::null(), std::process::Stdio::null());
        command
            .stdin(stdin)
            .stdout(stdout)
            .stderr(std::process::Stdio::null());
        command
            .kill_on_drop(true)
            .spawn()
            .expect("the API server can be started")
    }
}

impl Suite {
    /// The process that answers here: the one child of ours that has this cluster's folder in its arguments.
    pub fn api_server(&self) -> ApiServer {
        let folder = self.cluster.dir().to_string_lossy().into_owned();
        let read = |id: i32, file: &str| {
            let bytes = std::fs::read(format!("/proc/{id}/{file}")).ok()?;
            let parts = bytes.split(|it| *it == 0).filter(|it| !it.is_empty());
            Some(
                parts
                    .map(|it| OsStr::from_bytes(it).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        let processes = std::fs::read_dir("/proc").unwrap();
        let ids = processes.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let found = ids.filter_map(|id| {
            let mut arguments = read(id, "cmdline")?.into_iter();
            let program = PathBuf::from(arguments.next()?);
            let arguments: Vec<_> = arguments.collect();
            let ours = |it: &OsString| it.to_string_lossy().contains(&folder);
            let server = program.file_name()? == "kube-apiserver" && arguments.iter().any(ours);
            let pairs = read(id, "environ")?.into_iter().filter_map(|it| {
                let (name, value) = it.to_str()?.split_once('=')?;
                Some((name.into(), value.into()))
            });
            server.then(|| ApiServer {
                id: Pid::from_raw(id),
                program,
                arguments,
                environment: pairs.collect(),
            })
        });
        found.last().expect("the API server runs")
    }
}
