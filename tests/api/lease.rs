//! Leader election against a real API server: several candidates in this process, each with its own client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use dbclaim::controller::{self, Context};
use dbclaim::lease::{Elector, Error, Leadership, Terms};
use futures::FutureExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Suite;
use crate::faults::{Fault, FaultLayer, Plan};
use crate::scene;

/// Short, but with room for a busy machine.
const TERMS: Terms = Terms {
    duration: Duration::from_secs(6),
    margin: Duration::from_secs(1),
    renew: Duration::from_secs(1),
    attempt: Duration::from_millis(900),
    retry: Duration::from_millis(100),
};
const DEADLINE: Duration = Duration::from_secs(60);
const NAME: &str = "dbclaim";

/// A candidate that runs.
struct Candidate {
    holder: String,
    leadership: Leadership,
    done: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Candidate {
    fn start(client: &Client, namespace: &str) -> Self {
        let elector = Elector::new(client.clone(), namespace, NAME, "replica", TERMS).unwrap();
        let done = CancellationToken::new();
        Self {
            holder: elector.holder().to_owned(),
            leadership: elector.leadership(),
            task: tokio::spawn(elector.run(done.clone())),
            done,
        }
    }

    async fn leads(&self) {
        let won = tokio::time::timeout(DEADLINE, self.leadership.acquired());
        won.await.expect("the candidate leads in time");
    }

    /// As SIGTERM does.
    async fn stop(self) {
        self.done.cancel();
        self.task.await.unwrap().expect("a clean end");
    }

    /// As SIGKILL does.
    async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn lost(self) -> Error {
        let ended = tokio::time::timeout(DEADLINE, self.task).await;
        let outcome = ended.expect("it ends in time").unwrap();
        assert!(!self.leadership.still_held());
        outcome.expect_err("leadership is lost")
    }
}

/// A client that breaks and writes down, as [`Plan`] says.
fn observed(mut config: kube::Config, plan: Arc<Plan>) -> Client {
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).unwrap();
    builder.with_layer(&FaultLayer(plan)).build()
}

fn leases(suite: &Suite, namespace: &str) -> Api<Lease> {
    Api::namespaced(suite.client.clone(), namespace)
}

async fn holder(leases: &Api<Lease>) -> String {
    let lease = leases.get(NAME).await.unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

async fn merge(leases: &Api<Lease>, change: Value) {
    let (parameters, change) = (PatchParams::default(), Patch::Merge(change));
    leases.patch(NAME, &parameters, &change).await.unwrap();
}

async fn eventually<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let started = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while !look().await {
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        pace.tick().await;
    }
}

/// Eight candidates; whoever wins is stopped or killed, until nobody is left. All the while they are watched.
pub async fn there_is_one_holder_at_any_time(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let mut candidates: Vec<_> = (0..8)
        .map(|_| Candidate::start(&suite.client, &namespace))
        .collect();
    let all: Vec<_> = candidates.iter().map(|it| it.leadership.clone()).collect();
    let watched = all.clone();
    let guard = tokio::spawn(async move {
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        loop {
            pace.tick().await;
            let holders = watched.iter().filter(|it| it.still_held()).count();
            assert!(holders <= 1, "{holders} hold the lease at once");
        }
    });
    for round in 0..8 {
        let wins = candidates.iter().map(|it| {
            let leadership = it.leadership.clone();
            async move { leadership.acquired().await }.boxed()
        });
        let wins: Vec<_> = wins.collect();
        let ((), winner, _) = tokio::time::timeout(DEADLINE, futures::future::select_all(wins))
            .await
            .expect("somebody wins");
        let mut winner = candidates.swap_remove(winner);
        assert_eq!(holder(&leases(suite, &namespace)).await, winner.holder);
        // Killed ones cost a term each.
        if round % 4 == 1 {
            winner.kill().await;
        } else {
            winner.stop().await;
        }
    }
    assert!(!guard.is_finished(), "{:?}", guard.await);
    guard.abort();
    let lease = leases(suite, &namespace).get(NAME).await.unwrap();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(8));
}

