//! One case a rule: a short history, and what the last entry of it is.

mod timelines;

use super::{Rule, State, Verdict};
use crate::ledger::{
    BackupKind, Condemned, Entry, Level, Lsn, ObjectReference, Outcome, Record, References, Summary, What,
};

const GENERATION: &str = "7300000000000000001";

fn object() -> ObjectReference {
    ObjectReference {
        object: "backups/a/manifest".into(),
        hash: "0".repeat(64),
        size: 1,
    }
}

fn generation() -> Entry {
    Entry::GenerationBegun {
        generation: GENERATION.into(),
        segment_size: 16 << 20,
        block_size: 8192,
        major: 17,
    }
}

fn start(run: &str) -> Entry {
    Entry::RunStarted {
        run: run.into(),
        session: "session".into(),
        what: What::Backup,
        parent: None,
    }
}

fn start_on(run: &str, parent: &str) -> Entry {
    Entry::RunStarted {
        run: run.into(),
        session: "session".into(),
        what: What::Backup,
        parent: Some(parent.into()),
    }
}

fn commit(run: &str, references: &[&str]) -> Entry {
    commit_at(run, references, 0x1000)
}

/// On timeline 1.
fn commit_at(run: &str, references: &[&str], start: u64) -> Entry {
    let summary = Summary {
        kind: BackupKind::Full,
        label: None,
        parent: None,
        started: 1,
        stopped: 2,
        generation: Some(GENERATION.into()),
        timeline: Some(1),
        start_lsn: Some(Lsn(start)),
        stop_lsn: Some(Lsn(start + 1)),
        major: Some(17),
        bytes: 1,
        stored: 1,
        files: 1,
        databases: 1,
    };
    let backups = references.iter().map(|reference| (*reference).to_owned()).collect();
    Entry::Committed {
        run: run.into(),
        manifest: object(),
        references: References { backups },
        summary,
    }
}

fn expire(backup: &str) -> Entry {
    Entry::Expired { backup: backup.into() }
}

fn condemn(runs: &[&str]) -> Entry {
    let runs = runs.iter().map(|run| (*run).to_owned()).collect();
    Entry::Condemned {
        objects: Condemned::Runs { runs },
        cause: "expired".into(),
    }
}

fn condemn_wal(timeline: u32, before: u64) -> Entry {
    let objects = Condemned::Wal {
        generation: GENERATION.into(),
        timeline,
        before: Lsn(before),
    };
    Entry::Condemned {
        objects,
        cause: "expired".into(),
    }
}

fn pin(backup: &str) -> Entry {
    Entry::Pinned {
        pin: "pin".into(),
        backup: backup.into(),
        until: 9,
    }
}

fn unpin() -> Entry {
    Entry::Unpinned { pin: "pin".into() }
}

fn hold(backup: &str) -> Entry {
    Entry::HoldSet {
        backup: backup.into(),
        name: "court".into(),
        until: None,
    }
}

fn release(backup: &str) -> Entry {
    Entry::HoldReleased {
        backup: backup.into(),
        name: "court".into(),
    }
}

fn sweep(condemned: u64) -> Entry {
    Entry::Sweeping { condemned }
}

fn admit(writer: &str, kinds: &[&str]) -> Entry {
    let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    Entry::WriterAdmitted {
        writer: writer.into(),
        public_key: "00".into(),
        kinds,
    }
}

fn record(n: u64, writer: &str, entry: Entry) -> Record {
    Record {
        n,
        prev: "0".repeat(64),
        at: 0,
        writer: writer.into(),
        operation: "0".repeat(32),
        entry,
    }
}

/// After `generation-begun` as entry 1 and the history from entry 2 on.
fn after(history: &[Entry]) -> (State, Verdict) {
    let mut state = State::new();
    let mut verdict = Verdict::Valid;
    for (n, entry) in (1..).zip(std::iter::once(generation()).chain(history.iter().cloned())) {
        verdict = state.apply(&record(n, "host", entry));
    }
    (state, verdict)
}

#[track_caller]
fn valid(history: &[Entry]) {
    assert_eq!(after(history).1, Verdict::Valid);
}

