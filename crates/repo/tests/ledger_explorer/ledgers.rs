//! Every ledger met so far, as a tree: a node is a ledger whose parent is the same without its last entry.

use std::collections::HashMap;

use repo::ledger::{BackupKind, Condemned, Entry, ObjectReference, Record, References, State, Summary, Verdict, What};

use crate::scenario::{A, Move, Run, Scenario};

/// An entry as the model writes it. No two processes, moves or attempts have equal ones at one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Word {
    pub(crate) process: u8,
    pub(crate) step: u8,
    /// What was decided: the parent of a run, the number of a condemnation.
    pub(crate) choice: u8,
    /// A no-op instead.
    pub(crate) fill: bool,
}

pub(crate) struct Node {
    pub(crate) parent: u32,
    /// None for the two entries that are there from the start.
    pub(crate) word: Option<Word>,
    pub(crate) state: State,
    pub(crate) valid: bool,
    /// Runs whose objects must be there, a bit each.
    pub(crate) needed: u8,
    /// What is wrong with this ledger, whatever the store holds.
    pub(crate) wrong: Option<String>,
}

pub(crate) struct Ledgers {
    pub(crate) nodes: Vec<Node>,
    children: HashMap<(u32, Word), u32>,
}

pub(crate) fn id(run: Run) -> String {
    char::from(b'A' + run).to_string()
}

fn index(id: &str) -> Run {
    id.bytes().next().map_or(0, |letter| letter - b'A')
}

fn record(n: u64, entry: Entry) -> Record {
    Record {
        n,
        prev: String::new(),
        at: 0,
        writer: "model".into(),
        operation: String::new(),
        entry,
    }
}

fn commit(run: Run, backups: Vec<String>) -> Entry {
    let manifest = ObjectReference {
        object: format!("backups/{}/manifest", id(run)),
        hash: String::new(),
        size: 1,
    };
    let summary = Summary {
        kind: BackupKind::Full,
        label: None,
        parent: None,
        started: 0,
        stopped: 0,
        generation: None,
        timeline: None,
        start_lsn: None,
        stop_lsn: None,
        major: None,
        bytes: 1,
        stored: 1,
        files: 1,
        databases: 1,
    };
    Entry::Committed {
        run: id(run),
        manifest,
        references: References { backups },
        summary,
    }
}

fn start(run: Run, parent: Option<Run>) -> Entry {
    Entry::RunStarted {
        run: id(run),
        session: id(run),
        what: What::Backup,
        parent: parent.map(id),
    }
}

/// What `parent` and all it references are called in `state`.
fn references(state: &State, parent: Run) -> Vec<String> {
    let further = state
        .backup(&id(parent))
        .map(|backup| backup.references.clone())
        .unwrap_or_default();
    std::iter::once(id(parent)).chain(further).collect()
}

/// The entry that `word` stands for when written on `state`.
pub(crate) fn entry(scenario: &Scenario, state: &State, word: Word) -> Entry {
    if word.fill {
        return Entry::NoOp {};
    }
    let condemned = u64::from(word.choice);
    match scenario.processes[usize::from(word.process)][usize::from(word.step)] {
        Move::Start(run) => start(run, Some(word.choice)),
        Move::StartSilent(run) => start(run, None),
        Move::Commit(run) => commit(run, references(state, word.choice)),
        Move::Expire(run) => Entry::Expired { backup: id(run) },
        Move::Hold(run) => Entry::HoldSet {
            backup: id(run),
            name: "hold".into(),
            until: None,
        },
        Move::Release(run) => Entry::HoldReleased {
            backup: id(run),
            name: "hold".into(),
        },
        Move::Pin(run) => Entry::Pinned {
            pin: word.process.to_string(),
            backup: id(run),
            until: 0,
        },
        Move::Unpin(_) => Entry::Unpinned {
            pin: word.process.to_string(),
        },
        Move::Abandon(run) => Entry::Abandoned { run: id(run) },
        Move::Condemn(run) => Entry::Condemned {
            objects: Condemned::Runs { runs: vec![id(run)] },
            cause: "expired".into(),
        },
        Move::Sweep(_) => Entry::Sweeping { condemned },
        Move::Swept(_) => Entry::Swept { condemned },
        Move::Store(_) | Move::Delete(_) => Entry::NoOp {},
    }
}

