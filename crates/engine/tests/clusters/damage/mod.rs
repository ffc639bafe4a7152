//! Every class of object, damaged in every way: it is found before its bytes are used, and named; what is restored
//! is right or not there at all.
//!
//! Each case opens the repository, lists, verifies and restores as new processes would. Nothing may come of it but
//! what the class's [`Reaction`] says.

mod folder;
mod maps;
mod scene;

use std::collections::BTreeMap;

use engine::{
    Error, Result, database, list,
    repo::{
        Error as RepositoryError,
        ledger::{Level, Outcome},
    },
    restore, status, verify,
};
use folder::{ALL, Damage, Target, tree};
use scene::Scene;

/// What may come of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reaction {
    /// Nobody can open the repository; whoever tries is told why.
    Closed,
    /// It opens, lists and raises no alarm; verifying and restoring name the object.
    Found,
    /// It opens, lists and raises no alarm; verifying names the object, and what is restored is right.
    Verified,
    /// It opens and raises an alarm; what is restored is right.
    Alarm,
    /// It opens and raises an alarm; the backup is not listed any more, and what is restored by its id is right.
    Unlisted,
    /// It opens and raises an alarm; the backup is not listed any more, and restoring it names the object.
    Lost,
    /// Nothing that this backup rests on is touched.
    Unaffected,
}

/// What must come of it, and why where that is not plain.
fn expected(class: &str, damage: Damage) -> Reaction {
    match (class, damage) {
        ("identity" | "public key" | "unlocking method", _) => Reaction::Closed,
        // An entry below others must be there: its absence is damage of the ledger, not its end.
        (
            "first entry" | "entry of the cluster" | "entry of another backup" | "entry of this backup",
            Damage::Missing,
        ) => Reaction::Closed,
        // Sealed again by a writer's own key it means the same; but the entry after it no longer continues it.
        ("entry of the cluster" | "entry of this backup", Damage::SealedAgain) => Reaction::Alarm,
        // Without the entry that begins the cluster none that speaks of it is valid.
        ("entry of the cluster" | "entry of this backup", _) => Reaction::Unlisted,
        ("first entry" | "entry of another backup", _) => Reaction::Alarm,
        // Runs and histories are chosen by position, not pinned: two receivers may store the same WAL. The same
        // content sealed by another of this repository's sessions is as good.
        ("run of WAL" | "history", Damage::SealedAgain) => Reaction::Unaffected,
        // A restore reads the ranges of a pack that the manifest pins, and never what lies behind its end.
        ("pack", Damage::Doubled | Damage::Appended) => Reaction::Verified,
        // Entries of the ledger written in the session cannot be opened either.
        ("session", _) => Reaction::Lost,
        _ => Reaction::Found,
    }
}

/// Restoring takes longest: it is tried with one damage of each kind, and where a damaged ledger lets all of it
/// come back, with one of each effect on the ledger.
fn is_restored(class: &str, damage: Damage) -> bool {
    let telling = matches!(damage, Damage::Missing | Damage::Flipped(50) | Damage::SealedAgain);
    damage.is_representative() && (telling || !(class.contains("entry")))
}

impl Reaction {
    fn is_alarm(self) -> bool {
        matches!(self, Reaction::Alarm | Reaction::Unlisted | Reaction::Lost)
    }

    fn is_listed(self) -> bool {
        !matches!(self, Reaction::Unlisted | Reaction::Lost)
    }

