//! What is said of one object and of no other: what is particular to its kind, and whatever is not as it mostly is. Knows
//! nothing of where it is kept.

use serde::{Deserialize, Serialize};

use super::shapes::Shape;
use crate::plan::observed::Detail;
use crate::render::Kind;

/// What an object has for itself. Its JSON is for this process' own memory; nobody else reads it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Particular {
    /// A name that does not begin with the claim's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What follows the claim's name, where that was made up for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suffix: Option<String>,
    /// Where there was no room for one more among those that are shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shape: Option<Shape>,
    /// One that is no UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<String>,
    /// One that is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource_version: Option<String>,
    /// One that is no hash of 64 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) applied: Option<String>,
    /// One that is not named after the claim, or whose UID is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) controller: Option<(String, String, String)>,
    /// Another one than that of the claim's other objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) team: Option<String>,
    /// Most kinds have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<Detail>,
}

impl Particular {
    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// JSON of what objects of a kind have for themselves, to pack it with the help of: one value per line, the least usual
/// first. A test holds that they still are what such values look like.
pub(super) fn like(kind: Kind) -> &'static str {
    match kind {
        Kind::StatefulSet => WORKLOAD,
        Kind::PersistentVolumeClaim => VOLUME,
        Kind::Pod => POD,
        Kind::ConfigMap => REPORT_OR_MARKER,
        Kind::EndpointSlice => ENDPOINTS,
        Kind::Service | Kind::Secret | Kind::ServiceAccount | Kind::Role | Kind::RoleBinding => OTHER,
    }
}

const OTHER: &str = r#"{"controller":["DatabaseClaim","",""],"team":""}"#;

const WORKLOAD: &str = concat!(
    r#"{"team":"","detail":{"StatefulSet":{"restart_hash":null,"asked":null,"taken_up":false,"revision":null,"#,
    r#""stopped":true}}}"#,
    "\n",
    r#"{"detail":{"StatefulSet":{"restart_hash":"","asked":"","taken_up":true,"revision":"-db-1-","stopped":false}}}"#,
);

const VOLUME: &str = concat!(
    r#"{"team":"","detail":{"Volume":{"identity":null,"bound":false,"requested":21474836480,"capacity":null,"#,
    r#""storage_class":null,"growth":{"taken_up":true,"on_node":false,"infeasible":false,"#,
    r#""failure":["ControllerResizeError",""]}}}}"#,
    "\n",
    r#"{"detail":{"Volume":{"identity":{"v":1,"claim":"","volumeId":"","member":1,"engine":"","major":"","#,
    r#""database":"app","username":"app","initialized":{"at":"2026-01-01T00:00:00Z","systemIdentifier":""}},"#,
    r#""bound":true,"requested":10737418240,"capacity":10737418240,"storage_class":"standard","growth":null}}}"#,
);

const POD: &str = concat!(
    r#"{"team":"","detail":{"Pod":{"ready":false,"restart_hash":null,"asked":null,"revision":"-db-1-","wanted":"","#,
    r#""requested_memory":1073741824,"memory":null,"resize_pending":"","#,
    r#""unschedulable":"0/3 nodes are available: ","trouble":{"container":"database","image":"","#,
    r#""reason":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container"},"node":null,"#,
    r#""last_end":{"container":"database","reason":"OOMKilled","at":"2026-01-01T00:00:00Z"},"node_silent":true,"#,
    r#""gone_by":"2026-01-01T00:00:00Z"}}}"#,
    "\n",
    r#"{"detail":{"Pod":{"ready":true,"restart_hash":"","asked":"","revision":"-db-1-","wanted":null,"#,
    r#""requested_memory":2147483648,"memory":2147483648,"resize_pending":null,"unschedulable":null,"#,
    r#""trouble":null,"node":"node-1","last_end":null,"node_silent":false,"gone_by":null}}}"#,
);

const REPORT_OR_MARKER: &str = concat!(
    r#"{"team":"","detail":{"Report":null}}"#,
    "\n",
    r#"{"detail":{"Report":{"v":1,"agent":"0.1.0","podUid":"","phase":"Starting","trouble":{"reason":"","#,
    r#""message":""},"applied":{"config":"","credentials":0,"previousUntil":"2026-01-01T00:00:00Z"},"#,
    r#""pendingRestart":[""],"writeTest":{"ok":false,"message":""}}}}"#,
    "\n",
    r#"{"detail":{"Report":{"v":1,"agent":"0.1.0","podUid":"","phase":"Running","version":"17.5","#,
    r#""initialized":{"at":"2026-01-01T00:00:00Z","systemIdentifier":""},"#,
    r#""applied":{"config":"","credentials":1},"writeTest":{"ok":true},"#,
    r#""tls":{"certificate":"","ca":"","verified":true,"due":"2027-01-01T00:00:00Z"},"diskPercent":5}}}"#,
    "\n",
    r#"{"detail":{"Marker":{"secret_uid":""}}}"#,
);

const ENDPOINTS: &str = concat!(
    r#"{"team":"","detail":{"Endpoints":{"service":"","ready":false}}}"#,
    "\n",
    r#"{"suffix":"-db-members-","detail":{"Endpoints":{"service":"-db-members","ready":true}}}"#,
    "\n",
    r#"{"suffix":"-db-","detail":{"Endpoints":{"service":"-db","ready":true}}}"#,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_values_are_packed_with_the_help_of_is_still_like_them() {
        for text in [OTHER, WORKLOAD, VOLUME, POD, REPORT_OR_MARKER, ENDPOINTS] {
            for line in text.lines() {
                let value: Particular = serde_json::from_str(line).unwrap();
                assert_eq!(serde_json::to_string(&value).unwrap(), line);
            }
        }
    }
}
