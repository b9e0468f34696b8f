//! What the documentation tells users to do for their backups, done word by word.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::process::Command;

use crate::packaging::{run, succeeds};
use crate::world::{Scene, eventually};

/// Into a volume of its own every night, and from there into a new claim, in a namespace that enforces `restricted`.
pub async fn the_documented_dump_can_be_restored_into_another_claim(scene: Scene) {
    scene.apply("orders", json!({})).await;
    scene.ready("orders").await;
    scene.write("orders", "before the dump").await;
    apply(&scene, "kind: CronJob").await;
    let mut command = Command::new(scene.world.stage.cluster.program("kubectl"));
    command.args(["create", "job", "--from=cronjob/orders-dump", "orders-dump-now"]);
    command.args(["--namespace", &scene.namespace]);
    succeeds(&run(&scene.world, command).await);
    completed(&scene, "orders-dump-now").await;
    scene.write("orders", "too late").await;
    scene.apply("orders-copy", json!({})).await;
    scene.ready("orders-copy").await;
    apply(&scene, "name: orders-restore").await;
    completed(&scene, "orders-restore").await;
    assert_eq!(scene.rows("orders-copy").await, ["before the dump"]);
}

/// Applies the example of the documentation that has this in it.
async fn apply(scene: &Scene, mark: &str) {
    let image = format!("image: {}:", scene.engine.name());
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/using-a-claim.md")).unwrap();
    let mut examples = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let example = examples
        .find(|it| it.contains(mark) && it.contains(&image))
        .expect("the example is there");
    let file = std::env::temp_dir().join(format!("{}.yaml", scene.namespace));
    std::fs::write(&file, example).unwrap();
    let mut command = Command::new(scene.world.stage.cluster.program("kubectl"));
    command.arg("apply").arg("--filename").arg(&file);
    command.args(["--namespace", &scene.namespace]);
    let output = run(&scene.world, command).await;
    std::fs::remove_file(&file).unwrap();
    succeeds(&output);
}

async fn completed(scene: &Scene, name: &str) {
    let jobs = scene.api::<Job>();
    eventually(&format!("Job {name} complete"), || async {
        let job = jobs.get(name).await.map_err(|error| error.to_string())?;
        let conditions = job.status.and_then(|it| it.conditions).unwrap_or_default();
        if conditions
            .iter()
            .any(|it| it.type_ == "Complete" && it.status == "True")
        {
            return Ok(());
        }
        Err(format!("{conditions:?} {}", logs(scene, name).await))
    })
    .await;
}

/// What the Pods of a Job said.
async fn logs(scene: &Scene, job: &str) -> String {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = scene.api();
    let ours = ListParams::default().labels(&format!("job-name={job}"));
    let mut said = String::new();
    for pod in pods.list(&ours).await.map(|it| it.items).unwrap_or_default() {
        let log = pods.logs(&pod.name_any(), &LogParams::default()).await;
        said += &log.unwrap_or_else(|error| error.to_string());
    }
    said
}
