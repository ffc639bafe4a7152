//! How one entry gets into the ledger: a step machine without I/O.
//!
//! Whoever drives it carries out each [`Action`] and reports what came of it as the next [`Event`].
//! It reads on to the end, has the caller decide on exactly that prefix, and creates the next
//! number. Any answer but "created" is settled by reading the name: ours is won, another's is lost
//! and decided anew, absence is tried again with the same bytes. Who gives up first puts a no-op on
//! the number, because an unanswered put may still arrive at any time: once the name is taken, it cannot.
//!
//! Invariants:
//! - [`Outcome::Won`] is reported only when the entry is in the ledger;
//! - after [`Outcome::Lost`] or [`Outcome::Stopped`] it is not there, and never will be;
//! - whatever lands at `n` was decided on exactly the entries before `n`.

/// Bounds on one append; all counts are of store operations without a usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// Tries to read, or to create our entry at one number.
    pub tries: u8,
    /// Tries to put the no-op, after giving up.
    pub fills: u8,
    /// Numbers lost to others before giving up.
    pub losses: u8,
}

impl Limits {
    /// Eight tries with doubling pauses ride out about 25 s of silence, longer than an object store's
    /// usual burst of 503; 64 losses in a row mean that somebody writes in a loop.
    pub const DEFAULT: Limits = Limits {
        tries: 8,
        fills: 4,
        losses: 64,
    };
}

/// What the driver is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Read entry `n`, take it into the state if it is there, report [`Event::Read`].
    Read(u64),
    /// Have the caller decide on the state, report [`Event::Decided`].
    Decide,
    /// Create entry `n` with our bytes, the same at each retry; report [`Event::Put`].
    Create(u64),
    /// Create entry `n` with a no-op, the same bytes at each retry; report [`Event::Put`].
    Fill(u64),
    /// Wait a while, the longer the higher the number; report [`Event::Waited`].
    Pause(u8),
    /// It is over.
    Finish(Outcome),
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Of a read.
    Read(Found),
    /// Of a decision: whether there is an entry to append.
    Decided(bool),
    /// Of a put: whether the store said "created". "Exists", conflict and silence are all `false`.
    Put(bool),
    /// Of a pause.
    Waited,
}

/// What a name holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Found {
    /// Nothing.
    Absent,
    /// The bytes we sent.
    Ours,
    /// The no-op we sent.
    OurFill,
    /// Another's entry.
    Other,
    /// The store did not say.
    Unread,
}

/// How an append ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Our entry is number `n`.
    Won(u64),
    /// The caller decided against appending; nothing of ours can appear.
    Stopped,
    /// Given up; nothing of ours can appear.
    Lost(Why),
    /// Given up, and even the no-op had no answer: our entry may be at `n`, or appear there.
    Unknown(u64),
}

/// Why an append was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The store did not answer often enough.
    Silence,
    /// Others were always faster.
    Contention,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Reading,
    Deciding,
    Creating,
    Checking,
    Filling,
    CheckingFill,
    /// Paused; then this action's phase.
    PausedRead,
    PausedCreate,
    PausedFill,
    Done(Outcome),
}

/// One append under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Append {
    /// The number tried or read next.
    at: u64,
    phase: Phase,
    /// Unanswered operations at this number.
    silences: u8,
    losses: u8,
    limits: Limits,
    #[cfg(feature = "mutants")]
    broken: Option<Mutant>,
}

/// Ways to break the protocol, to prove that the tests would notice.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Reports failure without taking the number.
    GivesUpWithoutFilling,
    /// Takes "exists" or silence for a loss without reading whose it is.
    TakesSilenceForLoss,
    /// Takes "exists" or silence for success.
    TakesSilenceForSuccess,
    /// Takes a name that is absent now for one that stays absent.
    TakesAbsenceForFailure,
    /// Takes a no-op that was not created for proof that ours is not there.
    TakesLostFillForFailure,
}

impl Append {
    /// An append for somebody who has taken in the first `last` entries. Begin with [`Append::action`].
    pub fn new(last: u64, limits: Limits) -> Append {
        Append {
            at: last.saturating_add(1),
            phase: Phase::Reading,
            silences: 0,
            losses: 0,
            limits,
            #[cfg(feature = "mutants")]
            broken: None,
        }
    }

    /// The same, broken on purpose.
    #[cfg(feature = "mutants")]
    pub fn broken(last: u64, limits: Limits, broken: Mutant) -> Append {
        Append {
            broken: Some(broken),
            ..Append::new(last, limits)
        }
    }

