//! Who does what. At the beginning full backup A is committed.

use repo::ledger::Rule;
use repo::ledger::append::{Limits, Mutant};

/// Runs and backups by index: A, B, C.
pub(crate) type Run = u8;
/// The full backup that is there from the start.
pub(crate) const A: Run = 0;
/// The first writer's.
pub(crate) const B: Run = 1;
/// The second writer's.
pub(crate) const C: Run = 2;

/// One thing a process does. All but `Store` and `Delete` append an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// Starts the run, on the newest backup.
    Start(Run),
    /// Starts the run and does not say what it builds on, against the design.
    StartSilent(Run),
    /// Writes the run's objects.
    Store(Run),
    /// Commits the run; it references its parent and all that one references.
    Commit(Run),
    Expire(Run),
    Hold(Run),
    Release(Run),
    Pin(Run),
    Unpin(Run),
    Abandon(Run),
    Condemn(Run),
    /// Sweeps what its own last `Condemn` covers.
    Sweep(Run),
    /// Deletes the run's objects, if its last sweep was valid.
    Delete(Run),
    Swept(Run),
}

/// Processes and bounds.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) processes: Vec<Vec<Move>>,
    /// Operations without an honest answer, in all.
    pub(crate) faults: u8,
    pub(crate) crashes: u8,
    /// Whether processes append what they could know to be void: then only the rules stand between
    /// them and harm.
    pub(crate) blind: bool,
    pub(crate) limits: Limits,
    pub(crate) ignored: Option<Rule>,
    pub(crate) mutant: Option<Mutant>,
}

const LIMITS: Limits = Limits {
    tries: 2,
    fills: 2,
    losses: 3,
};

fn scenario(name: &'static str, processes: &[&[Move]], faults: u8, crashes: u8, blind: bool) -> Scenario {
    let processes = processes.iter().map(|moves| moves.to_vec()).collect();
    Scenario {
        name,
        processes,
        faults,
        crashes,
        blind,
        limits: LIMITS,
        ignored: None,
        mutant: None,
    }
}

/// All that is explored.
pub(crate) fn scenarios() -> Vec<Scenario> {
    use Move::*;
    let first: &[Move] = &[Start(B), Store(B), Commit(B)];
    let second: &[Move] = &[Start(C), Store(C), Commit(C)];
    let silent: &[Move] = &[StartSilent(B), Store(B), Commit(B)];
    let collect_a: &[Move] = &[Expire(A), Condemn(A), Sweep(A), Delete(A), Swept(A)];
    let condemn_a: &[Move] = &[Expire(A), Condemn(A), Sweep(A), Delete(A)];
    let collect_b: &[Move] = &[Abandon(B), Condemn(B), Sweep(B), Delete(B)];
    let expire_b: &[Move] = &[Expire(B), Condemn(B), Sweep(B), Delete(B)];
    let reader: &[Move] = &[Pin(A), Unpin(A)];
    let holder: &[Move] = &[Hold(A), Release(A)];
    let reader_of_b: &[Move] = &[Pin(B), Unpin(B)];
    let all: &[&[Move]] = &[first, second, condemn_a, reader];
    let staying = [first, second, condemn_a, &[Pin(A)]];
    vec![
        scenario("one writer, silence upon silence", &[first], 9, 1, false),
        scenario("two writers, silence upon silence", &[first, second], 5, 2, false),
        scenario(
            "a writer and a collector of its parent",
            &[first, collect_a],
            3,
            1,
            false,
        ),
        scenario(
            "a writer and a collector of its parent, both blind",
            &[first, condemn_a],
            3,
            1,
            true,
        ),
        scenario(
            "a writer that does not name its parent, and a collector",
            &[silent, condemn_a],
            3,
            1,
            true,
        ),
        scenario("a writer that is declared dead", &[first, collect_b], 3, 1, true),
        scenario("a reader and a collector", &[reader, collect_a], 3, 1, true),
        scenario("a holder and a collector", &[holder, condemn_a], 3, 1, true),
        scenario("two writers with one id", &[first, first, &[Abandon(B)]], 2, 1, true),
        scenario(
            "a writer on another's backup that expires",
            &[first, second, expire_b],
            2,
            1,
            false,
        ),
        scenario(
            "a writer on another's backup that expires, all blind",
            &[first, second, expire_b],
            1,
            1,
            true,
        ),
        scenario(
            "a writer, a collector of its parent, a reader",
            &[first, condemn_a, reader],
            2,
            1,
            false,
        ),
        scenario(
            "two collectors and a writer",
            &[first, condemn_a, condemn_a],
            2,
            1,
            false,
        ),
        scenario("two writers, a collector, a reader", all, 0, 1, false),
        scenario(
            "two writers, a collector, a reader that stays, a silence",
            &staying,
            1,
            0,
            false,
        ),
        scenario(
            "two writers, a collector of one, its reader",
            &[first, second, expire_b, reader_of_b],
            1,
            0,
            false,
        ),
    ]
}
