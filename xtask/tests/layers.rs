//! Arrows between our crates go one way: from the program down to the formats.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A crate and what it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("pgformat", &[]),
    ("repo", &[]),
    ("pgclient", &["pgformat"]),
    ("engine", &["pgformat", "pgclient", "repo"]),
    ("cli", &["engine"]),
    ("testkit", &["pgformat", "pgclient", "repo"]),
    ("xtask", &[]),
];

/// Builds faults into `repo` on purpose, for the tests that must find them.
const FAULTS: &str = "mutants";

struct Arrow {
    from: String,
    to: String,
    for_tests: bool,
    features: Vec<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Our crates: packages without a source come from this tree.
fn ours(metadata: &Value) -> Vec<&Value> {
    list(&metadata["packages"])
        .iter()
        .filter(|package| package["source"].is_null())
        .collect()
}

fn arrows(metadata: &Value) -> Vec<Arrow> {
    let ours = ours(metadata);
    let names: BTreeSet<String> = ours.iter().map(|package| text(&package["name"])).collect();
    let mut arrows = Vec::new();
    for package in ours {
        for dependency in list(&package["dependencies"]) {
            let to = text(&dependency["name"]);
            if names.contains(&to) {
                arrows.push(Arrow {
                    from: text(&package["name"]),
                    to,
                    for_tests: dependency["kind"] == "dev",
                    features: list(&dependency["features"]).iter().map(text).collect(),
                });
            }
        }
    }
    arrows
}

/// Everything that can be reached from `name` along allowed arrows.
fn below(allowed: &BTreeMap<&str, &[&'static str]>, name: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut waiting = allowed.get(name).map(|to| to.to_vec()).unwrap_or_default();
    while let Some(next) = waiting.pop() {
        if found.insert(next) {
            waiting.extend(allowed.get(next).into_iter().flat_map(|to| to.iter()));
        }
    }
    found
}

#[test]
fn crates_depend_only_on_what_lies_below_them() {
    let metadata = xtask::metadata().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for package in ours(&metadata) {
        let name = text(&package["name"]);
        assert!(
            allowed.contains_key(name.as_str()),
            "{name} has no place among the layers: give it one in ARROWS"
        );
    }
    for Arrow {
        from, to, for_tests, ..
    } in arrows(&metadata)
    {
        // Tests may use the test kit and everything below their own crate, directly or not.
        let may = if for_tests {
            to == "testkit" || below(&allowed, &from).contains(to.as_str())
        } else {
            allowed[from.as_str()].contains(&to.as_str())
        };
        assert!(may, "{from} may not depend on {to}");
    }
}

#[test]
fn the_layers_have_no_circle() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (name, _) in ARROWS {
        assert!(!below(&allowed, name).contains(name), "{name} lies below itself");
    }
}

#[test]
fn faults_built_in_for_tests_are_not_in_the_program() {
    let metadata = xtask::metadata().unwrap();
    for Arrow {
        from,
        to,
        for_tests,
        features,
    } in arrows(&metadata)
    {
        let asked = features.iter().any(|feature| feature == FAULTS);
        assert!(
            !asked || for_tests || from == "testkit",
            "{from} builds {to} with faults for tests"
        );
    }
    for package in ours(&metadata) {
        let default = list(&package["features"]["default"])
            .iter()
            .any(|feature| feature == FAULTS);
        assert!(!default, "{} has faults for tests by default", package["name"]);
    }
}