impl Ledgers {
    pub(crate) fn new(scenario: &Scenario) -> Ledgers {
        let mut state = scenario.ignored.map_or_else(State::new, State::ignoring);
        state.apply(&record(1, start(A, None)));
        state.apply(&record(2, commit(A, Vec::new())));
        let root = Node {
            parent: 0,
            word: None,
            needed: needed(&state),
            state,
            valid: true,
            wrong: None,
        };
        Ledgers {
            nodes: vec![root],
            children: HashMap::new(),
        }
    }

    pub(crate) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub(crate) fn length(&self, node: u32) -> u64 {
        self.node(node).state.last()
    }

    /// The word at number `n`.
    pub(crate) fn word(&self, mut node: u32, n: u64) -> Option<Word> {
        while self.length(node) > n {
            node = self.node(node).parent;
        }
        self.node(node).word
    }

    /// Whether the entry would be valid.
    pub(crate) fn judge(&self, scenario: &Scenario, node: u32, word: Word) -> bool {
        let state = &self.node(node).state;
        state.judge(&record(state.last() + 1, entry(scenario, state, word))) == Verdict::Valid
    }

    /// The ledger with one more entry.
    pub(crate) fn child(&mut self, scenario: &Scenario, node: u32, word: Word) -> u32 {
        if let Some(child) = self.children.get(&(node, word)) {
            return *child;
        }
        let mut state = self.node(node).state.clone();
        let written = entry(scenario, &state, word);
        let valid = state.apply(&record(state.last() + 1, written)) == Verdict::Valid;
        let child = u32::try_from(self.nodes.len()).unwrap();
        self.nodes.push(Node {
            parent: node,
            word: Some(word),
            needed: needed(&state),
            state,
            valid,
            wrong: None,
        });
        self.nodes[child as usize].wrong = self.oracle(scenario, child);
        self.children.insert((node, word), child);
        child
    }

    /// Judged from the words alone, without asking the state what it thinks of itself.
    fn oracle(&self, scenario: &Scenario, last: u32) -> Option<String> {
        let mut ended = [0; 3];
        let mut held = [0_i32; 3];
        let mut path = Vec::new();
        let mut node = last;
        while let Some(word) = self.node(node).word {
            if self.node(node).valid && !word.fill {
                path.push(scenario.processes[usize::from(word.process)][usize::from(word.step)]);
            }
            node = self.node(node).parent;
        }
        for made in path.into_iter().rev() {
            match made {
                Move::Commit(run) | Move::Abandon(run) => {
                    ended[usize::from(run)] += 1;
                    if ended[usize::from(run)] > 1 {
                        return Some(format!("run {} ended twice", id(run)));
                    }
                }
                Move::Hold(run) => held[usize::from(run)] += 1,
                Move::Release(run) => held[usize::from(run)] -= 1,
                Move::Expire(run) if held[usize::from(run)] > 0 => {
                    return Some(format!("backup {} expired while held", id(run)));
                }
                _ => {}
            }
        }
        None
    }
}

/// What backups, pins and the parents of open runs use.
fn needed(state: &State) -> u8 {
    let pinned = state.pins().filter_map(|pin| state.backup(&pin.backup));
    let parents = state.open_runs().filter_map(|run| state.backup(run.parent.as_ref()?));
    let mut needed = 0;
    for backup in state.backups().chain(pinned).chain(parents) {
        for run in std::iter::once(&backup.id).chain(&backup.references) {
            needed |= 1 << index(run);
        }
    }
    needed
}
