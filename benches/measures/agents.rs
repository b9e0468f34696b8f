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
use tokio::task::JoinSet;

/// Reports on their way at once.
const AT_ONCE: usize = 16;
/// Time before a report that was not taken is sent again, in the beginning and later.
const PACE: Duration = Duration::from_millis(200);
const SLOW_PACE: Duration = Duration::from_secs(2);

/// What is known of a member.
#[derive(Debug, Default)]
struct Member {
    pod: Option<Runs>,
    config: Option<String>,
    reported: Option<(Runs, String)>,
}

/// A Pod that runs, and what it was told last. An agent that is told anything reports again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Runs {
    uid: String,
    wanted: Option<String>,
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
    // Ends with this one.
    let mut sending = JoinSet::new();
    while let Some(next) = seen.next().await {
        // The watch goes on by itself.
        let Ok(next) = next else { continue };
        let Some((claim, fact)) = fact(&next) else {
            continue;
        };
        let member = members.entry(claim.clone()).or_default();
        match fact {
            Fact::Pod(runs) => member.pod = Some(runs),
            Fact::Config(generation) => member.config = Some(generation),
        }
        let Some(state) = member.pod.clone().zip(member.config.clone()) else {
            continue;
        };
        if member.reported.as_ref() != Some(&state) {
            member.reported = Some(state.clone());
            let (client, places) = (client.clone(), places.clone());
            while sending.try_join_next().is_some() {}
            sending.spawn(async move {
                send(&client, &places, &claim, &state.0.uid).await;
            });
        }
    }
    Ok(())
}

enum Fact {
    Pod(Runs),
    Config(String),
}

fn fact(seen: &Seen) -> Option<((String, String), Fact)> {
    match seen {
        Seen::Pod(pod) => {
            let claim = (pod.namespace()?, pod.labels().get(key::CLAIM)?.clone());
            pod.status.as_ref()?.pod_ip.as_ref()?;
            let wanted = pod.annotations().get(key::WANTED).cloned();
            Some((
                claim,
                Fact::Pod(Runs {
                    uid: pod.uid()?,
                    wanted,
                }),
            ))
        }
        Seen::Config(map) => {
            let claim = (map.namespace()?, map.labels().get(key::CLAIM)?.clone());
            let config: MemberConfig =
                serde_json::from_str(map.data.as_ref()?.get(path::MEMBER_FILE)?).ok()?;
            Some((claim, Fact::Config(config.generation)))
        }
    }
}

/// Tries until the report is taken: what it needs may not be there yet, and on a busy machine not for long.
async fn send(client: &Client, places: &Semaphore, claim: &(String, String), pod: &str) {
    let mut pace = PACE;
    loop {
        let turn = places.acquire().await;
        let sent = report(client, claim, pod).await;
        // Whoever waits must not keep others from reporting.
        drop(turn);
        if sent.is_ok() {
            return;
        }
        tokio::time::sleep(pace).await;
        pace = (pace * 2).min(SLOW_PACE);
    }
}

async fn report(client: &Client, (namespace, claim): &(String, String), pod: &str) -> anyhow::Result<()> {
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
        pod_uid: pod.to_owned(),
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
            previous_until: credentials.previous_until(),
        },
        pending_restart: vec![],
        write_test: Some(WriteTest {
            ok: true,
            message: None,
        }),
        disk_percent: Some(5),
        access: None,
        password_set_back: None,
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
