//! Clusters without nodes: any user can run these.

use std::process::Command;

use crate::outside::{Owner, assert_gone, processes, run, said, was_killed_by};
use devcluster::{Cluster, Options, Profile};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{Api, Client, api::PostParams};
use rustix::process::Signal;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_at_once_do_not_disturb_each_other() {
    let start = || Cluster::start(Options::default());
    let (first, second) = tokio::try_join!(start(), start()).unwrap();
    assert!(
        processes(first.dir()) >= 3,
        "etcd, API server and controllers are found by the mark"
    );

    create_config_map(&first.client().unwrap(), "only-in-the-first").await;
    let elsewhere: Api<ConfigMap> = Api::default_namespaced(second.client().unwrap());
    assert!(elsewhere.get_opt("only-in-the-first").await.unwrap().is_none());
    assert_eq!(
        creations(&first, "only-in-the-first"),
        1,
        "the audit log has each request once"
    );
    refuses_privileged_pods(&first.client().unwrap()).await;

    let folder = first.dir().to_owned();
    first.stop().await.unwrap();
    assert_gone(&folder);
    elsewhere
        .get_opt("x")
        .await
        .expect("the second goes on when the first is stopped");

    let folder = second.dir().to_owned();
    drop(second);
    assert_gone(&folder);
}

#[test]
fn killed_interrupted_and_stopped_clusters_leave_nothing_behind() {
    let name = format!("test-{}", std::process::id());
    let owner = up(&name);
    let environment = run(&["env", "--name", &name]);
    uses_the_cluster(&said(&environment), &owner);
    assert!(said(&run(&["status"])).contains(&format!("{name}: api, since")));
    let again = run(&["up", "--profile", "api", "--name", &name]);
    assert!(said(&again).contains("is running already"), "{}", said(&again));
    let folder = owner.folder.clone();
    assert!(run(&["down", "--name", &name]).status.success());
    assert_gone(&folder);
    assert!(owner.wait().success(), "`up` ends well when it is asked to");

    assert!(was_killed_by(up(&name).end(Signal::KILL), Signal::KILL));
    // The next start removes what is left, and is itself interrupted before it is done.
    let half = Owner::spawn(&name, &["--profile", "api"]);
    half.wait_until_starting();
    assert!(half.end(Signal::INT).success());
    assert_gone(&folder);
}

#[tokio::test]
async fn impossible_wishes_are_refused_with_a_sentence() {
    let six = Options {
        profile: Profile::Node { nodes: 6 },
        ..Options::default()
    };
    let error = Cluster::start(six).await.unwrap_err();
    assert_eq!(error.to_string(), "6 nodes were asked for; a cluster has 1 to 5");

    let outside = Options {
        name: Some("../x".to_owned()),
        ..Options::default()
    };
    let error = Cluster::start(outside).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the cluster name "../x" is not 1 to 32 characters of a-z, 0-9 and -"#
    );

    let unknown = run(&["down", "--name", "nobody-has-this-name"]);
    assert!(!unknown.status.success());
    assert!(
        said(&unknown).contains("`devcluster status` lists them"),
        "{}",
        said(&unknown)
    );
}

/// A shell that evaluates this uses the cluster, also where no `kubectl` is installed.
fn uses_the_cluster(environment: &str, owner: &Owner) {
    let script = format!(
        "PATH=/usr/bin:/bin; {environment} kubectl config view --minify --output 'jsonpath={{.clusters[0].cluster.server}}' && echo \" $KUBECONFIG\""
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let kubeconfig = format!(" {}/kubeconfig", owner.folder.display());
    let answer = said(&output);
    assert!(
        answer.starts_with("https://127.0.0.1:") && answer.trim_end().ends_with(&kubeconfig),
        "{answer}"
    );
}

fn up(name: &str) -> Owner {
    let mut owner = Owner::spawn(name, &["--profile", "api"]);
    owner.wait_until_up();
    assert!(processes(&owner.folder) >= 3);
    owner
}

async fn create_config_map(client: &Client, name: &str) {
    let config_map = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    config_maps
        .create(&PostParams::default(), &config_map)
        .await
        .unwrap();
}

fn creations(cluster: &Cluster, name: &str) -> usize {
    let log = std::fs::read_to_string(cluster.audit_log()).unwrap();
    let events = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event["verb"] == "create" && event["objectRef"]["name"] == name)
        .count()
}

async fn refuses_privileged_pods(client: &Client) {
    let enforce = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"metadata": {"name": "restricted", "labels": enforce}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(
            &PostParams::default(),
            &serde_json::from_value(namespace).unwrap(),
        )
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "restricted");
    let container = json!({"name": "c", "image": "x", "securityContext": {"privileged": true}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
    let error = pods
        .create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("violates PodSecurity"), "{error}");
}
