//! Stands in for our agents where Pods do not really run: reports for every Pod that it initialised its volume and
//! serves, as the agent would, so that claims become Ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dbclaim::api::protocol::{
    Applied, Credentials, Initialized, MemberConfig, MemberPhase, Report, TlsReport, WriteTest, path,
};
use dbclaim::api::{key, label, manager};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Semaphore;

/// Reports on their way at once.
const AT_ONCE: usize = 16;
/// Tries of one report, and the time between them.
const TRIES: u32 = 50;
const PACE: Duration = Duration::from_millis(200);

/// What is known of a member.
#[derive(Debug, Default)]
struct Member {
    pod: Option<String>,
    config: Option<String>,
    reported: Option<(String, String)>,
}

enum Seen {
    Pod(Box<Pod>),
    Config(Box<ConfigMap>),
}

/// Reports for all members. Never ends.
pub async fn play(client: Client) -> anyhow::Result<()> {
    let ours = watcher::Config::default().labels(&format!("{}={}", label::MANAGED_BY, label::MANAGER));
    let pods = watcher(Api::<Pod>::all(client.clone()), ours.clone())
        .default_backoff()
        .applied_objects();
    let maps = watcher(Api::<ConfigMap>::all(client.clone()), ours)
        .default_backoff()
        .applied_objects();
    let mut seen = futures::stream::select(
        pods.map_ok(|pod| Seen::Pod(Box::new(pod))).boxed(),
        maps.map_ok(|map| Seen::Config(Box::new(map))).boxed(),
    );
    let mut members: HashMap<(String, String), Member> = HashMap::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(next) = seen.next().await {
        // The watch goes on by itself.
        let Ok(next) = next else { continue };
        let Some((claim, fact)) = fact(&next) else {
            continue;
        };
        let member = members.entry(claim.clone()).or_default();
        match fact {
            Fact::Pod(uid) => member.pod = Some(uid),
            Fact::Config(generation) => member.config = Some(generation),
        }
        let Some(state) = member.pod.clone().zip(member.config.clone()) else {
            continue;
        };
        if member.reported.as_ref() != Some(&state) {
            member.reported = Some(state.clone());
            let (client, places) = (client.clone(), places.clone());
            tokio::spawn(async move {
                let _place = places.acquire().await;
                send(&client, &claim, &state).await;
            });
        }
    }
    Ok(())
}

enum Fact {
    Pod(String),
    Config(String),
}

fn fact(seen: &Seen) -> Option<((String, String), Fact)> {
    match seen {
        Seen::Pod(pod) => {
            let claim = (pod.namespace()?, pod.labels().get(key::CLAIM)?.clone());
            pod.status.as_ref()?.pod_ip.as_ref()?;
            Some((claim, Fact::Pod(pod.uid()?)))
        }
        Seen::Config(map) => {
            let claim = (map.namespace()?, map.labels().get(key::CLAIM)?.clone());
            let config: MemberConfig =
                serde_json::from_str(map.data.as_ref()?.get(path::MEMBER_FILE)?).ok()?;
            Some((claim, Fact::Config(config.generation)))
        }
    }
}

/// Tries until the report is taken: what it needs may not be there yet.
async fn send(client: &Client, claim: &(String, String), state: &(String, String)) {
    for _ in 0..TRIES {
        if report(client, claim, state).await.is_ok() {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
    eprintln!("no report for {}/{}", claim.0, claim.1);
}

async fn report(
    client: &Client,
    (namespace, claim): &(String, String),
    (pod, _): &(String, String),
) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(&format!("{claim}-db-admin")).await?;
    let entry = |key| secret.data.as_ref().and_then(|data| data.get(key));
    let credentials = entry(path::CREDENTIALS_FILE).context("no credentials yet")?;
    let credentials: Credentials = serde_json::from_slice(&credentials.0)?;
    let certificate = entry(path::CERTIFICATE_FILE).context("no certificate yet")?;
    let certificate = dbclaim::certificate::first(std::str::from_utf8(&certificate.0)?)?;
    // Reports of one claim can overtake each other, so each says what is in force now.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = maps.get(&format!("{claim}-db-config")).await?;
    let config = config.data.as_ref().and_then(|data| data.get(path::MEMBER_FILE));
    let config: MemberConfig = serde_json::from_str(config.context("no configuration yet")?)?;
    let report = Report {
        v: dbclaim::api::protocol::FORMAT,
        agent: "stand-in".into(),
        pod_uid: pod.clone(),
        phase: MemberPhase::Running,
        trouble: None,
        version: Some("17.5".into()),
        initialized: Some(Initialized {
            at: "2026-01-01T00:00:00Z".into(),
            system_identifier: "7".into(),
        }),
        applied: Applied {
            config: config.generation,
            credentials: credentials.generation,
        },
        pending_restart: vec![],
        write_test: Some(WriteTest {
            ok: true,
            message: None,
        }),
        disk_percent: Some(5),
        tls: Some(TlsReport {
            certificate: dbclaim::certificate::fingerprint(&certificate),
            ca: dbclaim::certificate::fingerprint(&entry(path::CA_FILE).context("no ca.crt yet")?.0),
            verified: true,
            ..TlsReport::default()
        }),
    };
    let patch = json!({"metadata": {"annotations": {key::REPORT: serde_json::to_string(&report)?}}});
    let as_agent = PatchParams {
        field_manager: Some(manager::AGENT.into()),
        ..PatchParams::default()
    };
    maps.patch(&format!("{claim}-db-1-report"), &as_agent, &Patch::Merge(patch))
        .await?;
    Ok(())
}
