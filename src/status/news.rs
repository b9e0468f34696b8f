//! What of a status is worth an Event: trouble that has begun, or changed, or is over, and the milestones of an
//! ordinary life. Pure. Everything follows from the difference between two statuses, so that an operator that was
//! restarted repeats nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::milestone::milestones;
use crate::api::condition::{kind, reason};
use crate::api::v1::DatabaseClaimStatus;
use crate::claim::ClaimId;

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

/// What an Event is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something is wrong since now.
    Trouble,
    /// Something will be wrong before long.
    Warning,
    /// Nothing is wrong any more.
    Over,
    /// Something that was asked for has happened.
    Milestone,
}

/// One thing that is worth an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What it is.
    pub tone: Tone,
    /// Reason of the Event.
    pub reason: String,
    /// Sentence for people.
    pub message: String,
}

impl News {
    fn of(tone: Tone, condition: &Condition) -> Self {
        Self {
            tone,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }

    fn over() -> Self {
        Self {
            tone: Tone::Over,
            reason: reason::READY.to_owned(),
            message: "the trouble is over; a client can connect, write and read".to_owned(),
        }
    }
}

/// Compares two statuses of a claim; `in_trouble`: whether there was trouble since it was last ready.
pub fn news(
    id: &ClaimId,
    before: Option<&DatabaseClaimStatus>,
    now: &DatabaseClaimStatus,
    in_trouble: bool,
) -> Vec<News> {
    let trouble = about_trouble(before, now, in_trouble);
    let is_over = trouble.as_ref().is_some_and(|it| it.tone == Tone::Over);
    let milestones = milestones(id, before, now)
        .into_iter()
        // The end of trouble says that it is Ready.
        .filter(|it| !(is_over && it.reason == reason::READY));
    trouble.into_iter().chain(milestones).collect()
}

fn about_trouble(
    before: Option<&DatabaseClaimStatus>,
    now: &DatabaseClaimStatus,
    in_trouble: bool,
) -> Option<News> {
    let was = before.and_then(trouble);
    match trouble(now) {
        Some(trouble) if was.is_none_or(|was| was.reason != trouble.reason) => {
            Some(News::of(Tone::Trouble, trouble))
        }
        None if filling(now).is_some_and(|it| worse(before, it)) => {
            filling(now).map(|it| News::of(Tone::Warning, it))
        }
        None if is_ready(now) && (in_trouble || was.is_some()) => Some(News::over()),
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

    fn tone(
        before: Option<&DatabaseClaimStatus>,
        now: &DatabaseClaimStatus,
        in_trouble: bool,
    ) -> Option<Tone> {
        about_trouble(before, now, in_trouble).map(|it| it.tone)
    }

    #[test]
    fn trouble_is_news_once_however_its_words_change_and_so_is_its_end() {
        let (starting, ready) = (status(reason::STARTING, ""), status(reason::READY, ""));
        let (quota, same) = (
            status(reason::QUOTA_EXCEEDED, "7 of 8"),
            status(reason::QUOTA_EXCEEDED, "8 of 8"),
        );
        assert_eq!(tone(None, &quota, false), Some(Tone::Trouble));
        assert_eq!(tone(Some(&starting), &quota, false), Some(Tone::Trouble));
        assert_eq!(tone(Some(&quota), &same, true), None);
        assert_eq!(tone(Some(&quota), &starting, true), None);
        assert_eq!(tone(Some(&starting), &ready, true), Some(Tone::Over));
        assert_eq!(
            tone(Some(&quota), &ready, false),
            Some(Tone::Over),
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
        assert_eq!(tone(Some(&ready), &filling, false), Some(Tone::Warning));
        assert_eq!(tone(Some(&filling), &filling, false), None);
        assert_eq!(tone(Some(&filling), &ready, false), None);
    }

    #[test]
    fn an_ordinary_start_is_no_trouble() {
        let (starting, ready) = (status(reason::STARTING, ""), status(reason::READY, ""));
        assert_eq!(tone(None, &starting, false), None);
        assert_eq!(tone(Some(&starting), &ready, false), None);
        assert_eq!(tone(Some(&ready), &ready, false), None);
    }
}
