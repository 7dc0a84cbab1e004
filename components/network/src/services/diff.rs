//! From one plan to the next as a single transaction that touches only what changed. Pure.

use std::fmt::Write as _;

use crate::services::plan::{Map, Plan};

/// The script that makes `new` of a table that holds `old`. Empty if nothing changed.
pub fn diff(table: &str, old: &Plan, new: &Plan) -> String {
    let mut script = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = script.write_fmt(text);
        script.push('\n');
    };
    // A set whose timeout changes is replaced; what refers to it is written anew below.
    let set_changed = |name: &str| old.sets.get(name).is_some_and(|set| new.sets.get(name) != Some(set));
    let chain_changed = |name: &str, rules: &[String]| {
        old.chains.get(name).map(Vec::as_slice) != Some(rules)
            || rules
                .iter()
                .any(|rule| old.sets.keys().any(|set| set_changed(set) && rule.contains(&format!("@{set} "))))
    };
    for (name, _) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        line(format_args!("add chain ip {table} {name}"));
    }
    let changed: Vec<_> = new.chains.iter().filter(|(name, rules)| chain_changed(name, rules)).collect();
    for (name, _) in changed.iter().filter(|(name, _)| old.chains.contains_key(*name)) {
        line(format_args!("flush chain ip {table} {name}"));
    }
    for name in old.sets.keys().filter(|name| new.sets.contains_key(*name) && set_changed(name)) {
        line(format_args!("delete set ip {table} {name}"));
    }
    for (name, set) in new.sets.iter().filter(|(name, set)| old.sets.get(*name) != Some(set)) {
        let timeout = set.timeout_seconds;
        line(format_args!(
            "add set ip {table} {name} {{ type ipv4_addr; flags dynamic,timeout; timeout {timeout}s; }}"
        ));
    }
    for (name, rules) in changed {
        for rule in rules {
            line(format_args!("add rule ip {table} {name} {rule}"));
        }
    }
    // An element cannot be replaced: it goes and comes back in the same transaction.
    for ((map, key), verdict) in &old.elements {
        if new.elements.get(&(*map, key.clone())) != Some(verdict) {
            line(format_args!("delete element ip {table} {} {{ {key} }}", Map::name(*map)));
        }
    }
    for ((map, key), verdict) in &new.elements {
        if old.elements.get(&(*map, key.clone())) != Some(verdict) {
            line(format_args!("add element ip {table} {} {{ {key} : {verdict} }}", Map::name(*map)));
        }
    }
    // Empty first, then delete: chains refer to each other.
    let gone: Vec<_> = old.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
    for name in &gone {
        line(format_args!("flush chain ip {table} {name}"));
    }
    for name in &gone {
        line(format_args!("delete chain ip {table} {name}"));
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        line(format_args!("delete set ip {table} {name}"));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::plan::AffinitySet;

    fn plan(chains: &[(&str, &[&str])], sets: &[(&str, u32)], elements: &[(&str, &str)]) -> Plan {
        Plan {
            chains: chains.iter().map(|(n, r)| ((*n).into(), r.iter().map(|r| (*r).into()).collect())).collect(),
            sets: sets.iter().map(|(n, t)| ((*n).into(), AffinitySet { timeout_seconds: *t })).collect(),
            elements: elements.iter().map(|(k, v)| ((Map::NodePorts, (*k).into()), (*v).into())).collect(),
        }
    }

    #[test]
    fn nothing_changed_is_no_script() {
        let same = plan(&[("a", &["x"])], &[("s", 1)], &[("tcp . 1", "goto a")]);
        assert_eq!(diff("t", &same, &same), "");
    }

    #[test]
    fn only_what_changed_is_touched() {
        let old = plan(
            &[("a", &["x"]), ("b", &["y"]), ("c", &["z"])],
            &[("s", 1)],
            &[("tcp . 1", "goto a"), ("tcp . 2", "goto b")],
        );
        let new =
            plan(&[("a", &["x"]), ("b", &["y2"]), ("d", &["w"])], &[], &[("tcp . 1", "goto d"), ("tcp . 3", "goto b")]);
        assert_eq!(
            diff("t", &old, &new).lines().collect::<Vec<_>>(),
            [
                "add chain ip t d",
                "flush chain ip t b",
                "add rule ip t b y2",
                "add rule ip t d w",
                "delete element ip t node_ports { tcp . 1 }",
                "delete element ip t node_ports { tcp . 2 }",
                "add element ip t node_ports { tcp . 1 : goto d }",
                "add element ip t node_ports { tcp . 3 : goto b }",
                "flush chain ip t c",
                "delete chain ip t c",
                "delete set ip t s",
            ]
        );
    }

    #[test]
    fn a_set_with_another_timeout_is_replaced_with_what_refers_to_it() {
        let old = plan(&[("a", &["update @s { ip saddr }"])], &[("s", 1)], &[]);
        let new = plan(&[("a", &["update @s { ip saddr }"])], &[("s", 2)], &[]);
        assert_eq!(
            diff("t", &old, &new).lines().collect::<Vec<_>>(),
            [
                "flush chain ip t a",
                "delete set ip t s",
                "add set ip t s { type ipv4_addr; flags dynamic,timeout; timeout 2s; }",
                "add rule ip t a update @s { ip saddr }",
            ]
        );
    }
}
