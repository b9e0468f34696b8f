//! A plan as text, for tables.

use dbclaim::plan::{Plan, Step};

use super::Pass;

impl Pass {
    /// What is planned, as text.
    pub fn text(&self) -> String {
        if let Err(violations) = &self.resolved
            && self.plan == Plan::default()
        {
            return format!("refused: {violations}");
        }
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for step in &self.plan.steps {
            let (verb, what) = match step {
                Step::Create(object) => ("create".to_owned(), format!("{:?}", object.slot)),
                Step::CreateSecrets(_) => (
                    "create in this order:".to_owned(),
                    "AppSecret AdminSecret".to_owned(),
                ),
                Step::Apply { object, .. } => ("apply".to_owned(), format!("{:?}", object.slot)),
                Step::Label { kind, label, .. } => {
                    (format!("label {kind:?}"), format!("{}={}", label.0, label.1))
                }
                Step::Annotate {
                    kind, annotations, ..
                } => (format!("annotate {kind:?}"), keys(annotations)),
                Step::Resize { name, memory, .. } => (format!("resize to {memory}:"), name.clone()),
                Step::Delete {
                    kind,
                    name,
                    allowed_by,
                    ..
                } => (format!("delete, by {allowed_by:?}:"), format!("{kind:?}/{name}")),
                Step::Finalizer { present } => ("finalizer".to_owned(), present.to_string()),
            };
            match lines.last_mut().filter(|it| it.0 == verb) {
                Some((_, list)) => list.push(what),
                None => lines.push((verb, vec![what])),
            }
        }
        let steps = lines
            .into_iter()
            .map(|(verb, what)| format!("{verb} {}", what.join(" ")));
        let blocked = self.plan.blocked.iter();
        let blocked = blocked.map(|it| format!("blocked {}: {}", it.condition, it.reason));
        let not_in_place = self.plan.not_in_place.as_ref();
        let rest = [
            self.plan
                .restart_pending
                .then(|| "a restart is pending".to_owned()),
            self.plan.restarting.then(|| "restarting".to_owned()),
            self.plan.growing.map(|_| "growing".to_owned()),
            not_in_place.map(|it| format!("not in place: {it}")),
            self.plan.again.then(|| "again at once".to_owned()),
            self.plan.requeue.map(|it| format!("again in {it:?}")),
        ];
        let lines: Vec<String> = steps.chain(blocked).chain(rest.into_iter().flatten()).collect();
        if lines.is_empty() {
            "nothing".to_owned()
        } else {
            lines.join("\n")
        }
    }
}

fn keys(annotations: &[(&str, String)]) -> String {
    let keys: Vec<_> = annotations.iter().map(|(key, _)| *key).collect();
    keys.join(" ")
}
