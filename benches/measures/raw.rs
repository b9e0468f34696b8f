//! The yardstick: writes claims and all that belongs to them without thinking, as many at once as the operator does.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Context as _;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::fleet::{self, Spans, Watch};
use crate::ground::Ground;

/// What every claim gets: texts in which the sample's namespace, name and UID are to be replaced.
pub struct Template {
    objects: Vec<(ApiResource, String)>,
    sample: [String; 3],
}

impl Template {
    /// From the only claim in a namespace.
    pub async fn take(ground: &Ground, namespace: &str, claim: &str) -> anyhow::Result<Self> {
        let claims: Api<DynamicObject> =
            Api::namespaced_with(ground.client.clone(), namespace, &ground.contender.claims());
        let uid = claims.get(claim).await?.uid().context("the claim has no UID")?;
        let objects = fleet::template(ground, namespace).await?;
        let expected = ground.contender.children();
        anyhow::ensure!(
            objects.len() == expected,
            "{} objects instead of {expected}",
            objects.len()
        );
        Ok(Self {
            objects: objects
                .into_iter()
                .map(|(kind, object)| (kind, object.to_string()))
                .collect(),
            sample: [namespace.to_owned(), claim.to_owned(), uid],
        })
    }

    fn fill(&self, values: [&str; 3]) -> anyhow::Result<Vec<(ApiResource, DynamicObject)>> {
        let fill = |text: &str| {
            let filled = self
                .sample
                .iter()
                .zip(values)
                .fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
            serde_json::from_str(&filled)
        };
        let filled = self
            .objects
            .iter()
            .map(|(kind, text)| Ok((kind.clone(), fill(text)?)));
        filled.collect()
    }
}

/// Writes so many claims with their objects, while no operator runs.
pub async fn write(
    ground: &Ground,
    namespace: &str,
    count: usize,
    template: &Template,
) -> anyhow::Result<Spans> {
    let mut watch = Watch::start(ground, namespace);
    let claims: Api<DynamicObject> =
        Api::namespaced_with(ground.client.clone(), namespace, &ground.contender.claims());
    let one = |name: String| {
        let (claims, claim) = (claims.clone(), ground.contender.claim(&name));
        async move {
            let claim: DynamicObject =
                serde_json::from_value::<Value>(claim).and_then(serde_json::from_value)?;
            let start = Instant::now();
            let uid = claims
                .create(&PostParams::default(), &claim)
                .await?
                .uid()
                .unwrap_or_default();
            let posts =
                template
                    .fill([namespace, &name, &uid])?
                    .into_iter()
                    .map(|(kind, object)| async move {
                        let api: Api<DynamicObject> =
                            Api::namespaced_with(ground.client.clone(), namespace, &kind);
                        let posted = api.create(&PostParams::default(), &object).await;
                        posted.with_context(|| format!("{} {}", kind.kind, object.name_any()))
                    });
            try_join_all(posts).await?;
            anyhow::Ok((name, start))
        }
    };
    let written =
        futures::stream::iter(fleet::names(count).map(one)).buffer_unordered(ground.contender.in_flight());
    let started: HashMap<_, _> = written.try_collect().await?;
    watch.complete(&started, ground.contender.children()).await
}