pub async fn a_released_lease_is_taken_at_once(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let first = Candidate::start(&suite.client, &namespace);
    first.leads().await;
    let plan = Plan::new(None);
    let second = Candidate::start(&observed(suite.config(), plan.clone()), &namespace);
    eventually("the standby watches", || async {
        plan.reads
            .lock()
            .unwrap()
            .iter()
            .any(|it| it.contains("watch=true"))
    })
    .await;
    let started = Instant::now();
    first.stop().await;
    second.leads().await;
    let took = started.elapsed();
    // Without the release it would be a term since the last renewal at least, one renewal less from here.
    assert!(took + TERMS.renew * 2 < TERMS.duration, "{took:?}");
    println!("handed over in {took:?}");
    second.stop().await;
    assert_eq!(holder(&leases(suite, &namespace)).await, "");
}

pub async fn a_silent_holder_is_succeeded_after_its_term(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let mut first = Candidate::start(&suite.client, &namespace);
    first.leads().await;
    let second = Candidate::start(&suite.client, &namespace);
    let leases = leases(suite, &namespace);
    let version = leases.get(NAME).await.unwrap().resource_version();
    eventually("a renewal", || async {
        leases.get(NAME).await.unwrap().resource_version() != version
    })
    .await;
    let killed = Instant::now();
    first.kill().await;
    second.leads().await;
    assert!(!first.leadership.still_held(), "both hold the lease");
    let took = killed.elapsed();
    println!("succeeded in {took:?}");
    assert!(took + TERMS.renew * 2 > TERMS.duration, "{took:?}");
    second.stop().await;
}

pub async fn a_renewal_survives_lost_answers_conflicts_and_refusals(suite: &Suite) {
    // The second write is the first renewal; the third is what follows from what went wrong.
    for fault in [Fault::LostResponse, Fault::Status(409), Fault::Status(500)] {
        let namespace = suite.namespace("lease").await;
        let plan = Plan::new(Some((2, fault)));
        let candidate = Candidate::start(&observed(suite.config(), plan.clone()), &namespace);
        candidate.leads().await;
        // A conflict of another's making: the version changes, the holder does not.
        let leases = leases(suite, &namespace);
        eventually("the fault", || async { plan.has_struck() }).await;
        merge(
            &leases,
            json!({"metadata": {"annotations": {"example.com/touched": "yes"}}}),
        )
        .await;
        let before = plan.writes.lock().unwrap().len();
        eventually("four more renewals", || async {
            plan.writes.lock().unwrap().len() >= before + 4
        })
        .await;
        assert!(candidate.leadership.still_held(), "{fault:?}");
        assert_eq!(holder(&leases).await, candidate.holder);
        candidate.stop().await;
    }
}

