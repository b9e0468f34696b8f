//! The operator under the chart's own ServiceAccount and Roles: what is granted is what the audit log shows to be
//! used, and the agent may write its report and nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use dbclaim::api::v1::DatabaseClaim;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::api::PropagationPolicy::{Background, Orphan};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::Suite;
use crate::program::{Program, encoded, kubeconfig};
use crate::scene::{Scene, storage, until};
use crate::stage::CLASS;

/// Where the chart is installed, and the release.
const NAMESPACE: &str = "dbclaim-system";
const RELEASE: &str = "dbclaim";

/// What is granted although the operator itself never asks for it, and why.
const UNUSED: &[(&str, &str, &str, &str)] = &[
    (
        "update",
        "platform.acme.com",
        "databaseclaims/finalizers",
        "children block their owner's deletion, and where that is enforced only who may write the owner's finalizers can ask for it",
    ),
    (
        "delete",
        "",
        "pods",
        "a planned restart deletes the Pod, because the StatefulSet's update strategy is OnDelete",
    ),
];

/// A verb on a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    /// With its subresource.
    resource: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

/// What the chart makes that is about rights.
struct Chart {
    objects: Vec<Value>,
}

impl Chart {
    async fn render(client: &Client) -> Self {
        let version = client.apiserver_version().await.unwrap().git_version;
        let progress = devcluster::Progress::Silent;
        let helm = devcluster::programs::tool("helm", progress).await;
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/dbclaim");
        let rendered = tokio::process::Command::new(helm.expect("helm"))
            .args([
                "template",
                RELEASE,
                "--namespace",
                NAMESPACE,
                "--kube-version",
                &version,
            ])
            .arg(chart)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&rendered.stderr);
        assert!(rendered.status.success(), "{said}");
        let text = String::from_utf8(rendered.stdout).unwrap();
        let documents = text.split("\n---").filter(|it| it.contains("kind:"));
        let objects = documents.map(|it| serde_saphyr::from_str(it).expect("an object"));
        Self {
            objects: objects.collect(),
        }
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |it| it["kind"] == kind)
    }

    async fn install(&self, client: &Client) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let apply = PatchParams::apply("helm");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made = namespaces
            .patch(NAMESPACE, &apply, &Patch::Apply(namespace))
            .await;
        made.unwrap();
        macro_rules! apply {
            ($($kind:ty: $api:expr),*) => {$({
                let api: Api<$kind> = $api;
                for object in self.of_kind(stringify!($kind)) {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    api.patch(name, &apply, &Patch::Apply(object)).await.unwrap();
                }
            })*};
        }
        apply!(
            ServiceAccount: Api::namespaced(client.clone(), NAMESPACE),
            Role: Api::namespaced(client.clone(), NAMESPACE),
            RoleBinding: Api::namespaced(client.clone(), NAMESPACE),
            ClusterRole: Api::all(client.clone()),
            ClusterRoleBinding: Api::all(client.clone())
        );
    }

    /// Every right that the operator's account is bound to.
    fn granted(&self) -> BTreeSet<Right> {
        let mut rights = BTreeSet::new();
        for (bindings, roles) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
            for binding in self.of_kind(bindings) {
                let bound = |it: &&Value| it["metadata"]["name"] == binding["roleRef"]["name"];
                let role = self.of_kind(roles).find(bound).expect("the role that is bound");
                let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
                rights.extend(rules.iter().flat_map(expand));
            }
        }
        rights
    }
}

fn expand(rule: &PolicyRule) -> Vec<Right> {
    let mut rights = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            rights.extend(rule.verbs.iter().map(|verb| Right {
                verb: verb.clone(),
                group: group.clone(),
                resource: resource.clone(),
            }));
        }
    }
    rights
}

/// What an account was seen to ask for. None of it was refused.
fn used(suite: &Suite, user: &str) -> BTreeSet<Right> {
    let log = std::fs::read_to_string(suite.audit_log()).unwrap();
    let events = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut rights = BTreeSet::new();
    for event in events.filter(|it| it["user"]["username"] == user && !it["objectRef"].is_null()) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        assert_ne!(event["responseStatus"]["code"], 403, "refused: {event}");
        let sub = object["subresource"].as_str().map(|it| format!("/{it}"));
        rights.insert(Right {
            verb: text(&event["verb"]),
            group: text(&object["apiGroup"]),
            resource: text(&object["resource"]) + &sub.unwrap_or_default(),
        });
    }
    rights
}

