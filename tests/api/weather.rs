//! Trouble with the API server itself, and with single passes: the operator recovers by itself, asks seldom
//! meanwhile, and writes nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::Service;
use kube::api::PropagationPolicy::Background;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::Suite;
use crate::faults::{Plan, Weather};
use crate::scene::{Scene, identities, team, until};

/// How often each watch is tried before the trouble is over.
const TRIES: usize = 4;

/// One operator and one claim, and the trouble that comes over them.
struct Story {
    scene: Arc<Scene>,
    /// Paths of the watches.
    watches: BTreeSet<String>,
}

impl Story {
    /// An operator that works, and has nothing to do yet.
    async fn begin(suite: &Suite) -> Self {
        let scene = Scene::open(suite).await;
        let watches = all_watches(&scene).await;
        Self { scene, watches }
    }

    /// How often this was asked for since the plan was armed.
    fn tries(&self, watch: &str) -> Vec<Instant> {
        let asked = self.scene.plan.asked.lock().unwrap();
        let same = asked.iter().filter(|(_, asked)| path(asked) == watch);
        same.map(|(at, _)| *at).collect()
    }

    /// It begins.
    fn comes(&self, weather: Weather) -> Instant {
        self.scene.plan.asked.lock().unwrap().clear();
        self.scene.plan.set_weather(weather);
        Instant::now()
    }

    /// Lasts until every watch was tried so often. Returns how many requests there were, and for how long.
    async fn lasts(&self, since: Instant) -> (usize, Duration) {
        until("tries of every watch", async || {
            let seldom = self.watches.iter().filter(|it| self.tries(it).len() < TRIES);
            let seldom: Vec<_> = seldom.collect();
            if seldom.is_empty() {
                Ok(())
            } else {
                Err(format!("seldom: {seldom:?}"))
            }
        })
        .await
        .unwrap();
        let requests = self.scene.plan.asked.lock().unwrap().len();
        (requests, since.elapsed())
    }

    fn clears_up(&self) {
        self.scene.plan.set_weather(Weather::Fair);
    }

