//! What was found damaged, by verifications and by whoever else met it, and which backups rest on it.
//!
//! Invariant: no backup is built on objects that somebody found damaged and no verification has found whole since, whichever of
//! the backups that use them was verified, restored or built on.

use repo::{
    ledger::{Outcome, State},
    manifest::Manifest,
};

use crate::{
    damage,
    list::{self, Proof},
    verify,
};

/// Why no backup should be built on that of `manifest`: what was found of another one whose objects it uses, or of objects
/// that it uses. A later check of its own that went as deep has seen that these are whole.
pub(super) fn why(state: &State, manifest: &Manifest) -> Option<String> {
    damage::known(state, manifest)
        .map(|name| format!("{name} was found damaged or missing, and no verification has read it whole since"))
        .or_else(|| by_verifications(state, manifest))
}

fn by_verifications(state: &State, manifest: &Manifest) -> Option<String> {
    let proofs = list::proofs(state);
    let own = manifest.facts.backup;
    let mut failed: Vec<&str> = Vec::new();
    for proof in proofs.iter().filter(|proof| proof.outcome == Outcome::Failed) {
        if !failed.contains(&proof.backup.as_str()) {
            failed.push(&proof.backup);
        }
    }
    failed.into_iter().find_map(|other| {
        let telling = |proof: &&Proof| {
            let is_pass_of_own = proof.backup == own.as_str() && proof.outcome == Outcome::Passed;
            proof.backup == other || is_pass_of_own
        };
        let made: Vec<Proof> = proofs.iter().filter(telling).cloned().collect();
        let failures: Vec<&Proof> = list::uncleared(&made).filter_map(|number| made.get(number)).collect();
        if failures.is_empty() {
            return None;
        }
        let sources = &manifest.needed.sources;
        if sources.iter().any(|source| source.as_str() == other) {
            return Some(format!(
                "a verification found {other} damaged, whose packs or maps it uses"
            ));
        }
        let found = failures.iter().flat_map(|failure| &failure.found);
        let named = found.filter_map(|line| line.split(' ').next());
        if let Some(name) = named.clone().find(|name| damage::needs(manifest, name)) {
            return Some(format!(
                "a verification of {other} found {name} damaged or missing, which it uses too"
            ));
        }
        let mut others = state.backups().filter(|backup| backup.id == other);
        let shares = others.any(|backup| sources.iter().any(|source| backup.uses(source.as_str())));
        if !shares {
            return None;
        }
        // Of a session's key nobody knows what was written with it.
        if let Some(key) = named.clone().find(|name| damage::is_session(name)) {
            return Some(format!(
                "a verification of {other}, with which it shares objects, found {key} damaged"
            ));
        }
        // The ledger names the first few of what was found.
        let is_cut = failures.iter().any(|failure| failure.found.len() >= verify::LISTED);
        is_cut.then(|| format!("a verification found much of {other} damaged, with which it shares objects"))
    })
}