async fn token(client: &Client, namespace: &str, account: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let asked: TokenRequest =
        serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 3600}}))
            .unwrap();
    let given = accounts
        .create_token_request(account, &PostParams::default(), &asked)
        .await;
    given.expect("a token").status.expect("a token").token
}

/// Waits for a state of the scene.
async fn wait(what: &str, look: impl AsyncFn() -> Result<(), String>) {
    until(what, look).await.unwrap();
}

/// The chart's account, as the API server knows it.
fn account() -> String {
    format!("system:serviceaccount:{NAMESPACE}:{RELEASE}")
}

/// Who holds the Lease.
async fn holder(suite: &Suite) -> Result<String, String> {
    let leases: Api<Lease> = Api::namespaced(suite.client.clone(), NAMESPACE);
    let lease = leases.get_opt(RELEASE).await.map_err(|error| error.to_string())?;
    let holder = lease.and_then(|it| it.spec?.holder_identity);
    holder
        .filter(|it| !it.is_empty())
        .ok_or("nobody leads".to_owned())
}

/// Everything that the operator does in a claim's life, by two replicas.
pub async fn what_is_granted_is_what_is_used(suite: &Suite) {
    let scene = Scene::empty(suite).await;
    let chart = Chart::render(&suite.client).await;
    chart.install(&suite.client).await;
    let token = token(&suite.client, NAMESPACE, RELEASE).await;
    let kubeconfig = kubeconfig("operator", suite.kubeconfig(), None, Some(&token));
    let settings = [
        ("DBCLAIM_LEADER_ELECT", "true"),
        ("DBCLAIM_LEASE_NAME", RELEASE),
        ("DBCLAIM_LEASE_NAMESPACE", NAMESPACE),
    ];
    let start = || Program::start(&kubeconfig, &scene.namespace, &settings);
    let first = start();
    wait("a leader", async || holder(suite).await.map(drop)).await;
    let leader = holder(suite).await.unwrap();
    let second = start();
    live(suite, &scene).await;
    first.terminate().await;
    wait("another leader", async || match holder(suite).await? {
        same if same == leader => Err(same),
        _ => Ok(()),
    })
    .await;
    die(&scene).await;
    second.terminate().await;
    let _ = std::fs::remove_file(kubeconfig);
    compare(&chart.granted(), &used(suite, &account()));
}

async fn live(suite: &Suite, scene: &Scene) {
    // This engine takes over a larger size while it runs.
    let spec = json!({"engine": "mysql", "storageClassName": CLASS, "storage": storage(0)});
    create(scene, "orders", spec).await;
    // Nobody plays its node: what holds it up is looked for among the Events of its volume.
    create(scene, "stuck", json!({})).await;
    scene.ready().await.unwrap();
    change_and_heal(scene).await;
    agent_may_report_and_nothing_else(suite, scene).await;
    trouble_twice(scene).await;
    wait("a look at the Events of what is stuck", async || {
        let used = used(suite, &account());
        let looked = used.iter().any(|it| it.verb == "list" && it.resource == "events");
        looked.then_some(()).ok_or("none".into())
    })
    .await;
}

async fn die(scene: &Scene) {
    scene.change(json!({"spec": {"deletionPolicy": "Delete"}})).await;
    scene.ready().await.unwrap();
    for claim in ["orders", "stuck"] {
        scene.delete::<DatabaseClaim>(claim, Background).await;
    }
    wait("the end of the claims", async || {
        let claims = scene.api::<DatabaseClaim>().list(&ListParams::default()).await;
        let left = claims.map_err(|error| error.to_string())?.items.len();
        if left == 0 {
            Ok(())
        } else {
            Err(format!("{left} claims"))
        }
    })
    .await;
}

