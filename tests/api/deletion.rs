//! Claims are deleted in every way and state: each deletion ends, and what `Retain` protects stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret};
use kube::api::PropagationPolicy::{Background, Foreground, Orphan};
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::faults::Point;
use crate::scene::{Scene, identities, until};

/// Every engine with every policy.
const CASES: [Case; 4] = [
    Case("postgres", "Retain"),
    Case("postgres", "Delete"),
    Case("mysql", "Retain"),
    Case("mysql", "Delete"),
];
/// Every engine with the policy by which there is something to come back to.
const RETAINED: [Case; 2] = [CASES[0], CASES[2]];

/// Engine and policy of a claim.
#[derive(Clone, Copy, Debug)]
struct Case(&'static str, &'static str);

const CRD: &str = "databaseclaims.platform.acme.com";

/// A claim that is Ready, and what holds its data.
struct Served {
    case: Case,
    scene: Arc<Scene>,
    data: BTreeMap<String, String>,
}

impl Served {
    async fn new(suite: &Suite, case: Case) -> Self {
        let scene = Scene::open(suite).await;
        let Case(engine, policy) = case;
        println!("{case:?}");
        scene
            .create(json!({"engine": engine, "deletionPolicy": policy}))
            .await;
        scene.ready().await.unwrap();
        scene.quiet().await.unwrap();
        let (raw, _) = scene.objects().await;
        let data = identities(&raw);
        assert_eq!(data.len(), 3, "a volume and two Secrets: {data:?}");
        scene.plan.arm(None);
        Self { case, scene, data }
    }

    /// The same claim once more, which serves what has stayed.
    async fn again(&self) {
        self.scene.create(json!({"engine": self.case.0})).await;
        self.scene.ready().await.unwrap();
    }

    async fn delete(&self, mode: PropagationPolicy) {
        self.scene.delete::<DatabaseClaim>("orders", mode).await;
    }

