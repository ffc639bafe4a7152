//! Every crate in the program may be there: its licence is one that `deny.toml` allows.

use std::{collections::BTreeSet, fs};

/// Whether a licence expression can be satisfied with the allowed licences alone.
///
/// SPDX: `AND` binds closer than `OR`, parentheses closer than both; `/` is the old way to write `OR`.
/// What cannot be read is not allowed.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let verdict = any(&mut rest, allowed);
    verdict && rest.is_empty()
}

fn any(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        verdict |= all(rest, allowed);
    }
    verdict
}

fn all(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        verdict &= one(rest, allowed);
    }
    verdict
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let verdict = any(rest, allowed);
            match *rest {
                [")", tail @ ..] => *rest = tail,
                _ => return false,
            }
            verdict
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

fn allow_list() -> BTreeSet<String> {
    let text = fs::read_to_string(xtask::root().join("deny.toml")).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let listed = table
        .get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(|allow| allow.as_array());
    listed
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

#[test]
fn every_crate_has_an_allowed_licence() {
    let allowed = allow_list();
    let metadata = xtask::metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(
        packages.len() > 10,
        "cargo metadata lists {} packages only",
        packages.len()
    );
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !satisfied(package["license"].as_str().unwrap_or(""), &allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn the_licence_of_this_program_is_apache_2() {
    let metadata = xtask::metadata().unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        if package["source"].is_null() {
            assert_eq!(package["license"], "Apache-2.0", "{}", package["name"]);
        }
    }
    let text = fs::read_to_string(xtask::root().join("LICENSE")).unwrap();
    assert!(text.contains("Apache License") && text.contains("Version 2.0, January 2004"));
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT AND MIT OR GPL-3.0-only", true),
        ("MIT AND (GPL-3.0-only OR MIT)", true),
        ("(MIT OR GPL-3.0-only) AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT MIT", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}