fn compare(granted: &BTreeSet<Right>, used: &BTreeSet<Right>) {
    let mut wrong = Vec::new();
    let unused: BTreeSet<Right> = granted.difference(used).cloned().collect();
    let explained = UNUSED.iter().map(|(verb, group, resource, _)| Right {
        verb: (*verb).to_owned(),
        group: (*group).to_owned(),
        resource: (*resource).to_owned(),
    });
    let explained: BTreeSet<Right> = explained.collect();
    for right in unused.difference(&explained) {
        wrong.push(format!(
            "the chart grants \"{right}\", and the operator never asks for it: withdraw it, or say why in UNUSED"
        ));
    }
    for right in explained.difference(&unused) {
        wrong.push(format!(
            "\"{right}\" is explained as unused, and is used or not granted: take it off UNUSED"
        ));
    }
    for right in used.difference(granted) {
        wrong.push(format!("\"{right}\" is used, and the chart does not grant it"));
    }
    println!("granted {}, used {}; beyond that:", granted.len(), used.len());
    for (verb, group, resource, why) in UNUSED {
        println!("  {verb} {resource} {group}: {why}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn create(scene: &Scene, name: &str, spec: Value) {
    let mut claim = json!({"apiVersion": "platform.acme.com/v1", "kind": "DatabaseClaim", "metadata": {"name": name},
        "spec": {"engine": "postgres", "size": "small", "team": "checkout"}});
    claim["spec"]
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let claims: Api<DatabaseClaim> = scene.api();
    let claim = serde_json::from_value(claim).unwrap();
    claims.create(&PostParams::default(), &claim).await.unwrap();
}

/// Every kind is changed by its owner's wish and by hand, and deleted by hand.
async fn change_and_heal(scene: &Scene) {
    let turn = scene.next_turn();
    scene
        .change(json!({"spec": {"team": "billing", "size": "medium", "storage": storage(turn)}}))
        .await;
    scene.ready().await.unwrap();
    wait("the Pod's new label", async || {
        let pod = scene.api::<Pod>().get("orders-db-1-0").await;
        let pod = pod.map_err(|error| error.to_string())?;
        let team = pod.labels().get("platform.acme.com/team");
        if team.is_some_and(|it| it == "billing") {
            Ok(())
        } else {
            Err(format!("{team:?}"))
        }
    })
    .await;
    let edit = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "edited"}}});
    macro_rules! heal {
        ($($kind:ty: $name:literal $(deleted $mode:ident)?),* $(,)?) => {$(
            scene.merge::<$kind>($name, edit.clone()).await;
            wait(concat!($name, " put right"), async || {
                let found = scene.api::<$kind>().get($name).await.map_err(|error| error.to_string())?;
                let label = found.labels().get("app.kubernetes.io/part-of");
                if label.is_some_and(|it| it == "dbclaim") { Ok(()) } else { Err(format!("{label:?}")) }
            })
            .await;
            $(
                let before = scene.api::<$kind>().get($name).await.unwrap().uid();
                scene.delete::<$kind>($name, $mode).await;
                wait(concat!($name, " made anew"), async || {
                    let found = scene.api::<$kind>().get_opt($name).await;
                    let uid = found.map_err(|error| error.to_string())?.and_then(|it| it.uid());
                    if uid.is_some() && uid != before { Ok(()) } else { Err(format!("{uid:?}")) }
                })
                .await;
            )?
        )*};
    }
    heal!(
        Service: "orders-db" deleted Background,
        ConfigMap: "orders-db-config" deleted Background,
        ServiceAccount: "orders-db" deleted Background,
        Role: "orders-db" deleted Background,
        RoleBinding: "orders-db" deleted Background,
        StatefulSet: "orders-db-1" deleted Orphan,
        PersistentVolumeClaim: "orders-db-1",
    );
    scene.delete::<Secret>("orders-db-app", Background).await;
    wait("the binding Secret", async || {
        let secret = scene.api::<Secret>().get("orders-db-app").await;
        secret.map(drop).map_err(|error| error.to_string())
    })
    .await;
    scene.ready().await.unwrap();
}

