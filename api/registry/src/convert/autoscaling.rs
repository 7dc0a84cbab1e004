//! HorizontalPodAutoscaler: stored as v2; v1 knows one CPU target and keeps the rest in annotations.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn take(value: &mut Value, part: &str, field: &str) -> Option<Value> {
    value.get_mut(part).and_then(Value::as_object_mut).and_then(|m| m.remove(field))
}

fn annotate(value: &mut Value, key: &str, content: &Value) {
    if !value["metadata"]["annotations"].is_object() {
        value["metadata"]["annotations"] = json!({});
    }
    value["metadata"]["annotations"][key] = content.to_string().into();
}

fn unannotate(value: &mut Value, key: &str) -> Option<Value> {
    let annotations = value["metadata"].get_mut("annotations").and_then(Value::as_object_mut)?;
    let text = annotations.remove(key);
    if annotations.is_empty()
        && let Some(metadata) = value["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    // A client may have written anything there; what is no JSON says nothing.
    text.and_then(|t| t.as_str().and_then(|t| serde_json::from_str(t).ok()))
}

pub(super) fn v2_to_v1(value: &mut Value) {
    if let Some(Value::Array(metrics)) = take(value, "spec", "metrics") {
        let mut others = Vec::new();
        for metric in metrics {
            let utilization = &metric["resource"]["target"]["averageUtilization"];
            if is_cpu(&metric) && !utilization.is_null() && value["spec"]["targetCPUUtilizationPercentage"].is_null() {
                value["spec"]["targetCPUUtilizationPercentage"] = utilization.clone();
            } else {
                others.push(metric);
            }
        }
        if !others.is_empty() {
            annotate(value, METRICS, &Value::Array(others));
        }
    }
    if let Some(behavior) = take(value, "spec", "behavior") {
        annotate(value, BEHAVIOR, &behavior);
    }
    if let Some(Value::Array(metrics)) = take(value, "status", "currentMetrics") {
        let cpu = metrics.iter().find(|m| is_cpu(m)).map(|m| m["resource"]["current"]["averageUtilization"].clone());
        if let Some(cpu) = cpu.filter(|c| !c.is_null()) {
            value["status"]["currentCPUUtilizationPercentage"] = cpu;
        }
        if !metrics.is_empty() {
            annotate(value, CURRENT_METRICS, &Value::Array(metrics));
        }
    }
    if let Some(conditions) = take(value, "status", "conditions")
        && conditions.as_array().is_some_and(|c| !c.is_empty())
    {
        annotate(value, CONDITIONS, &conditions);
    }
}

pub(super) fn v1_to_v2(value: &mut Value) {
    let mut metrics = Vec::new();
    if let Some(Value::Array(others)) = unannotate(value, METRICS) {
        metrics.extend(others);
    }
    if let Some(target) = take(value, "spec", "targetCPUUtilizationPercentage").filter(|t| !t.is_null()) {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": target}}});
        metrics.insert(0, cpu);
    }
    if !metrics.is_empty() && value["spec"].is_object() {
        value["spec"]["metrics"] = Value::Array(metrics);
    }
    if let Some(behavior) = unannotate(value, BEHAVIOR)
        && value["spec"].is_object()
    {
        value["spec"]["behavior"] = behavior;
    }
    let current = take(value, "status", "currentCPUUtilizationPercentage");
    let status = [(CURRENT_METRICS, "currentMetrics"), (CONDITIONS, "conditions")];
    for (key, field) in status {
        if let Some(content) = unannotate(value, key) {
            if !value["status"].is_object() {
                value["status"] = Value::Object(Map::new());
            }
            value["status"][field] = content;
        }
    }
    if let Some(current) = current.filter(|c| !c.is_null())
        && value["status"]["currentMetrics"].is_null()
    {
        value["status"]["currentMetrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": current}}}]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_v1_cannot_say_survives_a_round_trip() {
        let v2 = json!({
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}},
            },
            "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5}}}],
                       "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut value = v2.clone();
        v2_to_v1(&mut value);
        assert_eq!(value["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        assert_eq!(value["status"], json!({"currentCPUUtilizationPercentage": 5}));
        v1_to_v2(&mut value);
        assert_eq!(value, v2);
    }
}
