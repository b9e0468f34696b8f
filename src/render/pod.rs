//! The Pod of a member: the stock engine image, run by our agent as PID 1, under Pod Security `restricted`.
//! Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort,
    ContainerResizePolicy, DownwardAPIProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Settings, TERMINATION_GRACE};
use crate::api::protocol::{AGENT_PORT, path};
use crate::claim::quantity::{Bytes, Millicores};
use crate::claim::{Claim, FIRST_MEMBER};
use crate::engine::Engine;

/// The container of the engine and its agent.
pub const DATABASE: &str = "database";
const AGENT: &str = "agent";
const DATA: &str = "data";
const RUN: &str = "run";
const SHM: &str = "shm";
const CONFIG: &str = "config";
const CREDENTIALS: &str = "credentials";
const POD: &str = "pod";
const API: &str = "api";
/// Keys of the admin Secret that the Pod gets to see.
const MOUNTED: [&str; 4] = [
    path::CREDENTIALS_FILE,
    path::CA_FILE,
    path::CERTIFICATE_FILE,
    path::KEY_FILE,
];
/// Readable by the engine's group and nobody else.
const GROUP_READ: i32 = 0o440;

pub(super) fn spec(claim: &Claim, settings: &Settings) -> PodSpec {
    PodSpec {
        init_containers: Some(vec![install(settings)]),
        containers: vec![database(claim)],
        volumes: Some(volumes(claim)),
        service_account_name: Some(claim.id.base()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_GRACE.into()),
        image_pull_secrets: (!settings.pull_secrets.is_empty()).then(|| {
            settings
                .pull_secrets
                .iter()
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(claim.image.uid),
            run_as_group: Some(claim.image.gid),
            fs_group: Some(claim.image.gid),
            // Otherwise every start loosens the data directory, and engines refuse to start on it.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn install(settings: &Settings) -> Container {
    let (cpu, memory) = (Millicores(10), Bytes(32 * Bytes::MIB));
    Container {
        name: "install-agent".to_owned(),
        image: Some(settings.agent_image.clone()),
        command: Some(vec![
            "/dbclaim-agent".to_owned(),
            "install".to_owned(),
            path::AGENT_DIR.to_owned(),
        ]),
        volume_mounts: Some(vec![mount(AGENT, path::AGENT_DIR)]),
        resources: Some(resources(cpu, Millicores(500), memory)),
        security_context: Some(locked_down()),
        ..Container::default()
    }
}

fn database(claim: &Claim) -> Container {
    let engine = Engine::from(claim.engine);
    Container {
        name: DATABASE.to_owned(),
        image: Some(claim.image.reference.clone()),
        command: Some(vec![
            format!("{}/dbclaim-agent", path::AGENT_DIR),
            "run".to_owned(),
        ]),
        env: Some(vec![
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            EnvVar {
                name: "MEMBER".to_owned(),
                value: Some(FIRST_MEMBER.to_string()),
                ..EnvVar::default()
            },
        ]),
        ports: Some(vec![port("db", engine.port()), port("agent", AGENT_PORT)]),
        // No startup and no liveness probe: a recovery may take hours, and PID 1 is watched anyway.
        readiness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/readyz".to_owned()),
                port: IntOrString::String("agent".to_owned()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(2),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..Probe::default()
        }),
        resources: Some(database_resources(claim)),
        resize_policy: Some(["cpu", "memory"].map(in_place).to_vec()),
        security_context: Some(locked_down()),
        volume_mounts: Some(mounts()),
        ..Container::default()
    }
}

fn mounts() -> Vec<VolumeMount> {
    vec![
        VolumeMount {
            read_only: Some(true),
            ..mount(AGENT, path::AGENT_DIR)
        },
        mount(DATA, path::VOLUME),
        mount(RUN, path::RUN),
        mount(SHM, "/dev/shm"),
        VolumeMount {
            read_only: Some(true),
            ..mount(CONFIG, path::CONFIG)
        },
        VolumeMount {
            read_only: Some(true),
            ..mount(CREDENTIALS, path::CREDENTIALS)
        },
        VolumeMount {
            read_only: Some(true),
            ..mount(POD, path::POD)
        },
        VolumeMount {
            read_only: Some(true),
            ..mount(API, path::API)
        },
    ]
}

fn volumes(claim: &Claim) -> Vec<Volume> {
    let volume = |name: &str| Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    let id = &claim.id;
    vec![
        Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..volume(AGENT)
        },
        Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: id.member(FIRST_MEMBER),
                read_only: None,
            }),
            ..volume(DATA)
        },
        Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..volume(RUN)
        },
        Volume {
            // The default of 64 MiB fails large parallel hash joins; what is used counts as the container's.
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(quantity(Bytes(claim.size.memory.0 / 4))),
            }),
            ..volume(SHM)
        },
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: id.config(),
                ..ConfigMapVolumeSource::default()
            }),
            ..volume(CONFIG)
        },
        Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(id.admin_secret()),
                optional: Some(true),
                default_mode: Some(GROUP_READ),
                // Not the key of the authority: whoever takes over the database must not be able to issue.
                items: Some(MOUNTED.map(file).to_vec()),
            }),
            ..volume(CREDENTIALS)
        },
        Volume {
            downward_api: Some(DownwardAPIVolumeSource {
                items: Some(vec![downward("annotations", "metadata.annotations")]),
                default_mode: None,
            }),
            ..volume(POD)
        },
        Volume {
            projected: Some(api_access()),
            ..volume(API)
        },
    ]
}

