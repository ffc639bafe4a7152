//! What disks, people and attackers do to single objects.

use bytes::Bytes;

use super::FaultyStore;
use super::executor::lock;
use super::objects::{Stored, What};

/// One way to damage an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// It is gone.
    Missing,
    /// It has no bytes.
    Empty,
    /// Only its first bytes are left.
    Cut(usize),
    /// The lowest bit of the byte at this position is the other one.
    Flipped(usize),
    /// It and the other object have changed places.
    SwappedWith(String),
    /// It holds what it held before it last changed.
    Old,
    /// It holds these bytes.
    Replaced(Bytes),
}

impl FaultyStore {
    /// Damages `name`. False if that is not possible: there is no such object, position, or past.
    pub fn damage(&self, name: &str, damage: &Damage) -> bool {
        let Some(bytes) = self.bytes(name) else { return false };
        let damaged = match damage {
            Damage::Missing => None,
            Damage::Empty => Some(Bytes::new()),
            Damage::Cut(length) if *length < bytes.len() => Some(bytes.slice(..*length)),
            Damage::Flipped(position) if *position < bytes.len() => {
                let flip = |(index, byte): (usize, &u8)| byte ^ u8::from(index == *position);
                Some(bytes.iter().enumerate().map(flip).collect())
            }
            Damage::Cut(_) | Damage::Flipped(_) => return false,
            Damage::SwappedWith(other) => {
                let Some(theirs) = self.bytes(other) else { return false };
                self.replace(other, Some(bytes));
                Some(theirs)
            }
            Damage::Old => match self.before(name, &bytes) {
                Some(old) => Some(old),
                None => return false,
            },
            Damage::Replaced(bytes) => Some(bytes.clone()),
        };
        self.replace(name, damaged);
        true
    }

    fn before(&self, name: &str, bytes: &Bytes) -> Option<Bytes> {
        let objects = lock(&self.objects);
        let mut changes = objects.history.iter().rev().filter(|change| change.name == name);
        changes.find_map(|change| match &change.what {
            What::Created(old) | What::Damaged(Some(old)) if old != bytes => Some(old.clone()),
            _ => None,
        })
    }

    /// Keeps the time of last change: damage does not announce itself.
    fn replace(&self, name: &str, bytes: Option<Bytes>) {
        let at_micros = self.sim.now_micros();
        let mut objects = lock(&self.objects);
        let modified_micros = objects
            .stored
            .get(name)
            .map_or(at_micros, |stored| stored.modified_micros);
        match &bytes {
            Some(bytes) => objects.stored.insert(
                name.to_owned(),
                Stored {
                    bytes: bytes.clone(),
                    modified_micros,
                },
            ),
            None => objects.stored.remove(name),
        };
        objects.record(at_micros, "damage", name, What::Damaged(bytes));
    }
}
