//! Tries every interleaving of writers, a collector and a reader at the ledger, with every fault that a
//! store's contract allows, up to the bounds of each scenario.
//!
//! The machines under test are the real ones: `State` and `Append`. Only the store and the processes
//! around them are models. Memoised: a world reached twice is explored once.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test: panicking is its answer, counts are its report"
)]
#![allow(
    clippy::disallowed_types,
    reason = "memo tables: only membership is asked, never an order"
)]

mod ledgers;
mod scenario;
mod search;
mod world;

use repo::ledger::Rule;
use repo::ledger::append::Mutant;
use scenario::{Scenario, scenarios};
use search::explore;

#[test]
fn in_no_interleaving_is_anything_lost_that_is_needed_or_reported_wrongly() {
    let mut total = 0;
    for scenario in scenarios() {
        match explore(&scenario) {
            Ok(states) => {
                println!("{:>9} states: {}", states, scenario.name);
                total += states;
            }
            Err(violation) => panic!("{}: {violation}", scenario.name),
        }
    }
    println!("{total:>9} states in all");
    assert!(
        total > 1_000_000,
        "only {total} states: the scenarios no longer explore much"
    );
}

/// Whether some scenario notices the change.
fn caught(change: impl Fn(Scenario) -> Scenario) -> Option<String> {
    let calm = scenarios().into_iter().map(|scenario| Scenario {
        faults: scenario.faults.min(1),
        ..scenario
    });
    calm.map(change).find_map(|scenario| {
        let violation = explore(&scenario).err()?;
        Some(format!("{}: {violation}", scenario.name))
    })
}

#[test]
fn the_explorer_notices_when_a_rule_of_the_ledger_is_broken() {
    for rule in [
        Rule::RunKnown,
        Rule::ParentUnusable,
        Rule::RunNotOpen,
        Rule::ReferenceCondemned,
        Rule::Held,
        Rule::PinUnusable,
        Rule::NeededByBackup,
        Rule::NeededByRun,
        Rule::NeededByPin,
        Rule::NotSweepable,
    ] {
        let violation = caught(|scenario| Scenario {
            ignored: Some(rule),
            ..scenario
        });
        println!("{rule:?} ignored: {}", violation.as_deref().unwrap_or("not noticed"));
        assert!(violation.is_some(), "nobody noticed that {rule:?} was ignored");
    }
}

#[test]
fn the_explorer_notices_when_the_append_protocol_is_broken() {
    for mutant in [
        Mutant::GivesUpWithoutFilling,
        Mutant::TakesSilenceForLoss,
        Mutant::TakesSilenceForSuccess,
        Mutant::TakesAbsenceForFailure,
        Mutant::TakesLostFillForFailure,
    ] {
        let violation = scenarios().into_iter().find_map(|scenario| {
            explore(&Scenario {
                mutant: Some(mutant),
                ..scenario
            })
            .err()
        });
        println!("{mutant:?}: {}", violation.as_deref().unwrap_or("not noticed"));
        assert!(violation.is_some(), "nobody noticed {mutant:?}");
    }
}
