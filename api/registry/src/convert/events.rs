//! Events of the core group, as they are stored, and of `events.k8s.io`.

use serde_json::Value;

use super::rename;

const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn core_to_events(value: &mut Value) {
    for (core, events) in RENAMED {
        rename(value, core, events);
    }
}

pub(super) fn events_to_core(value: &mut Value) {
    for (core, events) in RENAMED {
        rename(value, events, core);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back() {
        let core = json!({"involvedObject": {"kind": "Pod"}, "message": "m", "count": 2, "reason": "r",
            "source": {"component": "c"}, "reportingComponent": "x", "firstTimestamp": "a", "lastTimestamp": "b"});
        let mut value = core.clone();
        core_to_events(&mut value);
        assert_eq!(value["note"], "m");
        assert_eq!(value["regarding"]["kind"], "Pod");
        assert_eq!(value["deprecatedCount"], 2);
        events_to_core(&mut value);
        assert_eq!(value, core);
    }
}
