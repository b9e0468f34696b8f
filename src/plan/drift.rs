//! Whether a live object still says what was rendered. Pure.

use serde_json::Value;

/// The first place where `live` does not contain what `desired` says, as a path; `None` when it all stands.
/// What the API server or others have added is not a difference.
pub fn first_difference(desired: &Value, live: &Value) -> Option<String> {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => desired.iter().find_map(|(key, value)| {
            let found = live.get(key).unwrap_or(&Value::Null);
            (!is_empty(value) || !is_empty(found))
                .then(|| first_difference(value, found))
                .flatten()
                .map(|path| format!(".{key}{path}"))
        }),
        (Value::Array(desired), Value::Array(live)) => {
            if desired.len() > live.len() {
                return Some(String::new());
            }
            let mut items = desired.iter().enumerate();
            items
                .find_map(|(index, item)| Some(format!("[{index}]{}", first_difference_in_list(item, live)?)))
        }
        (desired, live) if desired == live => None,
        _ => Some(String::new()),
    }
}

/// List items are matched by content, not by place: others may have put theirs before ours.
fn first_difference_in_list(item: &Value, live: &[Value]) -> Option<String> {
    let same_name = |other: &&Value| match (item.get("name"), other.get("name")) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    let mut paths: Vec<Option<String>> = live
        .iter()
        .filter(same_name)
        .map(|other| first_difference(item, other))
        .collect();
    if paths.iter().any(Option::is_none) {
        return None;
    }
    // The deepest difference belongs to the item that was most likely meant.
    paths.sort_by_key(|path| path.as_ref().map_or(0, String::len));
    paths.pop().flatten().or_else(|| Some(String::new()))
}

/// The API server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_add_is_no_difference_and_what_they_change_is() {
        let desired = json!({"a": {"b": 1, "list": [{"name": "x", "v": 1}]}, "empty": {}, "none": null});
        for (live, expected) in [
            (
                json!({"a": {"b": 1, "c": 2, "list": [{"name": "y"}, {"name": "x", "v": 1, "w": 2}]}}),
                None,
            ),
            (
                json!({"a": {"b": 2, "list": [{"name": "x", "v": 1}]}}),
                Some(".a.b"),
            ),
            (json!({"a": {"list": [{"name": "x", "v": 1}]}}), Some(".a.b")),
            (json!({"a": {"b": 1, "list": []}}), Some(".a.list")),
            (
                json!({"a": {"b": 1, "list": [{"name": "x", "v": 3}]}}),
                Some(".a.list[0].v"),
            ),
        ] {
            assert_eq!(first_difference(&desired, &live).as_deref(), expected, "{live}");
        }
    }
}
