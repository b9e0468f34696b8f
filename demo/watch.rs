//! Shows a claim on its way to Ready.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use dbclaim::api::v1::DatabaseClaim;
use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

/// How long a claim may take before the demo gives up.
const DEADLINE: Duration = Duration::from_secs(180);

/// Prints each change of the claim's phase and Ready condition until it is Ready.
pub async fn until_ready(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(claims, config).default_backoff().applied_objects());
    let started = Instant::now();
    let mut shown = String::new();
    let follow = async {
        while let Some(event) = events.next().await {
            // A watch that broke is taken up again by itself.
            let Ok(claim) = event else { continue };
            let (line, ready) = describe(&claim);
            if line != shown {
                println!("  {:5.1} s  {line}", started.elapsed().as_secs_f64());
                shown = line;
            }
            if ready {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, follow)
        .await
        .with_context(|| format!("the claim was not Ready within {DEADLINE:?}; see the last line above"))
}

fn describe(claim: &DatabaseClaim) -> (String, bool) {
    let Some(status) = claim.status.as_ref().filter(|it| it.is_written()) else {
        return ("applied".to_owned(), false);
    };
    let phase = status.phase.map(|phase| format!("{phase:?}")).unwrap_or_default();
    let ready = status.conditions.iter().find(|it| it.type_ == "Ready");
    let current = status.observed_generation == claim.metadata.generation;
    let message = ready.map(|it| it.message.as_str()).unwrap_or_default();
    (
        format!("{phase}: {message}"),
        current && ready.is_some_and(|it| it.status == "True"),
    )
}
