//! States that a claim can be in, by name.

use dbclaim::api::protocol::{MemberPhase, Report, WriteTest};
use dbclaim::api::v1::{EngineName, SizeName};
use dbclaim::plan::observed::{ContainerTrouble, Detail, Growth, LastEnd, Pod, SecretState, Volume, Warning};
use dbclaim::render::{Kind, Slot};

use crate::at;

use crate::cluster::{Cluster, Reads, silent};

/// A claim whose Pod has started, and of which nothing is known yet.
pub fn started() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.settle();
    cluster.controllers();
    cluster
}

pub fn pod(cluster: &mut Cluster) -> &mut Pod {
    match &mut cluster.pod().unwrap().child.detail {
        Detail::Pod(pod) => pod,
        _ => panic!("a Pod"),
    }
}

pub fn volume(cluster: &mut Cluster) -> &mut Volume {
    match &mut cluster.volume().unwrap().child.detail {
        Detail::Volume(volume) => volume,
        _ => panic!("a volume"),
    }
}

/// The agent in the Pod says something else.
pub fn say(
    cluster: &mut Cluster,
    phase: MemberPhase,
    trouble: Option<(&str, &str)>,
    change: impl FnOnce(&mut Report),
) {
    let uid = cluster.pod().unwrap().child.uid.clone();
    let mut report = cluster
        .report()
        .cloned()
        .unwrap_or_else(|| silent(&uid, phase, None));
    (report.pod_uid, report.phase) = (uid.clone(), phase);
    report.trouble = silent(&uid, phase, trouble).trouble;
    change(&mut report);
    cluster.say(report);
}

pub fn trouble(cluster: &mut Cluster, reason: &str, message: &str) {
    pod(cluster).trouble = Some(ContainerTrouble {
        container: "database".into(),
        image: "docker.io/library/postgres:17".into(),
        reason: reason.into(),
        message: message.into(),
    });
}

