//! What the API server, or a controller in our place, was refused: whose refusal it is and what to do. Pure.

use super::diagnosis::Verdict;
use crate::api::condition::reason;
use crate::plan::observed::Warning;
use crate::render::Kind;

/// The API server refused a request of ours, and would refuse it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was attempted, such as `create`.
    pub verb: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// The API server's own words.
    pub words: String,
}

impl Refusal {
    /// Whether a quota or a LimitRange refuses: then it would refuse a new Pod just the same.
    pub fn is_of_room(&self) -> bool {
        [reason::QUOTA_EXCEEDED, reason::LIMIT_EXCEEDED].contains(&sort(&self.words).0)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let (reason, next) = sort(&self.words);
        let Self {
            verb,
            kind,
            name,
            words,
        } = self;
        let message = format!(
            "the API server does not let dbclaim {verb} {kind} {name}: {}. {next}",
            end(words)
        );
        Verdict::bad(reason, message)
    }
}

/// The first refusal that concerns the volume.
pub(super) fn volume(refusals: &[Refusal]) -> Option<Verdict> {
    let kind = Kind::PersistentVolumeClaim.name();
    refusals.iter().find(|it| it.kind == kind).map(Refusal::verdict)
}

/// A Pod that its StatefulSet could not make.
pub(super) fn pod(pod: &str, warning: &Warning) -> Verdict {
    let (reason, next) = match sort(&warning.message) {
        (reason::API_REFUSED, next) => (reason::POD_REFUSED, next),
        sorted => sorted,
    };
    let (set, words) = (&warning.name, warning.message.as_str());
    // The StatefulSet's controller puts its own sentence before what it was told.
    let words = words
        .split_once("failed error: ")
        .map_or(words, |(_, words)| words);
    Verdict::bad(
        reason,
        format!("StatefulSet {set} cannot make Pod {pod}: {}. {next}", end(words)),
    )
}

/// Whether somebody has to act before it can go on.
pub(super) fn needs_a_human(reason: &str) -> bool {
    [
        reason::QUOTA_EXCEEDED,
        reason::LIMIT_EXCEEDED,
        reason::POD_SECURITY,
        reason::POD_REFUSED,
        reason::API_REFUSED,
        reason::EXPANSION_REFUSED,
    ]
    .contains(&reason)
}

/// Reason and next action, from the words of the admission plugin that refused.
fn sort(words: &str) -> (&'static str, &'static str) {
    let has = |part: &str| words.contains(part);
    if has("exceeded quota") || has("failed quota") {
        return (
            reason::QUOTA_EXCEEDED,
            "Raise the ResourceQuota, or free some of it: kubectl describe quota",
        );
    }
    if has(" usage per ") || has("limit to request ratio per ") {
        return (
            reason::LIMIT_EXCEEDED,
            "Choose another size or storage, or change the LimitRange: kubectl describe limitrange",
        );
    }
    if has("must support resize") {
        return (
            reason::EXPANSION_REFUSED,
            "Set spec.storage back to what the volume has (status.resolved.storage), let the StorageClass allow it (allowVolumeExpansion), or copy the data to a claim in a class that does",
        );
    }
    if has("violates PodSecurity") {
        return (
            reason::POD_SECURITY,
            "Let the namespace allow it, by its label pod-security.kubernetes.io/enforce, or look for what changes our Pods",
        );
    }
    if has("cannot") && has("resource \"") {
        return (
            reason::API_REFUSED,
            "Grant it: install or upgrade the chart with its ClusterRole and ClusterRoleBinding",
        );
    }
    (
        reason::API_REFUSED,
        "Change the policy, webhook or object that refuses; it is tried again by itself",
    )
}

/// Words of others, to go on in a sentence of ours; nothing where they said nothing.
pub(super) fn because(words: &str) -> String {
    match end(words) {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

/// Words without their own full stop, so that ours follows.
pub(super) fn end(words: &str) -> &str {
    words.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &str) -> Verdict {
        let (verb, kind) = ("create", "PersistentVolumeClaim");
        let (name, words) = ("orders-db-1".into(), words.into());
        Refusal {
            verb,
            kind,
            name,
            words,
        }
        .verdict()
    }

    #[test]
    fn who_refuses_is_told_from_the_words_of_the_api_server() {
        let table = [
            (
                "persistentvolumeclaims \"x\" is forbidden: exceeded quota: q, requested: a=1, used: a=1, limited: a=1",
                "QuotaExceeded",
            ),
            (
                "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu",
                "QuotaExceeded",
            ),
            (
                "pods \"x\" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi",
                "LimitExceeded",
            ),
            (
                "persistentvolumeclaims \"x\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi",
                "LimitExceeded",
            ),
            (
                "persistentvolumeclaims \"x\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
                "ExpansionRefused",
            ),
            (
                "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true",
                "PodSecurityRefused",
            ),
            (
                "services is forbidden: User \"u\" cannot create resource \"services\" in API group \"\" in the namespace \"n\"",
                "ApiRefused",
            ),
            (
                "services \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
                "ApiRefused",
            ),
        ];
        for (words, reason) in table {
            let verdict = refused(words);
            assert_eq!(verdict.reason, reason, "{words}");
            assert!(verdict.message.contains(words) && verdict.message.contains("orders-db-1"));
        }
    }

    #[test]
    fn a_missing_right_names_verb_resource_and_the_remedy() {
        let message =
            refused("services is forbidden: User \"u\" cannot create resource \"services\"").message;
        assert!(message.contains("cannot create resource \"services\"") && message.contains("ClusterRole"));
    }
}
