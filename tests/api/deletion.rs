//! Claims are deleted in every way and state: each deletion ends, and what `Retain` protects stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim};
use kube::api::PropagationPolicy::{Background, Foreground, Orphan};
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::faults::Point;
use crate::scene::{Scene, identities, until};

const POLICIES: [&str; 2] = ["Retain", "Delete"];
const CRD: &str = "databaseclaims.platform.acme.com";

/// A claim that is Ready, and what holds its data.
struct Served {
    scene: Arc<Scene>,
    data: BTreeMap<String, String>,
}

impl Served {
    async fn new(suite: &Suite, policy: &str) -> Self {
        let scene = Scene::open(suite).await;
        scene.create(json!({"deletionPolicy": policy})).await;
        scene.ready().await.unwrap();
        scene.quiet().await.unwrap();
        let (raw, _) = scene.objects().await;
        let data = identities(&raw);
        assert_eq!(data.len(), 3, "a volume and two Secrets: {data:?}");
        scene.plan.arm(None);
        Self { scene, data }
    }

    async fn delete(&self, mode: PropagationPolicy) {
        self.scene.delete::<DatabaseClaim>("orders", mode).await;
    }

    async fn claim_ends(&self) {
        let started = Instant::now();
        let claims: Api<DatabaseClaim> = self.scene.api();
        let gone = until("the end of the claim", async || {
            match claims.get_opt("orders").await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:#?}")),
            }
        });
        gone.await.unwrap();
        println!("the claim was gone after {:?}", started.elapsed());
    }

    /// The very volume and Secrets of before are there, and nobody is about to delete them.
    async fn data_stays(&self) {
        self.scene.quiet().await.unwrap();
        let (raw, _) = self.scene.objects().await;
        assert_eq!(identities(&raw), self.data);
        for name in self.data.keys() {
            let going = &raw[name]["metadata"]["deletionTimestamp"];
            assert!(going.is_null(), "{name} is being deleted since {going}");
        }
        assert_eq!(self.deletes(), Vec::<String>::new());
    }

    async fn data_goes(&self) {
        let gone = until("the end of the data", async || {
            let (raw, _) = self.scene.objects().await;
            let left = identities(&raw);
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        gone.await.unwrap();
    }

    async fn ends_by(&self, policy: &str) {
        self.claim_ends().await;
        match policy {
            "Retain" => self.data_stays().await,
            _ => self.data_goes().await,
        }
    }

    /// What the operator deleted.
    fn deletes(&self) -> Vec<String> {
        let writes = self.scene.plan.writes.lock().unwrap();
        let deletes = writes.iter().filter(|it| it.method == "DELETE");
        deletes.map(|it| it.path.clone()).collect()
    }
}

async fn in_mode(suite: &Suite, mode: PropagationPolicy) {
    for policy in POLICIES {
        let served = Served::new(suite, policy).await;
        served.delete(mode.clone()).await;
        served.ends_by(policy).await;
    }
}

pub async fn a_claim_that_is_deleted_in_the_foreground_ends(suite: &Suite) {
    in_mode(suite, Foreground).await;
}

pub async fn a_claim_that_is_deleted_in_the_background_ends(suite: &Suite) {
    in_mode(suite, Background).await;
}

/// Its objects stay without an owner, and the same claim takes them up again.
pub async fn a_claim_that_is_deleted_as_an_orphan_ends_and_the_same_claim_goes_on(suite: &Suite) {
    in_mode(suite, Orphan).await;
    let served = Served::new(suite, "Retain").await;
    let pod = served.scene.objects().await.0["Pod orders-db-1-0"]["metadata"]["uid"].clone();
    served.delete(Orphan).await;
    served.ends_by("Retain").await;
    served.scene.create(json!({})).await;
    served.scene.ready().await.unwrap();
    served.data_stays().await;
    served.scene.passwords(1).await.unwrap();
    let (raw, _) = served.scene.objects().await;
    assert_eq!(
        raw["Pod orders-db-1-0"]["metadata"]["uid"], pod,
        "the Pod was restarted"
    );
}

/// The same data and the same password, whatever became of the claim.
pub async fn a_retained_claim_that_is_created_again_has_its_data_and_password(suite: &Suite) {
    let served = Served::new(suite, "Retain").await;
    served.delete(Background).await;
    served.claim_ends().await;
    served.scene.create(json!({})).await;
    served.scene.ready().await.unwrap();
    served.data_stays().await;
    served.scene.passwords(1).await.unwrap();
}

/// The volume's record says another version than any there is: nothing can be honoured.
pub async fn a_claim_whose_spec_is_refused_ends(suite: &Suite) {
    for policy in POLICIES {
        let served = Served::new(suite, policy).await;
        let volume: Api<PersistentVolumeClaim> = served.scene.api();
        let key = "platform.acme.com/identity";
        let record = volume.get("orders-db-1").await.unwrap().annotations()[key].clone();
        let mut record: Value = serde_json::from_str(&record).unwrap();
        record["major"] = json!("9");
        let edit = json!({"metadata": {"annotations": {key: record.to_string()}}});
        served
            .scene
            .merge::<PersistentVolumeClaim>("orders-db-1", edit)
            .await;
        let claims: Api<DatabaseClaim> = served.scene.api();
        let refused = until("the refusal", async || {
            let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
            let conditions = claim.status.unwrap_or_default().conditions;
            let refused = conditions
                .iter()
                .any(|it| it.type_ == "Accepted" && it.status == "False");
            refused.then_some(()).ok_or_else(|| format!("{conditions:#?}"))
        });
        refused.await.unwrap();
        served.delete(Background).await;
        served.ends_by(policy).await;
    }
}

pub async fn a_paused_claim_ends(suite: &Suite) {
    for policy in POLICIES {
        let served = Served::new(suite, policy).await;
        served.scene.change(json!({"spec": {"paused": true}})).await;
        served.scene.quiet().await.unwrap();
        served.delete(Background).await;
        served.ends_by(policy).await;
    }
}

/// The operator was away, and begins with a claim that is being deleted.
pub async fn a_claim_that_was_deleted_while_no_operator_ran_ends(suite: &Suite) {
    for policy in POLICIES {
        let served = Served::new(suite, policy).await;
        served.scene.kill_operator();
        served.delete(Foreground).await;
        served.scene.start_operator();
        served.ends_by(policy).await;
    }
}

pub async fn of_two_policies_the_safer_one_wins_when_it_changes_after_the_deletion(suite: &Suite) {
    // To Retain, before anybody has acted.
    let served = Served::new(suite, "Delete").await;
    served.scene.kill_operator();
    served.delete(Background).await;
    served
        .scene
        .change(json!({"spec": {"deletionPolicy": "Retain"}}))
        .await;
    served.scene.start_operator();
    served.ends_by("Retain").await;
    // To Delete, of a claim that only somebody else's finalizer holds.
    let served = Served::new(suite, "Retain").await;
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    served.scene.change(held).await;
    served.delete(Background).await;
    served
        .scene
        .change(json!({"spec": {"deletionPolicy": "Delete"}}))
        .await;
    served.data_stays().await;
    served
        .scene
        .change(json!({"metadata": {"finalizers": null}}))
        .await;
    served.ends_by("Retain").await;
}

/// Something else holds the namespace up, so that the operator has all the time to do harm.
async fn namespace_goes(suite: &Suite, policy: &str, claim_too: bool) {
    let served = Served::new(suite, policy).await;
    let scene = &served.scene;
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/held"]}});
    let held: ConfigMap = serde_json::from_value(held).unwrap();
    let maps: Api<ConfigMap> = scene.api();
    maps.create(&kube::api::PostParams::default(), &held)
        .await
        .unwrap();
    let namespaces: Api<Namespace> = Api::all(suite.client.clone());
    if claim_too {
        served.delete(Background).await;
    }
    let parameters = DeleteParams::default();
    namespaces.delete(&scene.namespace, &parameters).await.unwrap();
    served.claim_ends().await;
    let empty = until("the end of all objects", async || {
        let (raw, _) = scene.objects().await;
        let left: Vec<_> = raw.keys().collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    empty.await.unwrap();
    // It has stopped asking; what it tried to make before it was told that nothing can be made, it tried once.
    scene.quiet().await.unwrap();
    let tries = scene.plan.points();
    // An Event has a name of its own each time.
    let creates = |it: &&Point| it.what.starts_with("POST") && it.what != "POST events";
    let made: Vec<_> = tries.iter().filter(creates).collect();
    println!("{policy}: {} writes, of them creating {made:?}", tries.len());
    assert!(made.iter().all(|it| it.nth == 1), "{made:?}");
    scene
        .merge::<ConfigMap>("held", json!({"metadata": {"finalizers": null}}))
        .await;
    let gone = until("the end of the namespace", async || {
        match namespaces.get_opt(&scene.namespace).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    gone.await.unwrap();
}

pub async fn a_namespace_that_goes_ends_and_nothing_is_made_in_it(suite: &Suite) {
    for policy in POLICIES {
        namespace_goes(suite, policy, false).await;
    }
}

pub async fn a_claim_that_is_deleted_together_with_its_namespace_ends(suite: &Suite) {
    for policy in POLICIES {
        namespace_goes(suite, policy, true).await;
    }
}

/// On an API server of its own, because the definition is everybody's.
pub async fn a_deleted_definition_leaves_what_retain_protects_and_comes_back(_: &Suite) {
    let suite = Suite::start().await.expect("an API server");
    let served = Served::new(&suite, "Retain").await;
    let erased = Served::new(&suite, "Delete").await;
    let definitions = suite.definitions();
    definitions.delete(CRD, &DeleteParams::default()).await.unwrap();
    let gone = until("the end of the definition", async || {
        match definitions.get_opt(CRD).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    gone.await.unwrap();
    erased.data_goes().await;
    // It asks for claims again and again, and each time waits longer.
    served.scene.plan.arm(None);
    let asked = || {
        let reads = served.scene.plan.reads.lock().unwrap();
        reads.iter().filter(|it| it.contains("databaseclaims")).count()
    };
    let started = Instant::now();
    until("four questions for claims", async || {
        if asked() >= 4 {
            Ok(())
        } else {
            Err(format!("{}", asked()))
        }
    })
    .await
    .unwrap();
    let (asked, took) = (asked(), started.elapsed());
    println!("asked {asked} times in {took:?}");
    assert!(
        took.as_secs_f64() > 1.5,
        "{asked} questions in {took:?} are a storm"
    );
    let (raw, _) = served.scene.objects().await;
    assert_eq!(identities(&raw), served.data);
    assert_eq!(served.deletes(), Vec::<String>::new());
    suite.install_crd().await.unwrap();
    served.scene.create(json!({})).await;
    served.scene.ready().await.unwrap();
    served.data_stays().await;
    served.scene.passwords(1).await.unwrap();
    drop((served, erased));
    suite.stop().await.unwrap();
}