#[track_caller]
fn void(rule: Rule, history: &[Entry]) {
    assert_eq!(after(history).1, Verdict::Void(rule));
}

#[test]
fn a_run_starts_once_and_ends_once() {
    valid(&[start("a"), commit("a", &[])]);
    void(Rule::RunKnown, &[start("a"), start("a")]);
    void(
        Rule::RunKnown,
        &[start("a"), Entry::Abandoned { run: "a".into() }, start("a")],
    );
    void(Rule::RunNotOpen, &[commit("a", &[])]);
    void(Rule::RunNotOpen, &[start("a"), commit("a", &[]), commit("a", &[])]);
    void(
        Rule::RunNotOpen,
        &[start("a"), Entry::Abandoned { run: "a".into() }, commit("a", &[])],
    );
    void(
        Rule::RunNotOpen,
        &[
            start("a"),
            commit("a", &[]),
            Entry::Failed {
                run: "a".into(),
                reason: "".into(),
            },
        ],
    );
}

#[test]
fn a_backup_builds_only_on_backups_that_stay() {
    let gone = [start("a"), commit("a", &[]), expire("a"), condemn(&["a"])];
    void(Rule::ParentUnusable, &[start_on("b", "a")]);
    void(Rule::ParentUnusable, &[&gone[..], &[start_on("b", "a")]].concat());
    void(Rule::ReferenceUnknown, &[start("b"), commit("b", &["a"])]);
    void(
        Rule::ReferenceCondemned,
        &[&gone[..], &[start("b"), commit("b", &["a"])]].concat(),
    );
    valid(&[
        start("a"),
        commit("a", &[]),
        expire("a"),
        start_on("b", "a"),
        commit("b", &["a"]),
    ]);
}

#[test]
fn what_a_backup_uses_is_not_condemned() {
    let pair = [start("a"), commit("a", &[]), start_on("b", "a"), commit("b", &["a"])];
    void(Rule::NeededByBackup, &[&pair[..], &[condemn(&["b"])]].concat());
    void(
        Rule::NeededByBackup,
        &[&pair[..], &[expire("a"), condemn(&["a"])]].concat(),
    );
    void(
        Rule::NeededByBackup,
        &[&pair[..], &[expire("b"), condemn(&["b", "a"])]].concat(),
    );
    valid(&[&pair[..], &[expire("a"), expire("b"), condemn(&["a", "b"])]].concat());
}

#[test]
fn what_an_open_run_uses_is_not_condemned() {
    let open = [start("a"), commit("a", &[]), start_on("b", "a"), expire("a")];
    void(Rule::NeededByRun, &[&open[..], &[condemn(&["a"])]].concat());
    void(Rule::NeededByRun, &[&open[..], &[condemn(&["b"])]].concat());
    valid(&[&open[..], &[Entry::Abandoned { run: "b".into() }, condemn(&["a", "b"])]].concat());
}

#[test]
fn what_a_reader_pinned_is_not_condemned_and_what_is_condemned_not_pinned() {
    let pinned = [start("a"), commit("a", &[]), pin("a"), expire("a")];
    void(Rule::NeededByPin, &[&pinned[..], &[condemn(&["a"])]].concat());
    valid(&[&pinned[..], &[unpin(), condemn(&["a"])]].concat());
    void(
        Rule::PinUnusable,
        &[&pinned[..], &[unpin(), condemn(&["a"]), pin("a")]].concat(),
    );
    void(Rule::PinUnusable, &[&pinned[..], &[pin("a")]].concat());
    void(Rule::PinUnusable, &[unpin()]);
    void(Rule::BackupUnknown, &[pin("a")]);
}

#[test]
fn a_backup_on_hold_does_not_expire() {
    let held = [start("a"), commit("a", &[]), hold("a")];
    void(Rule::Held, &[&held[..], &[expire("a")]].concat());
    valid(&[&held[..], &[release("a"), expire("a")]].concat());
    void(
        Rule::BackupUnknown,
        &[&held[..], &[release("a"), expire("a"), hold("a")]].concat(),
    );
    void(Rule::BackupUnknown, &[expire("a")]);
}