pub async fn a_holder_that_was_replaced_ends_without_another_write(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let candidate = Candidate::start(&suite.client, &namespace);
    candidate.leads().await;
    let leases = leases(suite, &namespace);
    merge(
        &leases,
        json!({"spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}}),
    )
    .await;
    let version = leases.get(NAME).await.unwrap().resource_version();
    let error = candidate.lost().await;
    assert!(
        matches!(&error, Error::Taken(_, other) if other == "other"),
        "{error}"
    );
    assert_eq!(leases.get(NAME).await.unwrap().resource_version(), version);
}

pub async fn a_deleted_lease_is_not_taken_before_its_term_is_over(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let mut first = Candidate::start(&suite.client, &namespace);
    first.leads().await;
    let plan = Plan::new(None);
    let second = Candidate::start(&observed(suite.config(), plan.clone()), &namespace);
    eventually("the standby watches", || async {
        plan.reads
            .lock()
            .unwrap()
            .iter()
            .any(|it| it.contains("watch=true"))
    })
    .await;
    // As if it could not reach the API server: it does not learn that the Lease is gone.
    first.kill().await;
    let deleted = leases(suite, &namespace)
        .delete(NAME, &DeleteParams::default())
        .await;
    deleted.unwrap();
    second.leads().await;
    assert!(!first.leadership.still_held(), "both hold the lease");
    second.stop().await;
}

/// As SIGSTOP does, to everything at once: the thread that renews is held up for longer than the term.
pub async fn a_holder_that_was_paused_past_its_term_sends_nothing(suite: &Suite) {
    for told_to_stop in [false, true] {
        let namespace = suite.namespace("lease").await;
        let config = suite.config();
        let play = async move {
            let plan = Plan::new(None);
            let candidate = Candidate::start(&observed(config, plan.clone()), &namespace);
            candidate.leads().await;
            std::thread::sleep(TERMS.duration);
            if told_to_stop {
                candidate.done.cancel();
            }
            let before = plan.writes.lock().unwrap().len();
            let error = candidate.lost().await;
            assert!(matches!(error, Error::Expired(_)), "{error}");
            let writes = plan.writes.lock().unwrap();
            assert_eq!(writes.len(), before, "{writes:#?}");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let played = tokio::task::spawn_blocking(move || runtime.unwrap().block_on(play));
        played.await.unwrap();
    }
}

/// An operator for one namespace that works while `leadership` says so.
struct Operator {
    context: Arc<Context>,
    plan: Arc<Plan>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Operator {
    fn start(suite: &Suite, namespace: &str, leadership: Leadership) -> Self {
        let config = scene::config(namespace);
        let plan = Plan::new(None);
        let client = observed(suite.config(), plan.clone());
        let context = Arc::new(Context::led(&client, &config, leadership));
        let stop = CancellationToken::new();
        let task = tokio::spawn(controller::run(client, config, context.clone(), stop.clone()));
        Self {
            context,
            plan,
            stop,
            task,
        }
    }

    fn writes(&self) -> Vec<String> {
        let writes = self.plan.writes.lock().unwrap();
        writes
            .iter()
            .map(|it| format!("{} {}", it.method, it.path))
            .collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Returns the claim's UID.
async fn create(suite: &Suite, namespace: &str, name: &str) -> String {
    let claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim",
        "metadata": {"name": name}, "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
    let claims: Api<DatabaseClaim> = Api::namespaced(suite.client.clone(), namespace);
    let claim = serde_json::from_value(claim).unwrap();
    let made = claims.create(&PostParams::default(), &claim).await.unwrap();
    made.metadata.uid.unwrap()
}

pub async fn a_standby_is_ready_and_writes_nothing_until_it_leads(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let leader = Candidate::start(&suite.client, &namespace);
    leader.leads().await;
    let standby = Candidate::start(&suite.client, &namespace);
    create(suite, &namespace, "early").await;
    let operator = Operator::start(suite, &namespace, standby.leadership.clone());
    eventually("the standby is ready", || async { operator.context.is_synced() }).await;
    create(suite, &namespace, "orders").await;
    // Time enough for a pass: that of an operator without election over the same claims.
    let other = suite.namespace("lease").await;
    let alone = Operator::start(suite, &other, Leadership::always());
    create(suite, &other, "orders").await;
    eventually("an operator that is alone writes", || async {
        !alone.writes().is_empty()
    })
    .await;
    assert_eq!(operator.writes(), Vec::<String>::new());
    leader.stop().await;
    for claim in ["early", "orders"] {
        eventually("the new leader writes", || async {
            operator.writes().iter().any(|it| it.contains(claim))
        })
        .await;
    }
    for operator in [operator, alone] {
        operator.stop().await;
    }
    standby.stop().await;
}

/// The lease runs out under an operator that goes on as if nothing had happened, as one does that was stopped.
pub async fn a_leader_whose_lease_ran_out_writes_nothing(suite: &Suite) {
    let namespace = suite.namespace("lease").await;
    let mut leader = Candidate::start(&suite.client, &namespace);
    leader.leads().await;
    let operator = Operator::start(suite, &namespace, leader.leadership.clone());
    create(suite, &namespace, "orders").await;
    eventually("the leader writes", || async { !operator.writes().is_empty() }).await;
    leader.kill().await;
    eventually("the lease runs out", || async { !leader.leadership.still_held() }).await;
    let (plan, before) = (operator.plan.clone(), operator.writes());
    let late = create(suite, &namespace, "late").await;
    eventually("a pass over the late claim", || async {
        operator.context.memory.recall(&late).failures > 0
    })
    .await;
    operator.stop().await;
    // The stop has waited for the pass, so whatever it would have written is written.
    assert_eq!(plan.writes.lock().unwrap().len(), before.len());
}