    /// What is to be done now.
    pub fn action(&self) -> Action {
        match self.phase {
            Phase::Reading | Phase::Checking | Phase::CheckingFill => Action::Read(self.at),
            Phase::Deciding => Action::Decide,
            Phase::Creating => Action::Create(self.at),
            Phase::Filling => Action::Fill(self.at),
            Phase::PausedRead | Phase::PausedCreate | Phase::PausedFill => Action::Pause(self.silences),
            Phase::Done(outcome) => Action::Finish(outcome),
        }
    }

    /// Takes in what came of the last action and says what is next. An event that does not answer the
    /// action changes nothing.
    pub fn step(&mut self, event: Event) -> Action {
        self.phase = match (self.phase, event) {
            (Phase::Reading, Event::Read(Found::Absent)) => Phase::Deciding,
            (Phase::Reading, Event::Read(Found::Unread)) => self.silence(Phase::PausedRead),
            (Phase::Reading, Event::Read(_)) => self.next_number(),
            (Phase::Deciding, Event::Decided(true)) => self.start(),
            (Phase::Deciding, Event::Decided(false)) => Phase::Done(Outcome::Stopped),
            (Phase::Creating, Event::Put(true)) => Phase::Done(Outcome::Won(self.at)),
            (Phase::Creating, Event::Put(false)) => self.doubt(),
            (Phase::Checking, Event::Read(found)) => self.settle(found),
            (Phase::Filling, Event::Put(true)) => Phase::Done(Outcome::Lost(Why::Silence)),
            (Phase::Filling, Event::Put(false)) => self.doubt_fill(),
            (Phase::CheckingFill, Event::Read(found)) => self.settle_fill(found),
            (Phase::PausedRead, Event::Waited) => Phase::Reading,
            (Phase::PausedCreate, Event::Waited) => Phase::Creating,
            (Phase::PausedFill, Event::Waited) => Phase::Filling,
            (phase, _) => phase,
        };
        self.action()
    }

    fn next_number(&mut self) -> Phase {
        self.at = self.at.saturating_add(1);
        self.silences = 0;
        Phase::Reading
    }

    fn start(&mut self) -> Phase {
        self.silences = 0;
        Phase::Creating
    }

    /// Only before the first put at this number: nothing of ours is under way.
    fn silence(&mut self, pause: Phase) -> Phase {
        self.silences = self.silences.saturating_add(1);
        if self.silences < self.limits.tries {
            pause
        } else {
            Phase::Done(Outcome::Lost(Why::Silence))
        }
    }

    fn doubt(&mut self) -> Phase {
        #[cfg(feature = "mutants")]
        match self.broken {
            Some(Mutant::TakesSilenceForLoss) => return Phase::Done(Outcome::Lost(Why::Contention)),
            Some(Mutant::TakesSilenceForSuccess) => return Phase::Done(Outcome::Won(self.at)),
            _ => {}
        }
        Phase::Checking
    }

    fn settle(&mut self, found: Found) -> Phase {
        match found {
            Found::Ours => Phase::Done(Outcome::Won(self.at)),
            Found::Other | Found::OurFill => {
                self.losses = self.losses.saturating_add(1);
                if self.losses < self.limits.losses {
                    self.next_number()
                } else {
                    Phase::Done(Outcome::Lost(Why::Contention))
                }
            }
            Found::Absent | Found::Unread => self.retry(),
        }
    }

    fn retry(&mut self) -> Phase {
        self.silences = self.silences.saturating_add(1);
        #[cfg(feature = "mutants")]
        if self.broken == Some(Mutant::TakesAbsenceForFailure) {
            return Phase::Done(Outcome::Lost(Why::Silence));
        }
        if self.silences < self.limits.tries {
            return Phase::PausedCreate;
        }
        #[cfg(feature = "mutants")]
        if self.broken == Some(Mutant::GivesUpWithoutFilling) {
            return Phase::Done(Outcome::Lost(Why::Silence));
        }
        self.silences = 0;
        Phase::Filling
    }

    fn doubt_fill(&mut self) -> Phase {
        #[cfg(feature = "mutants")]
        if self.broken == Some(Mutant::TakesLostFillForFailure) {
            return Phase::Done(Outcome::Lost(Why::Silence));
        }
        Phase::CheckingFill
    }

    fn settle_fill(&mut self, found: Found) -> Phase {
        match found {
            Found::Ours => Phase::Done(Outcome::Won(self.at)),
            Found::OurFill | Found::Other => Phase::Done(Outcome::Lost(Why::Silence)),
            Found::Absent | Found::Unread => {
                self.silences = self.silences.saturating_add(1);
                if self.silences < self.limits.fills {
                    Phase::PausedFill
                } else {
                    Phase::Done(Outcome::Unknown(self.at))
                }
            }
        }
    }
}