/// The same trouble twice, so that its Event is written once and counted once.
async fn trouble_twice(scene: &Scene) {
    let whole = scene.api::<Secret>().get("orders-db-admin").await.unwrap();
    let whole = whole.data.unwrap()["credentials.json"].0.clone();
    for _ in 0..2 {
        for (content, wanted) in [(b"{".to_vec(), "True"), (whole.clone(), "False")] {
            let content = json!({"data": {"credentials.json": encoded(&content)}});
            scene.merge::<Secret>("orders-db-admin", content).await;
            if wanted == "True" {
                // Without its marker the Secret is read again.
                scene.delete::<ConfigMap>("orders-db-admin", Background).await;
            } else {
                let edit = json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "edited"}}});
                scene.merge::<ConfigMap>("orders-db-1-report", edit).await;
            }
            wait("trouble, or its end", async || {
                let claim = scene.api::<DatabaseClaim>().get("orders").await;
                let status = claim
                    .map_err(|error| error.to_string())?
                    .status
                    .unwrap_or_default();
                let stalled = status.conditions.iter().find(|it| it.type_ == "Stalled");
                if stalled.is_some_and(|it| it.status == wanted) {
                    Ok(())
                } else {
                    Err(format!("{stalled:?}"))
                }
            })
            .await;
            wait("the marker", async || {
                let marker = scene.api::<ConfigMap>().get_opt("orders-db-admin").await;
                let there = marker.map_err(|error| error.to_string())?.is_some();
                if there || wanted == "True" {
                    Ok(())
                } else {
                    Err("none".into())
                }
            })
            .await;
        }
    }
    wait("one Event, counted", async || {
        let events: Api<Event> = scene.api();
        let events = events
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let told = events
            .items
            .iter()
            .filter(|it| it.reason.as_deref() == Some("SecretUnreadable"));
        let counts: Vec<_> = told.map(|it| it.series.as_ref().map(|it| it.count)).collect();
        if counts == [Some(2)] {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
}

/// Asked as the account that the claim's Pod runs under.
async fn agent_may_report_and_nothing_else(suite: &Suite, scene: &Scene) {
    let role = scene.api::<Role>().get("orders-db").await.unwrap();
    let rules = serde_json::to_value(role.rules).unwrap();
    let report = json!([{"apiGroups": [""], "resources": ["configmaps"],
        "resourceNames": ["orders-db-1-report"], "verbs": ["patch"]}]);
    assert_eq!(rules, report, "the Role of a claim's agent");
    let mut config = suite.config();
    config.auth_info = kube::config::AuthInfo::default();
    config.auth_info.token = Some(token(&suite.client, &scene.namespace, "orders-db").await.into());
    let client = Client::try_from(config).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &scene.namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &scene.namespace);
    let claims: Api<DatabaseClaim> = Api::namespaced(client.clone(), &scene.namespace);
    let pods: Api<Pod> = Api::namespaced(client, &scene.namespace);
    let (as_it_is, parameters) = (
        Patch::Merge(json!({"metadata": {"labels": {}}})),
        PatchParams::default(),
    );
    let reported = maps.patch("orders-db-1-report", &parameters, &as_it_is).await;
    reported.expect("an agent may write its report");
    let all = ListParams::default();
    for (what, answer) in [
        ("read its report", maps.get("orders-db-1-report").await.map(drop)),
        ("list ConfigMaps", maps.list(&all).await.map(drop)),
        (
            "write its configuration",
            maps.patch("orders-db-config", &parameters, &as_it_is)
                .await
                .map(drop),
        ),
        ("read its Secret", secrets.get("orders-db-admin").await.map(drop)),
        (
            "read applications' Secret",
            secrets.get("orders-db-app").await.map(drop),
        ),
        ("list Secrets", secrets.list(&all).await.map(drop)),
        ("read its claim", claims.get("orders").await.map(drop)),
        (
            "write its claim",
            claims.patch("orders", &parameters, &as_it_is).await.map(drop),
        ),
        ("read its Pod", pods.get("orders-db-1-0").await.map(drop)),
    ] {
        let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403);
        assert!(refused, "an agent may {what}: {answer:?}");
    }
}