#[test]
fn only_what_was_validly_condemned_is_swept_and_only_once() {
    // Entry 5 is the condemnation.
    let condemned = [start("a"), commit("a", &[]), expire("a"), condemn(&["a"])];
    valid(&[&condemned[..], &[sweep(5), sweep(5)]].concat());
    void(Rule::NotSweepable, &[&condemned[..], &[sweep(4)]].concat());
    void(Rule::NotSweepable, &[start("a"), condemn(&["a"]), sweep(3)]);
    void(
        Rule::NotSweepable,
        &[&condemned[..], &[Entry::Swept { condemned: 5 }]].concat(),
    );
    let swept = [&condemned[..], &[sweep(5), Entry::Swept { condemned: 5 }]].concat();
    void(Rule::NotSweepable, &[&swept[..], &[sweep(5)]].concat());
    valid(&[&swept[..], &[condemn(&["a"])]].concat());
    void(Rule::NotCondemnable, &[&condemned[..], &[condemn(&["a"])]].concat());
    void(Rule::NotCondemnable, &[condemn(&["never started"])]);
}

#[test]
fn wal_that_a_backup_needs_is_not_condemned_nor_a_backup_committed_that_needs_condemned_wal() {
    let backup = [start("a"), commit_at("a", &[], 0x5000)];
    valid(&[&backup[..], &[condemn_wal(1, 0x5000)]].concat());
    void(Rule::NeededByBackup, &[&backup[..], &[condemn_wal(1, 0x5001)]].concat());
    void(Rule::NeededByBackup, &[&backup[..], &[condemn_wal(2, 0x5001)]].concat());
    void(
        Rule::NeededByPin,
        &[&backup[..], &[pin("a"), expire("a"), condemn_wal(1, 0x5001)]].concat(),
    );
    void(
        Rule::NeededByRun,
        &[&backup[..], &[start_on("b", "a"), expire("a"), condemn_wal(1, 0x5001)]].concat(),
    );
    void(
        Rule::ReferenceCondemned,
        &[start("a"), condemn_wal(1, 0x5001), commit_at("a", &[], 0x5000)],
    );
    valid(&[start("a"), condemn_wal(2, 0x5001), commit_at("a", &[], 0x5000)]);
}

#[test]
fn once_a_writer_is_admitted_others_only_fill() {
    let (mut state, _) = after(&[admit("host", &["*"]), admit("archiver", &["wal-gap"])]);
    assert_eq!(
        state.apply(&record(4, "stranger", start("a"))),
        Verdict::Void(Rule::WriterNotAdmitted)
    );
    assert_eq!(
        state.apply(&record(5, "archiver", start("a"))),
        Verdict::Void(Rule::WriterNotAdmitted)
    );
    assert_eq!(state.apply(&record(6, "stranger", Entry::NoOp {})), Verdict::Valid);
    assert_eq!(state.apply(&record(7, "host", start("a"))), Verdict::Valid);
}

#[test]
fn while_an_entry_cannot_be_read_nothing_is_collected_until_a_person_clears_it() {
    let (mut state, _) = after(&[start("a"), commit("a", &[]), expire("a")]);
    assert_eq!(state.collectable(), ["a"]);
    assert_eq!(
        state.read([1; 32], Err("its seal is broken")),
        Verdict::Void(Rule::Unreadable)
    );
    assert!(state.collectable().is_empty());
    assert_eq!(
        state.apply(&record(6, "host", condemn(&["a"]))),
        Verdict::Void(Rule::Alarmed)
    );
    let cleared = Entry::AlertCleared {
        alert: "ledger-000000000005".into(),
        by: "operator".into(),
    };
    assert_eq!(state.apply(&record(7, "host", cleared)), Verdict::Valid);
    assert_eq!(state.apply(&record(8, "host", condemn(&["a"]))), Verdict::Valid);
}