/// A named state.
pub type Row = (&'static str, Cluster);

pub fn row(name: &'static str, mut cluster: Cluster, change: impl FnOnce(&mut Cluster)) -> Row {
    change(&mut cluster);
    (name, cluster)
}

/// On the way to Ready, and where it can stop.
pub fn on_the_way() -> Vec<Row> {
    [
        before_the_container(),
        by_an_event(),
        of_the_container(),
        of_the_engine(),
    ]
    .concat()
}

fn before_the_container() -> Vec<Row> {
    vec![
        row("nothing is there", Cluster::new(), |_| {}),
        row("no Pod", started(), |it| {
            it.objects.retain(|it| it.child.name != "orders-db-1-0");
        }),
        row("no node has room", started(), |it| {
            pod(it).unschedulable = Some("0/3 nodes are available: 3 Insufficient memory.".into());
        }),
        row("the volume keeps the Pod from a node", started(), |it| {
            volume(it).bound = false;
            let why = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found";
            pod(it).unschedulable = Some(why.into());
        }),
    ]
}

/// What a controller or the kubelet says by an Event.
fn by_an_event() -> Vec<Row> {
    let warned = |kind, reason: &str, message: &str| {
        let mut cluster = started();
        cluster.warning = Some(Warning {
            kind,
            name: "orders-db-1".into(),
            reason: reason.into(),
            message: message.into(),
        });
        cluster
    };
    let failed = "create Pod orders-db-1-0 in StatefulSet orders-db-1 failed error: pods \"orders-db-1-0\" is forbidden: ";
    let no_pod = |words: &str| {
        let mut cluster = warned(Kind::StatefulSet, "FailedCreate", &format!("{failed}{words}"));
        cluster.objects.retain(|it| it.child.kind != Kind::Pod);
        cluster
    };
    let unbound = |message: &str| {
        let mut cluster = warned(Kind::PersistentVolumeClaim, "ProvisioningFailed", message);
        volume(&mut cluster).bound = false;
        cluster
    };
    let quota = "exceeded quota: team, requested: limits.memory=512Mi, used: limits.memory=2Gi, limited: limits.memory=2Gi";
    let disk = "MountVolume.SetUp failed for volume \"pvc-1\": no such device.";
    vec![
        row("a quota forbids the Pod", no_pod(quota), |_| {}),
        row(
            "Pod Security forbids the Pod",
            no_pod("violates PodSecurity \"restricted:latest\": x"),
            |_| {},
        ),
        row(
            "a policy forbids the Pod",
            no_pod("denied by the image policy"),
            |_| {},
        ),
        row(
            "there is no StorageClass",
            unbound("no persistent volumes available for this claim and no storage class is set"),
            |_| {},
        ),
        row(
            "the StorageClass does not exist",
            unbound("storageclass.storage.k8s.io \"fast\" not found"),
            |_| {},
        ),
        row(
            "the provisioner fails",
            unbound("rpc error: code = ResourceExhausted desc = out of space"),
            |_| {},
        ),
        row(
            "the volume cannot be mounted",
            warned(Kind::Pod, "FailedMount", disk),
            |_| {},
        ),
    ]
}

fn of_the_container() -> Vec<Row> {
    vec![
        row("the image is not there", started(), |it| {
            trouble(
                it,
                "ImagePullBackOff",
                "Back-off pulling image \"docker.io/library/postgres:17\"",
            );
        }),
        row("the image is not there, without a word", started(), |it| {
            trouble(it, "ErrImagePull", "");
        }),
        row("the container crashes", started(), |it| {
            trouble(
                it,
                "CrashLoopBackOff",
                "back-off 40s restarting failed container=database pod=orders-db-1-0",
            );
        }),
        row("the container failed, without a word", started(), |it| {
            trouble(it, "Error", "");
        }),
        row("the container used too much memory", started(), |it| {
            trouble(it, "OOMKilled", "");
        }),
        row("the container cannot be made", started(), |it| {
            trouble(
                it,
                "CreateContainerConfigError",
                "configmap \"orders-db-config\" not found",
            );
        }),
    ]
}

fn of_the_engine() -> Vec<Row> {
    let unready = || {
        let mut cluster = Cluster::ready();
        cluster.serve(false);
        cluster
    };
    vec![
        row("the agent is silent", started(), |_| {}),
        row("the agent initialises", started(), |it| {
            say(it, MemberPhase::Initializing, None, |_| {});
        }),
        row("the agent waits for something", started(), |it| {
            say(
                it,
                MemberPhase::Starting,
                Some(("VolumeInUse", "another postmaster holds the volume")),
                |_| {},
            );
        }),
        row("the engine recovers", unready(), |it| {
            say(it, MemberPhase::Recovering, None, |_| {});
        }),
        row("the engine stops", unready(), |it| {
            say(it, MemberPhase::Stopping, None, |_| {});
        }),
        row("the Pod stops", Cluster::ready(), |it| {
            it.pod().unwrap().child.deleting = true;
        }),
        row("the node is lost", unready(), |it| pod(it).node_silent = true),
        row("the container was killed a while ago", started(), |it| {
            let at = at(30);
            pod(it).last_end = Some(LastEnd {
                container: "database".into(),
                reason: "OOMKilled".into(),
                at,
            });
        }),
        row("the write test is still to come", unready(), |it| {
            say(it, MemberPhase::Running, None, |report| report.write_test = None);
        }),
        row(
            "the volume does not tell of its data yet",
            Cluster::ready(),
            |it| {
                it.said_initialized = false;
                it.record().unwrap().initialized = None;
            },
        ),
        row("the endpoint is not listed", unready(), |_| {}),
    ]
}

/// Where a claim does not serve, or not all of it is well, and time does not help.
pub fn in_trouble() -> Vec<Row> {
    [
        with_the_engine(),
        crate::access::with_the_application(),
        with_certificates(),
        with_names(),
        with_the_volume(),
        with_its_growth(),
        short_of_ready(),
    ]
    .concat()
}

fn with_the_engine() -> Vec<Row> {
    let refused = |percent: Option<u8>| {
        let mut cluster = Cluster::ready();
        say(&mut cluster, MemberPhase::Running, None, |report| {
            let message = Some("could not extend file: No space left on device".into());
            report.write_test = Some(WriteTest { ok: false, message });
            report.disk_percent = percent;
        });
        cluster
    };
    vec![
        row("writes are refused", refused(Some(40)), |_| {}),
        row("the volume is full", refused(Some(100)), |_| {}),
        row("the volume is empty", Cluster::ready(), |it| {
            say(
                it,
                MemberPhase::Blocked,
                Some((
                    "DataMissing",
                    "data of system 73 is expected, but the volume is empty; attach the volume that has it or restore a backup",
                )),
                |_| {},
            );
        }),
        row("the engine does not stay up", Cluster::ready(), |it| {
            say(
                it,
                MemberPhase::Failed,
                Some(("EngineFailed", "exit status 1; its last lines:\nFATAL: x")),
                |_| {},
            );
        }),
        row(
            "the engine alone was killed for want of memory",
            Cluster::ready(),
            |it| {
                say(
                    it,
                    MemberPhase::Recovering,
                    Some(("OutOfMemory", "the engine was killed by signal 9")),
                    |_| {},
                );
            },
        ),
        row("the agent gives no reason", Cluster::ready(), |it| {
            say(it, MemberPhase::Blocked, None, |_| {});
        }),
    ]
}

fn with_certificates() -> Vec<Row> {
    let shown = |verified: bool, trouble: &str| {
        let mut cluster = Cluster::ready();
        say(&mut cluster, MemberPhase::Running, None, |report| {
            let tls = report.tls.as_mut().unwrap();
            tls.verified = verified;
            tls.trouble = Some(format!(
                "the certificate in /etc/dbclaim/credentials/tls.crt {trouble}"
            ));
        });
        cluster
    };
    vec![
        row(
            "clients refuse the certificate",
            shown(false, "has expired"),
            |_| {},
        ),
        row(
            "clients accept the certificate before the one that is spoiled",
            shown(true, "does not belong to the private key beside it"),
            |_| {},
        ),
        row(
            "clients need not look at the certificate",
            shown(false, "has expired"),
            |it| it.spec.tls.required = false,
        ),
    ]
}

fn with_names() -> Vec<Row> {
    vec![
        row("a name is taken", Cluster::new(), |it| it.foreign(Slot::Service)),
        row("the volume's name is taken", Cluster::new(), |it| {
            it.foreign(Slot::Volume);
        }),
        row("a former claim is being removed", Cluster::ready(), |it| {
            it.recreate();
            it.objects
                .retain(|it| it.child.name == "orders-db-1-report" || it.child.name == "orders-db-1");
            it.objects
                .retain(|it| !matches!(it.child.detail, Detail::StatefulSet { .. }));
        }),
    ]
}

fn with_the_volume() -> Vec<Row> {
    vec![
        row("a former claim's volume is being removed", started(), |it| {
            it.volume().unwrap().child.deleting = true;
        }),
        row("the volume is being deleted", Cluster::ready(), |it| {
            it.volume().unwrap().child.deleting = true;
        }),
        row("the volume is gone", Cluster::ready(), |it| {
            it.remove(Slot::Volume);
        }),
        row("the volume lost its record", Cluster::ready(), |it| {
            it.remove(Slot::StatefulSet);
            it.controllers();
            it.record().unwrap().initialized = None;
        }),
        row("the volume is of another class", Cluster::ready(), |it| {
            it.spec.storage_class_name = Some("fast".into());
        }),
        row("the volume is of another version", Cluster::ready(), |it| {
            it.spec.version = Some("18".into());
        }),
    ]
}

/// A claim that asks for a larger volume than it has, and of whose growth this is known.
pub fn growing(growth: Growth, warning: Option<(Kind, &str, &str)>) -> Cluster {
    let mut cluster = Cluster::ready();
    cluster.spec.storage = Some("20Gi".into());
    cluster.settle();
    volume(&mut cluster).growth = (growth != Growth::default()).then(|| Box::new(growth));
    cluster.warning = warning.map(|(kind, reason, message)| Warning {
        kind,
        name: "orders-db-1".into(),
        reason: reason.into(),
        message: message.into(),
    });
    cluster
}

fn with_its_growth() -> Vec<Row> {
    let none = Growth::default;
    let pvc = Kind::PersistentVolumeClaim;
    let failed = "resize volume \"pvc-1\" by resizer \"disk.csi.acme.com\" failed: rpc error: code = ResourceExhausted desc = the pool is full.";
    let left = "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC.";
    let said = |type_: &str, words: &str| Some((type_.to_owned(), words.to_owned()));
    let on_node = || Growth {
        on_node: true,
        ..none()
    };
    let node_failed = Growth {
        failure: said("NodeResizeError", "resize2fs failed"),
        ..on_node()
    };
    let infeasible = Growth {
        infeasible: true,
        failure: said("ControllerResizeInfeasible", ""),
        ..none()
    };
    let by_an_event = || growing(none(), Some((pvc, "VolumeResizeFailed", failed)));
    vec![
        row("the volume grows", growing(none(), None), |_| {}),
        row(
            "the node enlarges the file system",
            growing(on_node(), None),
            |_| {},
        ),
        row("the driver cannot enlarge the volume", by_an_event(), |_| {}),
        row(
            "there is no driver that enlarges the volume",
            growing(none(), Some((pvc, "ExternalExpanding", left))),
            |_| {},
        ),
        row(
            "the node cannot enlarge the file system",
            growing(node_failed, None),
            |_| {},
        ),
        row(
            "the volume can never be as large",
            growing(infeasible, None),
            |_| {},
        ),
        row("the volume is full and does not grow", by_an_event(), |it| {
            say(it, MemberPhase::Running, None, |report| {
                let message = Some("could not extend file: No space left on device".into());
                report.write_test = Some(WriteTest { ok: false, message });
                report.disk_percent = Some(100);
            });
        }),
    ]
}

/// A MySQL that is to be larger.
fn enlarged() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.spec.engine = EngineName::Mysql;
    cluster.live();
    cluster.spec.size = SizeName::Medium;
    cluster
}

/// It serves, or goes; not all is as it shall be.
fn short_of_ready() -> Vec<Row> {
    vec![
        row("the admin Secret is unreadable", Cluster::ready(), |it| {
            it.reads = Reads::Always;
            if let SecretState::Present { credentials, .. } = &mut it.admin {
                *credentials = None;
            }
        }),
        row("a new password is on its way", Cluster::ready(), |it| {
            it.remove(Slot::AdminSecret);
            it.controllers();
            it.settle();
        }),
        row("a restart is pending", Cluster::ready(), |it| {
            it.settings.agent_image = "registry.acme.com/dbclaim:0.2.0".into();
        }),
        row("settings wait for a restart", Cluster::ready(), |it| {
            say(it, MemberPhase::Running, None, |report| {
                report.pending_restart = vec!["max_connections".into(), "shared_buffers".into()];
            });
        }),
        row("its Pod is resized", enlarged(), |_| {}),
        row("its Pod cannot be resized", enlarged(), |it| {
            it.not_in_place = Some("pods/resize is forbidden".into());
        }),
        row("paused", Cluster::ready(), |it| it.spec.paused = true),
        row("being deleted", Cluster::ready(), |it| it.deleting = true),
    ]
}
