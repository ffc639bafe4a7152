//! The ledger's shell against single faults, one at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test: panicking is its answer")]

use std::sync::Arc;

use bytes::Bytes;
use repo::ledger::{Appended, Decision, Entry, EntryCodec, Ledger, Limits, Rule, Severity, name};
use repo::store::{Listed, Put};
use repo::{Error, Result, Store};
use testkit::sim::{Crash, Damage, Faults, FaultyStore, Sim};

/// The body as it is, with a byte before it that says that it is one.
struct Plain;

impl EntryCodec for Plain {
    fn seal(&self, _: u64, body: &[u8]) -> Result<Bytes> {
        Ok([b"+", body].concat().into())
    }

    fn open(&self, n: u64, object: &Bytes) -> Result<Vec<u8>> {
        match object.strip_prefix(b"+") {
            Some(body) => Ok(body.to_vec()),
            None => Err(Error::Damaged {
                name: name(n),
                what: "no body".into(),
            }),
        }
    }
}

fn alert(text: &str) -> Entry {
    Entry::AlertRaised {
        alert: text.into(),
        severity: Severity::Notice,
        text: text.into(),
    }
}

struct World {
    sim: Sim,
    store: FaultyStore,
}

impl World {
    fn new() -> World {
        let sim = Sim::new(1);
        World {
            store: FaultyStore::new(&sim, Faults::NONE),
            sim,
        }
    }

    fn ledger_on(&self, store: impl Store + 'static) -> Ledger {
        let process = self.sim.process("host");
        Ledger::new(Arc::new(store), process.runtime(), Arc::new(Plain), "host")
    }

    fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        self.sim.run_one(&self.sim.process("test"), future).expect("it ends")
    }

    fn loaded(&self) -> Result<Ledger> {
        let mut ledger = self.ledger_on(self.store.clone());
        self.run(async move { ledger.refresh().await.map(|()| ledger) })
    }

    fn append(&self, mut ledger: Ledger, entry: Entry) -> (Ledger, Result<Appended>) {
        self.run(async move {
            let appended = ledger.append(|_| Decision::Append(entry.clone())).await;
            (ledger, appended)
        })
    }

    /// A ledger of so many entries.
    fn with(entries: usize) -> World {
        let world = World::new();
        let mut ledger = world.loaded().unwrap();
        for index in 0..entries {
            let appended;
            (ledger, appended) = world.append(ledger, alert(&index.to_string()));
            assert_eq!(appended.unwrap(), Appended::Done { n: index as u64 + 1 });
        }
        world
    }
}

#[test]
fn what_was_appended_reads_back_in_another_process() {
    let world = World::with(40);
    let ledger = world.loaded().unwrap();
    assert_eq!(ledger.state().last(), 40);
    assert_eq!(ledger.state().alerts().count(), 40);
    assert_eq!(ledger.state().alarms().count(), 0);
}

#[test]
fn a_hole_in_the_ledger_is_an_error_that_names_it() {
    let world = World::with(5);
    world.store.damage(&name(3), &Damage::Missing);
    assert!(matches!(world.loaded(), Err(Error::Missing { name }) if name == "ledger/000000000003"));
}

#[test]
fn an_altered_entry_is_void_with_an_alarm_and_work_goes_on() {
    for damage in [
        Damage::Empty,
        Damage::Cut(20),
        Damage::Flipped(0),
        Damage::SwappedWith(name(5)),
    ] {
        let world = World::with(5);
        assert!(world.store.damage(&name(3), &damage));
        let ledger = world.loaded().unwrap();
        assert_eq!(ledger.state().last(), 5, "{damage:?}");
        assert!(ledger.state().alarms().any(|alarm| alarm.n == 3), "{damage:?}");
        let (_, appended) = world.append(ledger, alert("further"));
        assert_eq!(appended.unwrap(), Appended::Done { n: 6 }, "{damage:?}");
    }
}

