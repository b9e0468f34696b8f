//! What of a status is worth an Event: trouble that has begun, or changed, or is over. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::condition::{kind, reason};
use crate::api::v1::DatabaseClaimStatus;

/// Reasons of `Ready=False` that belong to starting, stopping and what somebody has asked for.
const QUIET: [&str; 12] = [
    reason::HIBERNATED,
    reason::PROVISIONING,
    reason::TERMINATING,
    reason::PAUSED,
    reason::POD_MISSING,
    reason::AGENT_SILENT,
    reason::STARTING,
    reason::STOPPING,
    reason::ENDPOINT_NOT_READY,
    reason::VOLUME_PENDING,
    reason::CREDENTIALS_PENDING,
    reason::WAITING_FOR_REMOVAL,
];

/// The condition that says what is wrong, if something is.
pub fn trouble(status: &DatabaseClaimStatus) -> Option<&Condition> {
    let find = |type_: &str, value: &str| {
        let mut conditions = status.conditions.iter();
        conditions.find(|it| it.type_ == type_ && it.status == value && !QUIET.contains(&it.reason.as_str()))
    };
    find(kind::READY, "False").or_else(|| find(kind::STALLED, "True"))
}

/// Whether a client can connect, write and read.
pub fn is_ready(status: &DatabaseClaimStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|it| it.type_ == kind::READY && it.status == "True")
}

fn filling(status: &DatabaseClaimStatus) -> Option<&Condition> {
    let full = [reason::VOLUME_FILLING, reason::VOLUME_FULL];
    let mut conditions = status.conditions.iter();
    conditions.find(|it| full.contains(&it.reason.as_str()))
}

/// Whether the volume was not as full before; that it has become less full is no news.
fn worse(before: Option<&DatabaseClaimStatus>, now: &Condition) -> bool {
    before
        .and_then(filling)
        .is_none_or(|it| it.reason == reason::VOLUME_FILLING && now.reason == reason::VOLUME_FULL)
}

/// What is worth an Event.
#[derive(Clone, Debug, PartialEq)]
pub enum News<'a> {
    /// This is wrong since now.
    Trouble(&'a Condition),
    /// This will be wrong before long.
    Warning(&'a Condition),
    /// Nothing is wrong any more.
    Over,
}

/// Compares two statuses; `in_trouble`: whether there was trouble since it was last ready.
pub fn news<'a>(
    before: Option<&DatabaseClaimStatus>,
    now: &'a DatabaseClaimStatus,
    in_trouble: bool,
) -> Option<News<'a>> {
    let was = before.and_then(trouble);
    match trouble(now) {
        Some(trouble) if was.is_none_or(|was| was.reason != trouble.reason) => Some(News::Trouble(trouble)),
        None if filling(now).is_some_and(|it| worse(before, it)) => filling(now).map(News::Warning),
        None if is_ready(now) && (in_trouble || was.is_some()) => Some(News::Over),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::told;

    fn status(reason: &str, words: &str) -> DatabaseClaimStatus {
        let is = if reason == reason::READY { "True" } else { "False" };
        let condition = Condition {
            message: words.into(),
            ..told(kind::READY, is, reason)
        };
        DatabaseClaimStatus {
            conditions: vec![condition],
            ..Default::default()
        }
    }

    #[test]
    fn trouble_is_news_once_however_its_words_change_and_so_is_its_end() {
        let (starting, ready) = (status(reason::STARTING, ""), status(reason::READY, ""));
        let (quota, same) = (
            status(reason::QUOTA_EXCEEDED, "7 of 8"),
            status(reason::QUOTA_EXCEEDED, "8 of 8"),
        );
        assert!(matches!(news(None, &quota, false), Some(News::Trouble(_))));
        assert!(matches!(
            news(Some(&starting), &quota, false),
            Some(News::Trouble(_))
        ));
        assert_eq!(news(Some(&quota), &same, true), None);
        assert_eq!(news(Some(&quota), &starting, true), None);
        assert_eq!(news(Some(&starting), &ready, true), Some(News::Over));
        assert_eq!(
            news(Some(&quota), &ready, false),
            Some(News::Over),
            "after a restart of the operator"
        );
    }

    #[test]
    fn a_filling_volume_is_news_once() {
        let (ready, filling) = (status(reason::READY, ""), {
            let mut filling = status(reason::READY, "");
            let mut volume = status(reason::VOLUME_FILLING, "").conditions;
            for condition in &mut volume {
                condition.status = "True".into();
            }
            filling.conditions.append(&mut volume);
            filling
        });
        assert!(matches!(
            news(Some(&ready), &filling, false),
            Some(News::Warning(_))
        ));
        assert_eq!(news(Some(&filling), &filling, false), None);
        assert_eq!(news(Some(&filling), &ready, false), None);
    }

    #[test]
    fn an_ordinary_start_is_no_news() {
        let (starting, ready) = (status(reason::STARTING, ""), status(reason::READY, ""));
        assert_eq!(news(None, &starting, false), None);
        assert_eq!(news(Some(&starting), &ready, false), None);
        assert_eq!(news(Some(&ready), &ready, false), None);
    }
}
