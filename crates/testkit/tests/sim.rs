//! What tests rely on when they use the simulated world.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use repo::Store;
use repo::runtime::Clock;
use repo::store::Put;
use testkit::sim::{Crash, Damage, Faults, FaultyStore, Run, Sim, What};

#[test]
fn time_passes_only_when_nobody_can_run_and_then_at_once() {
    let sim = Sim::new(1);
    let process = sim.process("sleeper");
    let (clock, seen) = (process.clone(), Arc::new(Mutex::new(Vec::new())));
    for hours in [3_u64, 1, 2] {
        let (clock, seen) = (clock.clone(), seen.clone());
        process.spawn(async move {
            clock.sleep(Duration::from_secs(hours * 3600)).await;
            seen.lock().unwrap().push(hours);
        });
    }
    assert_eq!(sim.run(100), Run::Finished);
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
    assert_eq!(sim.now(), Duration::from_secs(3 * 3600));
}

#[test]
fn a_killed_process_does_nothing_more_and_drops_what_it_held() {
    let sim = Sim::new(1);
    let process = sim.process("victim");
    let held = Arc::new(());
    let (clock, own) = (process.clone(), held.clone());
    process.spawn(async move {
        clock.sleep(Duration::from_secs(1)).await;
        drop(own);
        panic!("it lives on");
    });
    assert!(sim.step());
    process.kill();
    assert_eq!(Arc::strong_count(&held), 1);
    sim.run(100);
}

#[test]
fn a_delayed_put_arrives_although_its_process_is_dead_and_only_if_the_name_is_free() {
    for taken in [false, true] {
        let sim = Sim::new(1);
        let store = FaultyStore::new(
            &sim,
            Faults {
                delayed: 1000,
                delay: Duration::from_secs(9),
                ..Faults::NONE
            },
        );
        let process = sim.process("sender");
        let own = store.of(&process);
        assert!(
            sim.run_one(&process, async move { own.put_new("a", "late".into()).await })
                .unwrap()
                .is_err()
        );
        process.kill();
        assert_eq!(store.bytes("a"), None);
        store.set_faults(Faults::NONE);
        if taken {
            let other = store.clone();
            let put = sim.run_one(&sim.process("other"), async move {
                other.put_new("a", "first".into()).await
            });
            assert_eq!(put.unwrap().unwrap(), Put::Created);
        }
        sim.run(100);
        assert_eq!(store.bytes("a").unwrap(), if taken { "first" } else { "late" });
    }
}

#[test]
fn a_lost_answer_is_an_error_for_a_write_that_was_done() {
    let sim = Sim::new(1);
    let store = FaultyStore::new(
        &sim,
        Faults {
            answer_lost: 1000,
            ..Faults::NONE
        },
    );
    let put = futures::executor::block_on(store.put_new("a", "x".into()));
    assert!(put.unwrap_err().is_transient());
    assert_eq!(store.bytes("a").unwrap(), "x");
}

#[test]
fn a_process_dies_before_or_after_the_write_it_was_told_to() {
    for (crash, names) in [(Crash::Before, 1), (Crash::After, 2)] {
        let sim = Sim::new(1);
        let store = FaultyStore::new(&sim, Faults::NONE);
        store.crash_after(1, crash);
        futures::executor::block_on(async {
            assert!(store.put_new("a", "x".into()).await.is_ok());
            assert!(!store.put_new("b", "x".into()).await.unwrap_err().is_transient());
            assert!(store.put_new("c", "x".into()).await.is_err());
            assert!(store.get("a").await.is_err());
        });
        assert_eq!(store.names().len(), names);
        assert_eq!(store.writes(), 2);
    }
}

#[test]
fn a_store_without_faults_keeps_the_contract() {
    let sim = Sim::new(1);
    let store = FaultyStore::new(&sim, Faults::NONE);
    futures::executor::block_on(async {
        assert_eq!(store.put_new("p/1", "abc".into()).await.unwrap(), Put::Created);
        assert_eq!(store.put_new("p/1", "xyz".into()).await.unwrap(), Put::Exists);
        assert_eq!(store.put_new("p/2", "d".into()).await.unwrap(), Put::Created);
        assert_eq!(store.put_new("q/1", "e".into()).await.unwrap(), Put::Created);
        assert_eq!(store.get("p/1").await.unwrap().unwrap(), "abc");
        assert_eq!(store.get_range("p/1", 1, 2).await.unwrap().unwrap(), "bc");
        assert!(store.get_range("p/1", 1, 3).await.is_err());
        assert!(store.get_range("p/1", u64::MAX, 3).await.is_err());
        assert_eq!(store.get("p/3").await.unwrap(), None);
        assert_eq!(store.head("p/1").await.unwrap().unwrap().size, 3);
        let names = |page: Vec<repo::store::Listed>| page.into_iter().map(|listed| listed.name).collect::<Vec<_>>();
        assert_eq!(names(store.list_after("p/", "", 9).await.unwrap()), ["p/1", "p/2"]);
        assert_eq!(names(store.list_after("p/", "p/1", 9).await.unwrap()), ["p/2"]);
        assert_eq!(names(store.list_after("", "", 1).await.unwrap()), ["p/1"]);
        store.delete("p/1").await.unwrap();
        store.delete("p/1").await.unwrap();
        assert_eq!(store.get("p/1").await.unwrap(), None);
    });
    assert_eq!(store.history().last().unwrap().what, What::Deleted);
    assert_eq!(store.counts().puts, 4);
}

#[test]
fn damage_changes_what_it_says_and_the_past_can_be_put_back() {
    let sim = Sim::new(1);
    let store = FaultyStore::new(&sim, Faults::NONE);
    futures::executor::block_on(async {
        store.put_new("a", "abc".into()).await.unwrap();
        store.put_new("b", "xyz".into()).await.unwrap();
    });
    assert!(store.damage("a", &Damage::Flipped(1)));
    assert_eq!(store.bytes("a").unwrap(), "acc");
    assert!(store.damage("a", &Damage::Old));
    assert_eq!(store.bytes("a").unwrap(), "abc");
    assert!(store.damage("a", &Damage::SwappedWith("b".into())));
    assert_eq!(
        (store.bytes("a").unwrap(), store.bytes("b").unwrap()),
        ("xyz".into(), "abc".into())
    );
    assert!(store.damage("a", &Damage::Cut(1)));
    assert_eq!(store.bytes("a").unwrap(), "x");
    assert!(!store.damage("a", &Damage::Cut(1)));
    assert!(store.damage("a", &Damage::Empty));
    assert!(store.damage("a", &Damage::Missing));
    assert!(!store.damage("a", &Damage::Missing));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let store = FaultyStore::new(&sim, Faults::ROUGH);
        for index in 0..5 {
            let process = sim.process("writer");
            let own = store.of(&process);
            process.spawn(async move {
                for object in 0..5 {
                    own.put_new(&format!("{index}/{object}"), "x".into()).await.ok();
                    own.list_after("", "", 10).await.ok();
                }
            });
        }
        assert_eq!(sim.run(10_000), Run::Finished);
        (sim.trace_hash(), store.names())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}