#[test]
fn a_repository_that_was_rolled_back_or_exchanged_is_noticed() {
    let world = World::with(5);
    let seen = world.loaded().unwrap().remember().unwrap();
    assert!(world.loaded().unwrap().check_not_rolled_back(&seen).is_ok());
    world.store.damage(&name(5), &Damage::Missing);
    let ledger = world.loaded().unwrap();
    assert!(matches!(
        ledger.check_not_rolled_back(&seen),
        Err(Error::Missing { .. })
    ));
    let (ledger, appended) = world.append(ledger, alert("another"));
    assert_eq!(appended.unwrap(), Appended::Done { n: 5 });
    assert!(matches!(
        ledger.check_not_rolled_back(&seen),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn an_entry_of_a_later_version_is_passed_over_unless_it_is_required() {
    for (required, expected) in [(false, Ok(6)), (true, Err(()))] {
        let world = World::with(5);
        let body = format!(
            r#"+{{"n":6,"prev":"{}","at":0,"writer":"w","operation":"{}","entry":{{"kind":"new","required":{required}}}}}"#,
            hex::encode(world.loaded().unwrap().state().head()),
            "0".repeat(32)
        );
        let store = world.store.clone();
        world
            .run(async move { store.put_new(&name(6), body.into()).await })
            .unwrap();
        let loaded = world.loaded();
        assert!(matches!(&loaded, Ok(_) | Err(Error::Unsupported { .. })));
        assert_eq!(loaded.map(|ledger| ledger.state().last()).map_err(|_| ()), expected);
    }
}

#[test]
fn what_would_be_void_is_refused_and_not_written() {
    let world = World::with(1);
    let (ledger, appended) = world.append(world.loaded().unwrap(), Entry::Abandoned { run: "none".into() });
    assert_eq!(appended.unwrap(), Appended::Refused(Rule::RunNotOpen));
    assert_eq!(ledger.state().last(), 1);
    assert_eq!(world.store.bytes(&name(2)), None);
}

#[test]
fn a_writer_that_was_overtaken_decides_again_on_the_newer_state() {
    let world = World::with(1);
    let (mut slow, fast) = (world.loaded().unwrap(), world.loaded().unwrap());
    let (_, appended) = world.append(fast, alert("first"));
    assert_eq!(appended.unwrap(), Appended::Done { n: 2 });
    let appended = world.run(async move {
        slow.append(|state| match state.alerts().any(|(alert, _)| alert == "first") {
            true => Decision::Stop("somebody did it".into()),
            false => Decision::Append(alert("first")),
        })
        .await
    });
    assert_eq!(appended.unwrap(), Appended::Stopped("somebody did it".into()));
}

#[test]
fn a_crash_at_any_write_leaves_a_ledger_that_others_append_to() {
    for crash in [Crash::Before, Crash::After] {
        let world = World::with(2);
        let doomed = world.sim.process("doomed");
        let store = world.store.of(&doomed);
        store.crash_after(0, crash);
        let mut ledger = Ledger::new(Arc::new(store), doomed.runtime(), Arc::new(Plain), "doomed");
        let appended = world.sim.run_one(&doomed, async move {
            ledger.append(|_| Decision::Append(alert("last words"))).await
        });
        assert!(appended.is_none(), "a dead process reports nothing");
        let there = 2 + u64::from(crash == Crash::After);
        let ledger = world.loaded().unwrap();
        assert_eq!(ledger.state().last(), there);
        assert_eq!(
            world.append(ledger, alert("next")).1.unwrap(),
            Appended::Done { n: there + 1 }
        );
    }
}

/// A store whose puts are never answered and never done.
struct Mute(FaultyStore);

#[async_trait::async_trait]
impl Store for Mute {
    async fn put_new(&self, name: &str, _: Bytes) -> Result<Put> {
        Err(Error::Store {
            operation: "store",
            name: name.into(),
            transient: true,
            source: "silence".into(),
        })
    }
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.get(name).await
    }
    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>> {
        self.0.get_range(name, offset, length).await
    }
    async fn head(&self, name: &str) -> Result<Option<Listed>> {
        self.0.head(name).await
    }
    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
        self.0.list_after(prefix, after, limit).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name).await
    }
}

#[test]
fn when_not_even_the_no_op_is_answered_the_outcome_is_called_unknown() {
    let world = World::with(1);
    let ledger = world.ledger_on(Mute(world.store.clone())).with_limits(Limits {
        tries: 3,
        fills: 2,
        losses: 3,
    });
    let (_, appended) = world.append(ledger, alert("perhaps"));
    assert!(matches!(appended, Ok(Appended::Unknown { n: 2, operation, .. }) if operation.len() == 32));
}

#[test]
fn a_listing_that_shows_nothing_hides_nothing() {
    let world = World::with(30);
    world.store.set_faults(Faults {
        short_listing: 1000,
        ..Faults::NONE
    });
    assert_eq!(world.loaded().unwrap().state().last(), 30);
}