/// A token for the agent alone, with what is needed to trust the API server.
fn api_access() -> ProjectedVolumeSource {
    ProjectedVolumeSource {
        default_mode: Some(GROUP_READ),
        sources: Some(vec![
            VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    path: "token".to_owned(),
                    expiration_seconds: Some(3600),
                    audience: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: "kube-root-ca.crt".to_owned(),
                    items: Some(vec![file("ca.crt")]),
                    optional: None,
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                downward_api: Some(DownwardAPIProjection {
                    items: Some(vec![downward("namespace", "metadata.namespace")]),
                }),
                ..VolumeProjection::default()
            },
        ]),
    }
}

/// A key under its own name.
fn file(name: &str) -> KeyToPath {
    KeyToPath {
        key: name.to_owned(),
        path: name.to_owned(),
        mode: None,
    }
}

fn downward(file: &str, field: &str) -> DownwardAPIVolumeFile {
    DownwardAPIVolumeFile {
        path: file.to_owned(),
        field_ref: Some(field_ref(field)),
        ..DownwardAPIVolumeFile::default()
    }
}

fn field(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(field_ref(field)),
            ..EnvVarSource::default()
        }),
        value: None,
    }
}

fn field_ref(field: &str) -> ObjectFieldSelector {
    ObjectFieldSelector {
        field_path: field.to_owned(),
        api_version: Some("v1".to_owned()),
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn in_place(resource: &str) -> ContainerResizePolicy {
    ContainerResizePolicy {
        resource_name: resource.to_owned(),
        restart_policy: "NotRequired".to_owned(),
    }
}

/// CPU and memory of the database container.
pub(super) fn database_resources(claim: &Claim) -> ResourceRequirements {
    let size = &claim.size;
    resources(size.cpu_request, size.cpu_limit, size.memory)
}

fn resources(cpu_request: Millicores, cpu_limit: Millicores, memory: Bytes) -> ResourceRequirements {
    let pair = |cpu: Millicores| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_string())),
            ("memory".to_owned(), quantity(memory)),
        ])
    };
    ResourceRequirements {
        requests: Some(pair(cpu_request)),
        limits: Some(pair(cpu_limit)),
        ..ResourceRequirements::default()
    }
}

fn quantity(bytes: Bytes) -> Quantity {
    Quantity(bytes.to_string())
}

fn locked_down() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}
