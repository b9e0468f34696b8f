//! What is worth reporting, and the patch that says it. Pure.

use crate::api::key;
use crate::api::protocol::{Report, Trouble};

/// Percentage steps of the fill level.
const STEP: u64 = 5;

/// Fill level in percent, rounded down to a multiple of 5. One percent below a step still counts as the step
/// that was reported, so that a level at the edge does not make a report with every block.
pub fn disk_bucket(before: Option<u8>, size: u64, used: u64) -> Option<u8> {
    let percent = used.saturating_mul(100).checked_div(size)?.min(100);
    let bucket = match before.map(u64::from) {
        Some(before) if percent < before && percent + 1 >= before => before,
        _ => percent - percent % STEP,
    };
    u8::try_from(bucket).ok()
}

/// Whether two troubles differ only in digits: the times and process ids in an engine's log lines change with
/// every try, and that is no news.
pub fn same_but_numbers(before: &Trouble, after: &Trouble) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    before.reason == after.reason && words(&before.message) == words(&after.message)
}

/// The merge patch that puts a report on its ConfigMap.
///
/// # Errors
/// None in practice: a report has only string keys.
pub fn patch(report: &Report) -> Result<String, serde_json::Error> {
    let report = serde_json::to_string(report)?;
    serde_json::to_string(&serde_json::json!({ "metadata": { "annotations": { key::REPORT: report } } }))
}