    /// Created while the trouble comes, and changed by its owner and by others while it lasts.
    async fn play(&self, weather: Weather, bound: fn(f64) -> f64) {
        let scene = &self.scene;
        scene.plan.arm(None);
        scene.create(json!({})).await;
        accepts_one(&scene.plan).await;
        let since = self.comes(weather);
        let first = self.lasts(since).await;
        self.clears_up();
        scene.ready().await.unwrap();
        scene.rest().await.unwrap();
        nothing_twice(&scene.plan);
        let (before, _) = scene.objects().await;
        // Pauses go on growing for two minutes after the last trouble; a new process begins with short ones.
        scene.plan.arm(None);
        scene.start_operator();
        all_watches(scene).await;
        scene.quiet().await.unwrap();
        scene.plan.arm(None);
        let since = self.comes(weather);
        scene.delete::<Service>("orders-db", Background).await;
        let team = team(scene.next_turn());
        scene.change(json!({"spec": {"team": team}})).await;
        let second = self.lasts(since).await;
        self.clears_up();
        let services: Api<Service> = scene.api();
        until("the Service, with its new team", async || {
            let service = services
                .get("orders-db")
                .await
                .map_err(|error| error.to_string())?;
            let label = service.labels().get("platform.acme.com/team").cloned();
            if label.as_ref() == Some(&team) {
                Ok(())
            } else {
                Err(format!("{label:?}"))
            }
        })
        .await
        .unwrap();
        scene.ready().await.unwrap();
        scene.rest().await.unwrap();
        nothing_twice(&scene.plan);
        scene.passwords(1).await.unwrap();
        assert_eq!(identities(&scene.objects().await.0), identities(&before));
        for (requests, time) in [first, second] {
            println!("{weather:?}: {requests} requests in {time:?}");
            let most = bound(time.as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
            let requests = requests as f64;
            assert!(
                requests <= most,
                "{requests} requests in {time:?} are a storm; {most} would not be"
            );
        }
    }
}

/// Waits until everything is watched; returns the paths.
async fn all_watches(scene: &Scene) -> BTreeSet<String> {
    let watches = || {
        let asked = scene.plan.asked.lock().unwrap();
        let watches = asked.iter().filter(|(_, asked)| asked.contains("watch=true"));
        watches.map(|(_, asked)| path(asked)).collect::<BTreeSet<_>>()
    };
    until("all watches", async || {
        let found = watches();
        if found.len() == 10 {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap();
    watches()
}

/// Method and path of a request, without what it selects.
fn path(asked: &str) -> String {
    asked.split('?').next().unwrap_or_default().to_owned()
}

/// Waits until something was carried out, which is in the middle of a wave.
async fn accepts_one(plan: &Plan) {
    until("a first write", async || {
        let accepted = plan.accepted.lock().unwrap().len();
        if accepted > 0 { Ok(()) } else { Err("none".into()) }
    })
    .await
    .unwrap();
}

fn nothing_twice(plan: &Plan) {
    let accepted = plan.accepted.lock().unwrap();
    for (index, (what, body)) in accepted.iter().enumerate() {
        let again = accepted[..index]
            .iter()
            .any(|(other, it)| other == what && it == body);
        assert!(!again, "{what} was carried out twice: {body}");
    }
}

/// With pauses that double from 0.8 s (0.4 s to be safe) on: ten watches, and passes over one claim, each with as
/// many requests as a pass may make.
fn doubling(seconds: f64) -> f64 {
    let tries = 3.0 + (1.0 + seconds / 0.4).log2();
    tries * 10.0 + tries * 15.0
}

/// Each try begins with a list that succeeds, so that the pauses do not grow.
fn steady(seconds: f64) -> f64 {
    doubling(seconds) + 10.0 * 2.0 * (2.0 + seconds / 0.4)
}

pub async fn an_api_server_that_is_away_for_a_while_is_waited_for(suite: &Suite) {
    Story::begin(suite).await.play(Weather::Away, doubling).await;
}

pub async fn an_api_server_that_refuses_with_429_is_waited_for(suite: &Suite) {
    Story::begin(suite)
        .await
        .play(Weather::Refused(429), doubling)
        .await;
}

pub async fn an_api_server_that_refuses_with_500_is_waited_for(suite: &Suite) {
    Story::begin(suite)
        .await
        .play(Weather::Refused(500), doubling)
        .await;
}

pub async fn an_api_server_that_refuses_with_503_is_waited_for(suite: &Suite) {
    Story::begin(suite)
        .await
        .play(Weather::Refused(503), doubling)
        .await;
}

/// 410 Gone, as after a compaction.
pub async fn watches_that_begin_too_late_are_begun_anew(suite: &Suite) {
    Story::begin(suite).await.play(Weather::Gone, steady).await;
}

/// What was sent is carried out, and nobody is there to hear it.
pub async fn answers_that_come_after_the_pass_has_ended_are_made_up_for(suite: &Suite) {
    let story = Story::begin(suite).await;
    let scene = &story.scene;
    scene.plan.arm(None);
    // Longer than a pass may take.
    scene.plan.set_weather(Weather::Slow(Duration::from_secs(12)));
    scene.create(json!({})).await;
    // What the second wave makes, which a first pass never reaches.
    until("the work of a second pass", async || {
        let accepted = scene.plan.accepted.lock().unwrap();
        let made: Vec<_> = accepted.iter().map(|(what, _)| what.clone()).collect();
        let second = made
            .iter()
            .any(|it| it.contains("rolebindings") || it.contains("statefulsets"));
        second.then_some(()).ok_or_else(|| format!("{made:?}"))
    })
    .await
    .unwrap();
    story.clears_up();
    scene.ready().await.unwrap();
    scene.rest().await.unwrap();
    scene.passwords(1).await.unwrap();
    nothing_twice(&scene.plan);
}

/// Every connection breaks, and what was watched is to be found again.
pub async fn an_api_server_that_is_killed_and_started_again_is_found_again(_: &Suite) {
    let suite = Suite::start().await.expect("an API server");
    let story = Story::begin(&suite).await;
    let scene = &story.scene;
    scene.create(json!({})).await;
    scene.ready().await.unwrap();
    let (before, _) = scene.objects().await;
    scene.rest().await.unwrap();
    scene.plan.arm(None);
    let server = suite.api_server();
    server.kill();
    let killed = Instant::now();
    let (requests, time) = story.lasts(killed).await;
    println!("killed: {requests} requests in {time:?}");
    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let few = requests as f64 <= doubling(time.as_secs_f64());
    assert!(few, "{requests} requests in {time:?} are a storm");
    let _server = server.start_again();
    until("the API server", async || {
        let services: Api<Service> = scene.api();
        match services.delete("orders-db", &DeleteParams::default()).await {
            // Of an earlier try whose answer was lost.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop).map_err(|error| error.to_string()),
        }
    })
    .await
    .unwrap();
    until("the Service", async || {
        let (raw, _) = scene.objects().await;
        let uid = |objects: &crate::normal::Objects| {
            Some(objects.get("Service orders-db")?["metadata"]["uid"].clone())
        };
        if uid(&raw).is_some_and(|it| Some(it) != uid(&before)) {
            Ok(())
        } else {
            Err("not made anew".into())
        }
    })
    .await
    .unwrap();
    scene.ready().await.unwrap();
    scene.quiet().await.unwrap();
    assert_eq!(identities(&scene.objects().await.0), identities(&before));
    nothing_twice(&scene.plan);
    drop(story);
    suite.stop().await.unwrap();
}

pub async fn a_pass_that_panics_disturbs_no_other_claim(suite: &Suite) {
    let scene = Scene::open(suite).await;
    *scene.plan.panics.lock().unwrap() = Some("broken-db".into());
    let claims: Api<DatabaseClaim> = scene.api();
    let broken = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim", "metadata": {"name": "broken"},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
    let broken = serde_json::from_value(broken).unwrap();
    claims.create(&PostParams::default(), &broken).await.unwrap();
    let passes = || {
        let asked = scene.plan.asked.lock().unwrap();
        let posts = asked
            .iter()
            .filter(|(_, asked)| asked.starts_with("POST") && asked.contains("/serviceaccounts"));
        posts.count()
    };
    until("a pass that panics", async || {
        if passes() > 0 { Ok(()) } else { Err("none".into()) }
    })
    .await
    .unwrap();
    let started = Instant::now();
    scene.create(json!({})).await;
    scene.ready().await.unwrap();
    scene.delete::<Service>("orders-db", Background).await;
    until("the Service of the other claim", async || {
        let service = scene.api::<Service>().get("orders-db").await;
        service.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    until("one more pass that panics", async || {
        if passes() > 2 { Ok(()) } else { Err("none".into()) }
    })
    .await
    .unwrap();
    // Each waits five seconds at least; one of these was the other claim's.
    let most = started.elapsed().as_secs() / 5 + 3;
    assert!(passes() as u64 <= most, "{} passes, and {most} at most", passes());
    scene.plan.panics.lock().unwrap().take();
    until("the objects of the claim that was broken", async || {
        let service = scene.api::<Service>().get("broken-db").await;
        service.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
}
