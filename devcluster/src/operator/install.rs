//! Installs the operator by its chart, and waits until it serves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Namespace, Pod};
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::runtime::wait::{self, await_condition};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where the operator runs.
pub const NAMESPACE: &str = "dbclaim-system";

/// The release, and the Deployment that it makes.
const RELEASE: &str = "dbclaim";

/// What is installed, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Installation<'a> {
    /// The file that says where the cluster is.
    pub kubeconfig: &'a Path,
    /// The context in it; its current one when `None`.
    pub context: Option<&'a str>,
    /// The `helm` program.
    pub helm: &'a Path,
    /// The chart's folder.
    pub chart: &'a Path,
    /// The operator's image, with a tag; the nodes have it already.
    pub image: &'a str,
    /// More values of the chart, an object; `null` for none.
    pub values: &'a Value,
    /// How long the operator may take to serve.
    pub deadline: Duration,
}

/// Why the operator is not installed, or does not serve.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The image's name has no tag.
    #[error("image {0:?} has no tag: a devcluster image is named repository:tag")]
    Untagged(String),
    /// The kubeconfig cannot be used.
    #[error("could not use the kubeconfig {path:?}")]
    ReadKubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The API server refused or did not answer.
    #[error("could not {action}")]
    Api {
        /// What was attempted.
        action: &'static str,
        /// The answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// Watching the Deployment failed.
    #[error("could not watch the operator's Deployment")]
    Watch(#[from] wait::Error),
    /// `helm` could not be run.
    #[error("could not run {program:?}")]
    RunHelm {
        /// The program.
        program: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// `helm` gave up.
    #[error("helm ended with {status} while installing the operator:\n{said}")]
    Helm {
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        said: String,
    },
    /// The operator does not serve in time.
    #[error("the operator is not available after {deadline:?}; what was seen:\n{seen}")]
    NotAvailable {
        /// How long it had.
        deadline: Duration,
        /// The Deployment's conditions, the Pods' states, and the end of their logs.
        seen: String,
    },
}

/// Installs or upgrades the operator in namespace [`NAMESPACE`], which enforces Pod Security `restricted`, and
/// waits until its Deployment is available.
///
/// # Errors
/// When the chart cannot be installed, or the operator does not serve within the deadline; the message then
/// says what its Pods do instead.
pub async fn install(installation: Installation<'_>) -> Result<(), InstallError> {
    let client = client(installation.kubeconfig, installation.context).await?;
    create_namespace(&client).await?;
    helm(installation).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let available = await_condition(deployments, RELEASE, |found: Option<&Deployment>| {
        found.is_some_and(serves)
    });
    match tokio::time::timeout(installation.deadline, available).await {
        Ok(outcome) => Ok(outcome.map(|_| ())?),
        Err(_) => Err(InstallError::NotAvailable {
            deadline: installation.deadline,
            seen: describe(&client).await,
        }),
    }
}

async fn client(kubeconfig: &Path, context: Option<&str>) -> Result<Client, InstallError> {
    let failed = |source| InstallError::ReadKubeconfig {
        path: kubeconfig.into(),
        source: Box::new(source),
    };
    let read = Kubeconfig::read_from(kubeconfig).map_err(failed)?;
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(read, &options)
        .await
        .map_err(failed)?;
    Client::try_from(config).map_err(api_error("make a client from the kubeconfig"))
}

/// Made here and not by helm, so that it enforces what the operator promises to fit.
async fn create_namespace(client: &Client) -> Result<(), InstallError> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let parameters = PatchParams::apply("devcluster").force();
    let written = Api::<Namespace>::all(client.clone())
        .patch(NAMESPACE, &parameters, &Patch::Apply(namespace))
        .await;
    written
        .map(|_| ())
        .map_err(api_error("create the operator's namespace"))
}

async fn helm(installation: Installation<'_>) -> Result<(), InstallError> {
    let Installation {
        kubeconfig,
        context,
        helm,
        chart,
        image,
        values,
        ..
    } = installation;
    let untagged = || InstallError::Untagged(image.into());
    let (repository, tag) = image
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .ok_or_else(untagged)?;
    let failed = |source| InstallError::RunHelm {
        program: helm.into(),
        source,
    };
    let mut child = Command::new(helm)
        .args(["upgrade", "--install", RELEASE])
        .arg(chart)
        .args(["--namespace", NAMESPACE, "--values", "-"])
        .args([
            "--set-string",
            &format!("image.repository={repository}"),
            "--set-string",
            &format!("image.tag={tag}"),
        ])
        .args([OsStr::new("--kubeconfig"), kubeconfig.as_os_str()])
        .args(context.map(|context| format!("--kube-context={context}")))
        // What the user's shell says about other clusters and releases is not meant for this one.
        .env_remove("HELM_DRIVER")
        .env_remove("HELM_KUBECONTEXT")
        .env_remove("HELM_NAMESPACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let values = if values.is_null() {
        json!({})
    } else {
        values.clone()
    };
    if let Some(mut input) = child.stdin.take() {
        // JSON is YAML. A helm that ends before reading says why itself.
        let _ = input.write_all(values.to_string().as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(InstallError::Helm {
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

/// Whether a rollout is over, as `kubectl rollout status` sees it.
fn serves(deployment: &Deployment) -> bool {
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let Some(status) = &deployment.status else {
        return false;
    };
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas == Some(wanted)
        && status.replicas == Some(wanted)
        && status.available_replicas == Some(wanted)
}

/// What a person would look at next: conditions, Pods, and the end of their logs. What cannot be read is said.
async fn describe(client: &Client) -> String {
    let mut seen = Vec::new();
    match Api::<Deployment>::namespaced(client.clone(), NAMESPACE)
        .get(RELEASE)
        .await
    {
        Ok(deployment) => seen.extend(deployment_lines(&deployment)),
        Err(error) => seen.push(format!("the Deployment cannot be read: {error}")),
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let selected = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    match pods.list(&selected).await {
        Ok(found) if found.items.is_empty() => seen.push("there is no Pod".into()),
        Ok(found) => {
            for pod in &found.items {
                seen.extend(pod_lines(pod));
                let parameters = LogParams {
                    tail_lines: Some(10),
                    ..LogParams::default()
                };
                if let Ok(log) = pods.logs(&pod.name_any(), &parameters).await {
                    seen.extend(log.lines().map(|line| format!("    {line}")));
                }
            }
        }
        Err(error) => seen.push(format!("the Pods cannot be read: {error}")),
    }
    seen.join("\n")
}

fn deployment_lines(deployment: &Deployment) -> Vec<String> {
    let conditions = deployment
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let bad = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition.status != "True" || condition.type_ == "ReplicaFailure");
    let line = |type_: &str, status: &str, message: &Option<String>| {
        format!(
            "Deployment {type_}={status}: {}",
            message.as_deref().unwrap_or("no message")
        )
    };
    bad.map(|condition| line(&condition.type_, &condition.status, &condition.message))
        .collect()
}

fn pod_lines(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let mut lines = vec![format!(
        "Pod {} is {}",
        pod.name_any(),
        status.phase.as_deref().unwrap_or("unknown")
    )];
    let conditions = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.status == "False");
    lines.extend(conditions.filter_map(|condition| {
        Some(format!(
            "  {}: {}",
            condition.type_,
            condition.message.as_deref()?
        ))
    }));
    lines.extend(status.container_statuses.iter().flatten().map(container_line));
    lines
}

fn container_line(container: &ContainerStatus) -> String {
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default().terminated;
    let now = match (state.waiting, state.terminated, state.running) {
        (Some(waiting), _, _) => format!(
            "waits: {} {}",
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default()
        ),
        (_, Some(ended), _) => format!("ended with code {}", ended.exit_code),
        (_, _, Some(_)) => "runs".into(),
        _ => "has no state".into(),
    };
    let before = last
        .map(|ended| format!(", ended with code {} before", ended.exit_code))
        .unwrap_or_default();
    format!(
        "  container {} {now}{before}, {} restarts",
        container.name, container.restart_count
    )
}

fn api_error(action: &'static str) -> impl FnOnce(kube::Error) -> InstallError {
    move |source| InstallError::Api {
        action,
        source: Box::new(source),
    }
}