    fn is_restored(self) -> bool {
        matches!(
            self,
            Reaction::Verified | Reaction::Alarm | Reaction::Unlisted | Reaction::Unaffected
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named_before_its_bytes_are_used() {
    let scene = Scene::new().await;
    let restored = restore(&scene).await.unwrap();
    let right = tree(&restored);
    std::fs::remove_dir_all(&restored).unwrap();
    scene.folder.mend();

    let (mut faults, mut cases, mut restores) = (Vec::new(), 0, 0);
    let mut seen = BTreeMap::<&str, usize>::new();
    for target in &scene.targets {
        for damage in ALL {
            if !scene.folder.damage(target, damage) {
                continue;
            }
            cases += 1;
            *seen.entry(target.class).or_default() += 1;
            let mut case = Case {
                scene: &scene,
                target,
                damage,
                faults: Vec::new(),
            };
            case.look().await;
            if is_restored(target.class, damage) {
                restores += 1;
                case.restore(&right).await;
            }
            faults.append(&mut case.faults);
            scene.folder.mend();
        }
    }
    println!("{cases} cases, {restores} restores: {seen:?}");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    // No class and no kind of damage drops out in silence: only what is not sealed cannot be sealed again.
    assert_eq!((seen.len(), cases), (13, 13 * ALL.len() - 4));
    assert_eq!(restores, 9 * 9 - 4 + 4 * 3);
}

struct Case<'a> {
    scene: &'a Scene,
    target: &'a Target,
    damage: Damage,
    faults: Vec<String>,
}

impl Case<'_> {
    fn fault(&mut self, what: impl std::fmt::Display) {
        let Target { class, name, .. } = self.target;
        self.faults.push(format!("{class} {:?} ({name}): {what}", self.damage));
    }

    /// Opens, lists, asks for the status and verifies.
    async fn look(&mut self) {
        let world = &self.scene.world;
        let expected = expected(self.target.class, self.damage);
        let opened = match database::open(&world.context, &world.database).await {
            Ok(opened) => opened,
            Err(error) => {
                if expected != Reaction::Closed {
                    self.fault(format!("does not open: {error}"));
                }
                return self.judge("open", &error);
            }
        };
        if expected == Reaction::Closed {
            return self.fault("opens as if nothing were wrong");
        }
        let listed = list::backups(&opened).await;
        let is_listed = listed.iter().any(|backup| backup.id == self.scene.backup);
        if is_listed != expected.is_listed() {
            self.fault(format!("listed: {is_listed}"));
        }
        let alarms = status::of(&world.context, &opened, None).await.unwrap().alarms;
        if alarms.is_empty() == expected.is_alarm() {
            self.fault(format!("alarms: {alarms:?}"));
        }
        self.verify(&opened, Level::Pages, expected).await;
        if self.damage.is_representative() {
            self.verify(&opened, Level::Objects, expected).await;
        }
    }

    async fn verify(&mut self, opened: &database::Opened, level: Level, expected: Reaction) {
        let request = verify::Request {
            backup: Some(self.scene.backup.clone()),
            level,
            jobs: 2,
            binaries: None,
            scratch: None,
        };
        match verify::run(&self.scene.world.context, opened, &request).await {
            Ok(report) if matches!(expected, Reaction::Found | Reaction::Verified) => {
                let named = report.found.iter().any(|found| self.is_named(found));
                if report.outcome != Outcome::Failed || !named {
                    self.fault(format!("verify {level:?}: {:?} {:?}", report.outcome, report.found));
                }
            }
            Ok(report) => {
                if report.outcome != Outcome::Passed || !expected.is_listed() {
                    self.fault(format!("verify {level:?}: {:?} {:?}", report.outcome, report.found));
                }
            }
            Err(Error::NotFound { .. }) if !expected.is_listed() => {}
            Err(error) => self.fault(format!("verify {level:?} does not say what is wrong: {error}")),
        }
    }

    async fn restore(&mut self, right: &BTreeMap<String, Vec<u8>>) {
        let expected = expected(self.target.class, self.damage);
        match restore(self.scene).await {
            Ok(restored) => {
                if tree(&restored) != *right {
                    self.fault("RESTORED SOMETHING ELSE");
                }
                if !expected.is_restored() {
                    self.fault("restores as if nothing were wrong");
                }
                std::fs::remove_dir_all(&restored).unwrap();
            }
            Err(error) => {
                if expected.is_restored() {
                    self.fault(format!("does not restore: {error}"));
                }
                self.judge("restore", &error);
                if self.scene.request().to.exists() {
                    self.fault("a failed restore leaves something behind");
                    std::fs::remove_dir_all(self.scene.request().to).unwrap();
                }
            }
        }
    }

    /// An error of damage ends the program with 9, or says that key or version do not fit, and names the object.
    fn judge(&mut self, act: &str, error: &Error) {
        let honest = match error {
            Error::Repository(RepositoryError::WrongKey { .. }) => self.target.class == "unlocking method",
            Error::Repository(
                RepositoryError::Damaged { .. } | RepositoryError::Missing { .. } | RepositoryError::Unsupported { .. },
            ) => self.is_named(&error.to_string()),
            _ => false,
        };
        if !honest {
            self.fault(format!("{act}: {error:?}"));
        }
    }

    fn is_named(&self, text: &str) -> bool {
        let swapped = self.damage == Damage::Swapped && text.contains(&self.target.sibling);
        // A keyring of another life is sound in itself; only the two together are not.
        let at_odds = self.target.class == "unlocking method" && text.contains("the keys in keys/1");
        text.contains(&self.target.name) || swapped || at_odds
    }
}

/// Restores as a new process would; where to.
async fn restore(scene: &Scene) -> Result<std::path::PathBuf> {
    let world = &scene.world;
    let request = scene.request();
    let opened = database::open(&world.context, &world.database).await?;
    let plan = restore::plan(&world.context, &opened, &request).await?;
    Ok(restore::run(&world.context, &opened, &request, plan).await?.to)
}