    async fn is_refused(&self) {
        let claims: Api<DatabaseClaim> = self.scene.api();
        let refused = until("the refusal", async || {
            let claim = claims.get("orders").await.map_err(|error| error.to_string())?;
            let conditions = claim.status.unwrap_or_default().conditions;
            let refused = conditions
                .iter()
                .any(|it| it.type_ == "Accepted" && it.status == "False");
            refused.then_some(()).ok_or_else(|| format!("{conditions:#?}"))
        });
        refused.await.unwrap();
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

    async fn ends(&self) {
        self.ends_by(self.case.1).await;
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
    for case in CASES {
        let served = Served::new(suite, case).await;
        served.delete(mode.clone()).await;
        served.ends().await;
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
    for case in RETAINED {
        let served = Served::new(suite, case).await;
        let pod = served.scene.objects().await.0["Pod orders-db-1-0"]["metadata"]["uid"].clone();
        served.delete(Orphan).await;
        served.ends().await;
        served.again().await;
        served.data_stays().await;
        served.scene.passwords(1).await.unwrap();
        let (raw, _) = served.scene.objects().await;
        assert_eq!(
            raw["Pod orders-db-1-0"]["metadata"]["uid"], pod,
            "the Pod was restarted"
        );
    }
}

/// The same data and the same password, whatever became of the claim.
pub async fn a_retained_claim_that_is_created_again_has_its_data_and_password(suite: &Suite) {
    for case in RETAINED {
        let served = Served::new(suite, case).await;
        served.delete(Background).await;
        served.claim_ends().await;
        served.again().await;
        served.data_stays().await;
        served.scene.passwords(1).await.unwrap();
    }
}

/// Somebody has removed what knew the password; the data is served with a new one.
pub async fn a_retained_volume_without_its_secrets_is_served_with_a_new_password(suite: &Suite) {
    for case in RETAINED {
        let served = Served::new(suite, case).await;
        served.delete(Background).await;
        served.claim_ends().await;
        for secret in ["orders-db-app", "orders-db-admin"] {
            served.scene.delete::<Secret>(secret, Background).await;
        }
        served.again().await;
        served.scene.passwords(2).await.unwrap();
        let (raw, _) = served.scene.objects().await;
        let now = identities(&raw);
        let same: Vec<_> = served
            .data
            .iter()
            .filter(|(name, uid)| now.get(*name) == Some(uid))
            .collect();
        assert_eq!(same.len(), 1, "the volume, and new Secrets: {same:?}");
        assert_eq!(same[0].0, "PersistentVolumeClaim orders-db-1");
        assert_eq!(served.deletes(), Vec::<String>::new());
    }
}

/// Kubernetes holds a volume that somebody deletes as long as its Pod runs; nothing new is ever made in its place.
pub async fn a_volume_that_is_deleted_is_named_and_not_made_anew(suite: &Suite) {
    for case in CASES {
        let served = Served::new(suite, case).await;
        let scene = &served.scene;
        scene
            .delete::<PersistentVolumeClaim>("orders-db-1", Background)
            .await;
        let says = |reason: &'static str| {
            move |claim: &DatabaseClaim| {
                let conditions = claim.status.iter().flat_map(|it| &it.conditions);
                let mut stalled = conditions.filter(|it| it.type_ == "Stalled" && it.status == "True");
                stalled.any(|it| it.reason == reason)
            }
        };
        scene
            .says("VolumeTerminating", says("VolumeTerminating"))
            .await
            .unwrap();
        scene.delete::<Pod>("orders-db-1-0", Background).await;
        scene.says("DataMissing", says("DataMissing")).await.unwrap();
        scene.quiet().await.unwrap();
        let (raw, _) = scene.objects().await;
        assert!(
            !raw.contains_key("PersistentVolumeClaim orders-db-1"),
            "a new volume"
        );
        served.delete(Background).await;
        served.claim_ends().await;
    }
}

/// The volume's record says another version than any there is: nothing can be honoured.
pub async fn a_claim_whose_spec_is_refused_ends(suite: &Suite) {
    for case in CASES {
        let served = Served::new(suite, case).await;
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
        served.is_refused().await;
        served.delete(Background).await;
        served.ends().await;
    }
}

/// What a claim was refused is not its own, whatever its policy: it is what a former claim has left.
pub async fn a_claim_that_was_refused_leaves_what_a_former_one_has_left(suite: &Suite) {
    for case in RETAINED {
        let served = Served::new(suite, case).await;
        served.delete(Background).await;
        served.claim_ends().await;
        let other = json!({"engine": case.0, "deletionPolicy": "Delete", "username": "bob"});
        served.scene.create(other).await;
        served.is_refused().await;
        served.delete(Background).await;
        served.claim_ends().await;
        served.data_stays().await;
        served.again().await;
        served.data_stays().await;
    }
}

pub async fn a_paused_claim_ends(suite: &Suite) {
    for case in CASES {
        let served = Served::new(suite, case).await;
        served.scene.change(json!({"spec": {"paused": true}})).await;
        served.scene.quiet().await.unwrap();
        served.delete(Background).await;
        served.ends().await;
    }
}

/// The operator was away, and begins with a claim that is being deleted.
pub async fn a_claim_that_was_deleted_while_no_operator_ran_ends(suite: &Suite) {
    for case in CASES {
        let served = Served::new(suite, case).await;
        served.scene.kill_operator();
        served.delete(Foreground).await;
        served.scene.start_operator();
        served.ends().await;
    }
}

pub async fn of_two_policies_the_safer_one_wins_when_it_changes_after_the_deletion(suite: &Suite) {
    // To Retain, before anybody has acted.
    let served = Served::new(suite, CASES[1]).await;
    served.scene.kill_operator();
    served.delete(Background).await;
    served
        .scene
        .change(json!({"spec": {"deletionPolicy": "Retain"}}))
        .await;
    served.scene.start_operator();
    served.ends_by("Retain").await;
    // To Delete, of a claim that only somebody else's finalizer holds.
    let served = Served::new(suite, CASES[0]).await;
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
async fn namespace_goes(suite: &Suite, case: Case, claim_too: bool) {
    let served = Served::new(suite, case).await;
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
    println!("{case:?}: {} writes, of them creating {made:?}", tries.len());
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
    for case in CASES {
        namespace_goes(suite, case, false).await;
    }
}

pub async fn a_claim_that_is_deleted_together_with_its_namespace_ends(suite: &Suite) {
    for case in CASES {
        namespace_goes(suite, case, true).await;
    }
}

/// On an API server of its own, because the definition is everybody's.
pub async fn a_deleted_definition_leaves_what_retain_protects_and_comes_back(_: &Suite) {
    let suite = Suite::start().await.expect("an API server");
    let [served, other] = [
        Served::new(&suite, RETAINED[0]).await,
        Served::new(&suite, RETAINED[1]).await,
    ];
    let [erased, erased_too] = [
        Served::new(&suite, CASES[1]).await,
        Served::new(&suite, CASES[3]).await,
    ];
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
    erased_too.data_goes().await;
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
    for served in [&served, &other] {
        let (raw, _) = served.scene.objects().await;
        assert_eq!(identities(&raw), served.data);
        assert_eq!(served.deletes(), Vec::<String>::new());
    }
    suite.install_crd().await.unwrap();
    for served in [&served, &other] {
        served.again().await;
        served.data_stays().await;
        served.scene.passwords(1).await.unwrap();
    }
    drop((served, other, erased, erased_too));
    suite.stop().await.unwrap();
}
