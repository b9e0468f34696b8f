//! What is said of one object and of no other: what is particular to its kind, and whatever is not as it mostly is. Knows
//! nothing of where it is kept.

use serde::{Deserialize, Serialize};

use super::shapes::Shape;
use crate::compact::AtRest;
use crate::plan::observed::Detail;

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
    /// Another one than the claim.
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

impl AtRest for Particular {
    // One value per line, the least usual first. A test holds that they still are what such values look like.
    const LIKE: &str = concat!(
        r#"{"controller":["DatabaseClaim","",""],"team":"","detail":{"Volume":{"identity":null,"bound":false,"#,
        r#""requested":21474836480,"capacity":10737418240,"storage_class":null,"growth":{"taken_up":true,"#,
        r#""on_node":false,"infeasible":false,"failure":["ControllerResizeError",""]}}}}"#,
        "\n",
        r#"{"detail":{"Report":{"v":1,"agent":"0.1.0","podUid":"","phase":"Starting","trouble":{"reason":"","#,
        r#""message":""},"applied":{"config":"","credentials":0,"previousUntil":"2026-01-01T00:00:00Z"},"#,
        r#""pendingRestart":[""],"writeTest":{"ok":false,"message":""}}}}"#,
        "\n",
        r#"{"controller":["StatefulSet","-db-1",""],"detail":{"Pod":{"ready":false,"restart_hash":"","#,
        r#""asked":"","revision":"-db-1-","wanted":"","requested_memory":1073741824,"memory":null,"#,
        r#""resize_pending":"","unschedulable":"0/3 nodes are available: ","trouble":{"container":"database","#,
        r#""image":"","reason":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container"},"#,
        r#""node":null,"last_end":{"container":"database","reason":"OOMKilled","at":"2026-01-01T00:00:00Z"},"#,
        r#""node_silent":false,"gone_by":"2026-01-01T00:00:00Z"}}}"#,
        "\n",
        r#"{"detail":{"StatefulSet":{"restart_hash":"","asked":"","taken_up":true,"revision":"-db-1-","#,
        r#""stopped":false}}}"#,
        "\n",
        r#"{"controller":["Secret","-db-app",""],"detail":{"Marker":{"secret_uid":""}}}"#,
        "\n",
        r#"{"controller":["Secret","-db-admin",""],"detail":{"Marker":{"secret_uid":""}}}"#,
        "\n",
        r#"{"suffix":"-db-","controller":["Service","-db",""],"detail":{"Endpoints":{"service":"-db","ready":true}}}"#,
        "\n",
        r#"{"suffix":"-db-members-","controller":["Service","-db-members",""],"#,
        r#""detail":{"Endpoints":{"service":"-db-members","ready":true}}}"#,
        "\n",
        r#"{"detail":{"Volume":{"identity":{"v":1,"claim":"","volumeId":"","member":1,"engine":"","#,
        r#""major":"","database":"app","username":"app","initialized":{"at":"2026-01-01T00:00:00Z","#,
        r#""systemIdentifier":""}},"bound":true,"requested":10737418240,"capacity":10737418240,"#,
        r#""storage_class":"standard","growth":null}}}"#,
        "\n",
        r#"{"detail":{"Report":{"v":1,"agent":"0.1.0","podUid":"","phase":"Running","version":"17.5","#,
        r#""initialized":{"at":"2026-01-01T00:00:00Z","systemIdentifier":""},"#,
        r#""applied":{"config":"","credentials":1},"writeTest":{"ok":true},"#,
        r#""tls":{"certificate":"","ca":"","verified":true,"due":"2027-01-01T00:00:00Z"},"diskPercent":5}}}"#,
        "\n",
        r#"{"controller":["StatefulSet","-db-1",""],"detail":{"Pod":{"ready":true,"restart_hash":"","#,
        r#""asked":"","revision":"-db-1-","wanted":null,"requested_memory":2147483648,"memory":2147483648,"#,
        r#""resize_pending":null,"unschedulable":null,"trouble":null,"node":"node-1","last_end":null,"#,
        r#""node_silent":false,"gone_by":null}}}"#,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_values_are_packed_with_the_help_of_is_still_like_them() {
        for line in Particular::LIKE.lines() {
            let value: Particular = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), line);
        }
    }
}
