//! No input makes a decoder panic, or take memory out of proportion to its length.
//!
//! Each target runs for a moment; `LASTGOOD_FUZZ_SECONDS` says for how long instead. `LASTGOOD_FUZZ_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests"
)]

use std::{
    collections::BTreeSet,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use peak_alloc::PeakAlloc;
use testkit::fuzz::{self, Hammer, Target};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One target at a time: memory is counted for the whole process.
static TURN: Mutex<()> = Mutex::new(());

/// For each target, where nothing else is said.
const MOMENT: Duration = Duration::from_millis(200);

fn peak() -> usize {
    static BEFORE: Mutex<usize> = Mutex::new(0);
    let mut before = BEFORE.lock().unwrap();
    let taken = MEMORY.peak_usage().saturating_sub(*before);
    MEMORY.reset_peak_usage();
    *before = MEMORY.current_usage();
    taken
}

fn hammer(target: &'static Target) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("LASTGOOD_FUZZ_SEED").unwrap_or_else(clock);
    let time = number("LASTGOOD_FUZZ_SECONDS").map_or(MOMENT, Duration::from_secs);
    match (Hammer { seed, time, peak }).run(target) {
        Ok(inputs) => println!("{}: {inputs} inputs from seed {seed}", target.name),
        Err(found) => panic!("{found}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "each run is to try others; what it finds is repeated by its seed"
)]
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

macro_rules! each {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            hammer(fuzz::target(stringify!($name)).unwrap());
        })*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

each! {
    pg_control pg_label pg_tablespace_map pg_manifest pg_history pg_names pg_page pg_fold pg_messages pg_rows pg_wal pg_records
    pg_record_parts pg_record_events
    repo_identity repo_session repo_unlock repo_key_file repo_names
    repo_envelope repo_frames repo_wal_run
    repo_directory repo_leaf repo_map_frame repo_table_directory repo_table_frame
    repo_manifest_facts repo_manifest_needed repo_manifest_kept repo_pack_directory repo_difference
    repo_ledger_record
}

/// Else a new decoder would be fuzzed by one of the two only.
#[test]
fn every_target_is_run_here_and_by_cargo_fuzz() {
    let all: BTreeSet<&str> = fuzz::targets().map(|target| target.name).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), all);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let listed = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for name in all {
        assert!(
            listed.contains(&format!("name = \"{name}\"")),
            "{name} is not in fuzz/Cargo.toml"
        );
        let file = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            file.contains(&format!("\"{name}\"")),
            "fuzz_targets/{name}.rs runs another"
        );
    }
}

#[test]
fn every_seed_is_a_valid_encoding() {
    for target in fuzz::targets() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            assert!((target.run)(seed), "seed {number} of {}", target.name);
        }
    }
}

static CAREFUL: Target = Target {
    name: "careful",
    seeds: || vec![vec![1; 100]],
    run: |bytes| bytes.to_vec() == bytes,
    slack: 64 << 10,
};
static PANICS: Target = Target {
    name: "panics",
    run: |bytes| {
        assert!(bytes.iter().all(|byte| *byte != 0), "a zero");
        true
    },
    ..CAREFUL
};
static HUNGRY: Target = Target {
    name: "hungry",
    run: |bytes| std::hint::black_box(vec![0u8; usize::from(bytes.len() < 50) << 20]).is_empty(),
    ..CAREFUL
};

/// 64 MiB may be right for a frame; that it says so is no reason to set them aside.
#[test]
fn a_frame_that_lies_about_what_it_unpacks_to_costs_no_memory() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let target = fuzz::target("repo_frames").unwrap();
    let honest = (target.seeds)().remove(0);
    // The last frame of the seed: its codec, its raw length of 100,000, its bytes.
    let length = [0xa0, 0x8d, 0x06];
    let at = honest.windows(3).position(|bytes| bytes == length).unwrap();
    let lie = [&honest[..at], &[0xff, 0xff, 0xff, 0x1f], &honest[at + 3..]].concat();
    assert!((target.run)(&honest));
    peak();
    assert!(!(target.run)(&lie));
    let taken = peak();
    assert!(taken < 1 << 20, "{taken} bytes");
}

/// The loop itself: it finds what there is, and finds it again from the same seed.
#[test]
fn a_panic_and_an_allocation_out_of_proportion_are_found_and_repeat() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hammer = Hammer {
        seed: 5,
        time: Duration::from_secs(20),
        peak,
    };
    assert!(Hammer { time: MOMENT, ..hammer }.run(&CAREFUL).is_ok());
    let found = hammer.run(&PANICS).unwrap_err();
    assert!(
        found.to_string().contains("panic: a zero") && found.input.contains(&0),
        "{found}"
    );
    assert_eq!(hammer.run(&PANICS).unwrap_err(), found);
    let found = hammer.run(&HUNGRY).unwrap_err();
    assert!(
        found.what.contains("bytes of memory") && found.input.len() < 50,
        "{found}"
    );
}