#[test]
fn an_alert_counts_as_cleared_only_after_it_was_raised_and_until_it_is_raised_again() {
    let raised = Entry::AlertRaised {
        alert: "timeline-behind".into(),
        severity: crate::ledger::Severity::Critical,
        text: "timeline 1 was left".into(),
    };
    let cleared = Entry::AlertCleared {
        alert: "timeline-behind".into(),
        by: "operator".into(),
    };
    let clears = |entries: &[&Entry]| {
        let entries: Vec<Entry> = entries.iter().map(|entry| (*entry).clone()).collect();
        after(&entries).0.cleared("timeline-behind")
    };
    assert_eq!(clears(&[]), None);
    assert_eq!(clears(&[&cleared]), None);
    assert_eq!(clears(&[&cleared, &raised]), None);
    let n = clears(&[&raised, &cleared]);
    assert!(n.is_some());
    assert_eq!(clears(&[&raised, &cleared, &cleared]), n);
    assert_eq!(clears(&[&raised, &cleared, &raised]), None);
}

#[test]
fn an_entry_that_does_not_continue_the_one_before_counts_and_raises_an_alarm() {
    let mut state = State::new();
    let mut first = record(1, "host", start("a"));
    assert_eq!(state.read([1; 32], Ok(&first)), Verdict::Valid);
    assert_eq!(state.alarms().count(), 0);
    first = record(2, "host", Entry::Abandoned { run: "a".into() });
    assert_eq!(state.read([2; 32], Ok(&first)), Verdict::Valid);
    assert_eq!(state.alarms().map(|alarm| alarm.n).collect::<Vec<_>>(), [2]);
    assert_eq!(state.open_runs().count(), 0);
}

#[test]
fn a_damaged_commit_takes_no_backup_with_it_that_was_built_on_its_one() {
    let mut state = State::new();
    let mut n = 0;
    let mut read = |state: &mut State, entry: Option<Entry>| {
        n += 1;
        let record = entry.map(|entry| record(n, "host", entry));
        let read = record.as_ref().ok_or("it does not open");
        // Each continues the one before it.
        let hash = [n as u8; 32];
        state.read(hash, read)
    };
    read(&mut state, Some(generation()));
    read(&mut state, Some(start("a")));
    read(&mut state, None);
    assert_eq!(read(&mut state, Some(start_on("b", "a"))), Verdict::Valid);
    assert_eq!(read(&mut state, Some(commit("b", &["a"]))), Verdict::Valid);
    assert!(state.backup("b").is_some() && state.backup("a").is_none());
    assert_eq!(
        read(&mut state, Some(condemn(&["a"]))),
        Verdict::Void(Rule::NeededByBackup)
    );
    assert_eq!(read(&mut state, Some(start_on("c", "a"))), Verdict::Valid);
}

#[test]
fn an_entry_out_of_order_changes_nothing() {
    let (mut state, _) = after(&[start("a")]);
    let before = state.clone();
    assert_eq!(state.apply(&record(4, "host", start("b"))), Verdict::Void(Rule::Order));
    assert_eq!(state, before);
}

#[test]
fn the_newest_proof_is_a_passed_one_of_that_depth() {
    let verified = |level, outcome, seconds| Entry::Verified {
        backup: "a".into(),
        level,
        outcome,
        details: None,
        seconds,
        found: Vec::new(),
    };
    let (state, _) = after(&[
        start("a"),
        commit("a", &[]),
        verified(Level::Restore, Outcome::Passed, 1),
        verified(Level::Pages, Outcome::Passed, 2),
        verified(Level::Restore, Outcome::Incomplete, 3),
    ]);
    assert_eq!(
        state.newest_proof("a", Level::Objects).map(|proof| proof.seconds),
        Some(2)
    );
    assert_eq!(
        state.newest_proof("a", Level::Restore).map(|proof| proof.seconds),
        Some(1)
    );
    assert_eq!(state.newest_proof("b", Level::Objects), None);
}

#[test]
fn backups_are_listed_in_the_order_of_their_commits() {
    let (state, _) = after(&[start("a"), start("b"), commit("b", &[]), commit("a", &[])]);
    assert_eq!(
        state.backups().map(|backup| backup.id.as_str()).collect::<Vec<_>>(),
        ["b", "a"]
    );
}
