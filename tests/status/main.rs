//! What people and tools read: conditions, phase and words, from what a pass saw.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; the linter does not see that fixtures are part of tests"
)]
#![expect(unreachable_pub, reason = "modules of one program")]

mod access;
#[path = "../plan/cluster/mod.rs"]
#[expect(
    dead_code,
    reason = "the model of the planner's tests, of which this program needs a part"
)]
mod cluster;
mod growth;
mod memory;
mod milestones;
mod served;
mod start;
mod states;
mod words;

use cluster::Cluster;
use dbclaim::api::v1::DatabaseClaimStatus;
use dbclaim::status::{self, Moment};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

const GENERATION: i64 = 3;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + second).unwrap()
}

/// The status after a pass, as the controller makes it.
fn status_of(cluster: &Cluster, before: Option<&DatabaseClaimStatus>, now: Timestamp) -> DatabaseClaimStatus {
    let pass = cluster.pass();
    let moment = Moment {
        generation: GENERATION,
        before,
        now,
        refusals: &[],
    };
    match &pass.resolved {
        _ if cluster.deleting => status::terminating(moment),
        Ok(claim) => status::serving(claim, &pass.observed, &pass.plan, moment),
        Err(violations) => status::refused(violations, cluster.known().as_ref(), &pass.observed, moment),
    }
}

fn condition<'a>(status: &'a DatabaseClaimStatus, kind: &str) -> &'a Condition {
    let mut conditions = status.conditions.iter();
    conditions
        .find(|it| it.type_ == kind)
        .unwrap_or_else(|| panic!("no condition {kind}"))
}

/// The status of a claim that was in this state a minute ago already: no step of a start hides anything.
fn lasting(cluster: &Cluster) -> DatabaseClaimStatus {
    let first = status_of(cluster, None, at(0));
    status_of(cluster, Some(&first), at(60))
}
