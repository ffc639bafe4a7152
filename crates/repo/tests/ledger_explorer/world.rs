//! One moment: what the store holds, what is under way to it, and where each process stands.

use repo::ledger::append::{Action, Append, Event, Found, Outcome};

use crate::ledgers::{Ledgers, Word};
use crate::scenario::{A, Move, Scenario};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The ledger.
    pub(crate) node: u32,
    /// Entries put without an answer that may still appear at the next number.
    pub(crate) under_way: Vec<Word>,
    /// Runs whose objects are there, a bit each.
    pub(crate) objects: u8,
    pub(crate) processes: Vec<Process>,
    pub(crate) faults: u8,
    pub(crate) crashes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) step: u8,
    pub(crate) append: Option<Append>,
    pub(crate) word: Option<Word>,
    /// The parent of its run.
    parent: u8,
    /// The number of its last condemnation.
    condemned: u8,
    may_delete: bool,
    pub(crate) end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Finished,
    /// It reported that its entry of this step is not there and never will be.
    Failed(u8),
    Unknown,
    Crashed,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    AnswerLost,
    Delayed,
    NotDone,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> World {
        let idle = Process {
            step: 0,
            append: None,
            word: None,
            parent: A,
            condemned: 0,
            may_delete: false,
            end: None,
        };
        World {
            node: 0,
            under_way: Vec::new(),
            objects: 1 << A,
            processes: vec![idle; scenario.processes.len()],
            faults: scenario.faults,
            crashes: scenario.crashes,
        }
    }

    /// Adds an entry to the ledger. What else was under way to that number is void of effect now.
    pub(crate) fn land(&mut self, ledgers: &mut Ledgers, scenario: &Scenario, word: Word) -> Result<(), String> {
        self.node = ledgers.child(scenario, self.node, word);
        self.under_way.clear();
        if let Some(wrong) = &ledgers.node(self.node).wrong {
            return Err(wrong.clone());
        }
        let author = &self.processes[usize::from(word.process)];
        if !word.fill && author.end == Some(End::Failed(word.step)) {
            return Err(format!(
                "an entry that process {} had reported as failed has appeared",
                word.process
            ));
        }
        Ok(())
    }

    /// Whether all that is needed is there.
    pub(crate) fn check(&self, ledgers: &Ledgers) -> Result<(), String> {
        let lost = ledgers.node(self.node).needed & !self.objects;
        if lost == 0 {
            Ok(())
        } else {
            Err(format!("objects that are needed are gone (bits {lost:b})"))
        }
    }

    /// The fates worth trying for what process `who` does next.
    pub(crate) fn fates(&self, who: usize) -> &'static [Fate] {
        let action = self.processes[who].append.as_ref().map(Append::action);
        match action {
            _ if self.faults == 0 => &[Fate::Done],
            Some(Action::Create(_) | Action::Fill(_)) => &[Fate::Done, Fate::AnswerLost, Fate::Delayed, Fate::NotDone],
            Some(Action::Read(_)) => &[Fate::Done, Fate::NotDone],
            _ => &[Fate::Done],
        }
    }

    /// Process `who` does one operation on the store, and all it does without the store after that.
    pub(crate) fn advance(
        &mut self,
        ledgers: &mut Ledgers,
        scenario: &Scenario,
        who: usize,
        fate: Fate,
    ) -> Result<(), String> {
        self.faults -= u8::from(fate != Fate::Done);
        let moves = &scenario.processes[who];
        match moves[usize::from(self.processes[who].step)] {
            Move::Store(run) => {
                self.objects |= 1 << run;
                self.next(scenario, who);
                return Ok(());
            }
            Move::Delete(run) => {
                if self.processes[who].may_delete {
                    self.objects &= !(1 << run);
                }
                self.next(scenario, who);
                return Ok(());
            }
            _ => {}
        }
        let fresh = || match scenario.mutant {
            Some(mutant) => Append::broken(ledgers.length(self.node), scenario.limits, mutant),
            // The process may have read on for nothing since: reading what cannot change commutes.
            None => Append::new(ledgers.length(self.node), scenario.limits),
        };
        let mut append = self.processes[who].append.take().unwrap_or_else(fresh);
        let mut event = self.operate(ledgers, scenario, who, append.action(), fate)?;
        loop {
            let action = append.step(event);
            event = match action {
                Action::Decide => Event::Decided(self.decide(ledgers, scenario, who)),
                Action::Pause(_) => Event::Waited,
                // An entry that is there reads the same at any time, so reading it is no step of its own.
                Action::Read(n) if n <= ledgers.length(self.node) => {
                    self.operate(ledgers, scenario, who, action, Fate::Done)?
                }
                Action::Finish(outcome) => return self.report(ledgers, scenario, who, outcome),
                Action::Read(_) | Action::Create(_) | Action::Fill(_) => break,
            };
        }
        self.processes[who].append = Some(append);
        Ok(())
    }

    fn operate(
        &mut self,
        ledgers: &mut Ledgers,
        scenario: &Scenario,
        who: usize,
        action: Action,
        fate: Fate,
    ) -> Result<Event, String> {
        let length = ledgers.length(self.node);
        let ours = self.processes[who].word;
        match action {
            Action::Read(_) if fate != Fate::Done => Ok(Event::Read(Found::Unread)),
            Action::Read(n) if n > length => Ok(Event::Read(Found::Absent)),
            Action::Read(n) => {
                let found = ledgers.word(self.node, n);
                Ok(Event::Read(match (found, ours) {
                    (Some(found), Some(ours)) if found == ours => Found::Ours,
                    (Some(found), Some(ours)) if found == (Word { fill: true, ..ours }) => Found::OurFill,
                    _ => Found::Other,
                }))
            }
            Action::Create(n) | Action::Fill(n) => {
                let word = ours.ok_or("a put before a decision")?;
                let word = Word {
                    fill: matches!(action, Action::Fill(_)),
                    ..word
                };
                if n > length {
                    match fate {
                        Fate::Done | Fate::AnswerLost => self.land(ledgers, scenario, word)?,
                        Fate::Delayed => {
                            self.under_way.push(word);
                            self.under_way.sort();
                            self.under_way.dedup();
                        }
                        Fate::NotDone => {}
                    }
                }
                Ok(Event::Put(n > length && fate == Fate::Done))
            }
            Action::Decide | Action::Pause(_) | Action::Finish(_) => Err("an operation that is none".into()),
        }
    }

    /// Decides on the ledger as it is: the read before has just found its end.
    fn decide(&mut self, ledgers: &Ledgers, scenario: &Scenario, who: usize) -> bool {
        let state = &ledgers.node(self.node).state;
        let process = &mut self.processes[who];
        let choice = match scenario.processes[who][usize::from(process.step)] {
            Move::Start(_) | Move::StartSilent(_) => {
                let newest = state.backups().last().and_then(|backup| backup.id.bytes().next());
                process.parent = newest.map_or(A, |letter| letter - b'A');
                process.parent
            }
            Move::Commit(_) => process.parent,
            Move::Sweep(_) | Move::Swept(_) => process.condemned,
            _ => 0,
        };
        let word = Word {
            process: who as u8,
            step: process.step,
            choice,
            fill: false,
        };
        process.word = Some(word);
        scenario.blind || ledgers.judge(scenario, self.node, word)
    }

    fn report(&mut self, ledgers: &Ledgers, scenario: &Scenario, who: usize, outcome: Outcome) -> Result<(), String> {
        let word = self.processes[who].word;
        let valid = match outcome {
            Outcome::Won(n) => {
                if n > ledgers.length(self.node) || ledgers.word(self.node, n) != word {
                    return Err(format!("process {who} reports success, but entry {n} is not its own"));
                }
                let mut node = self.node;
                while ledgers.length(node) > n {
                    node = ledgers.node(node).parent;
                }
                let process = &mut self.processes[who];
                let made = scenario.processes[who][usize::from(process.step)];
                if let Move::Condemn(_) = made {
                    process.condemned = u8::try_from(n).unwrap_or(u8::MAX);
                }
                if let Move::Sweep(_) = made {
                    process.may_delete = ledgers.node(node).valid;
                }
                ledgers.node(node).valid
            }
            Outcome::Stopped => false,
            Outcome::Lost(_) => {
                let mut node = self.node;
                while let Some(found) = ledgers.node(node).word {
                    if Some(found) == word {
                        return Err(format!("process {who} reports failure, but its entry is in the ledger"));
                    }
                    node = ledgers.node(node).parent;
                }
                self.processes[who].end = Some(End::Failed(self.processes[who].step));
                return Ok(());
            }
            Outcome::Unknown(_) => {
                self.processes[who].end = Some(End::Unknown);
                return Ok(());
            }
        };
        // A writer whose entry is void goes no further; a collector tries what else it has.
        let writes = matches!(scenario.processes[who][0], Move::Start(_) | Move::StartSilent(_));
        if !valid && writes {
            self.processes[who].end = Some(End::Finished);
        } else {
            self.next(scenario, who);
        }
        Ok(())
    }

    fn next(&mut self, scenario: &Scenario, who: usize) {
        let process = &mut self.processes[who];
        process.step += 1;
        process.append = None;
        process.word = None;
        if usize::from(process.step) >= scenario.processes[who].len() {
            process.end = Some(End::Finished);
        }
    }
}
