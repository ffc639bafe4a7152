//! A database's folder as files on disk, and what disks, people and attackers do to single objects in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One way to damage an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Damage {
    /// It is gone.
    Missing,
    /// It has no bytes.
    Empty,
    /// Its second half is gone.
    CutInHalf,
    /// Its last byte is gone.
    CutByOne,
    /// A bit is the other one, at that many per cent of its length.
    Flipped(usize),
    /// A bit of the name of its session is the other one.
    FlippedInHeader,
    /// It and another object of its class have changed places.
    Swapped,
    /// It holds what an object of this name held in another life of the repository.
    Older,
    /// It holds a genuine object of this name and content, sealed anew with this repository's own key.
    SealedAgain,
    /// It is followed by itself.
    Doubled,
    /// It is followed by a byte.
    Appended,
}

/// Every way. Five places are flipped: the first byte, a quarter, the middle, three quarters, the last byte.
pub(crate) const ALL: [Damage; 15] = [
    Damage::Missing,
    Damage::Empty,
    Damage::CutInHalf,
    Damage::CutByOne,
    Damage::Flipped(0),
    Damage::Flipped(25),
    Damage::Flipped(50),
    Damage::Flipped(75),
    Damage::Flipped(100),
    Damage::FlippedInHeader,
    Damage::Swapped,
    Damage::Older,
    Damage::SealedAgain,
    Damage::Doubled,
    Damage::Appended,
];

impl Damage {
    /// Whether it stands for its kind where trying every one would take too long.
    pub(crate) fn is_representative(self) -> bool {
        !matches!(
            self,
            Damage::CutByOne | Damage::Flipped(0 | 25 | 75 | 100) | Damage::Appended
        )
    }
}

/// What one object is, and what may take its place.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// A word for the class.
    pub(crate) class: &'static str,
    /// The object.
    pub(crate) name: String,
    /// Another object of its class, in the same folder.
    pub(crate) sibling: String,
    /// What an object of this name holds elsewhere.
    pub(crate) older: Option<Vec<u8>>,
    /// The same content, sealed anew.
    pub(crate) sealed_again: Option<Vec<u8>>,
}

/// All objects of a folder as they should be.
pub(crate) struct Folder {
    root: PathBuf,
    objects: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    /// Remembers what is there now.
    pub(crate) fn remember(root: &Path) -> Folder {
        let mut objects = BTreeMap::new();
        for name in names(root) {
            let bytes = fs::read(root.join(&name)).unwrap();
            objects.insert(name, bytes);
        }
        Folder {
            root: root.to_owned(),
            objects,
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().map(String::as_str)
    }

    /// The one name that `fits`.
    pub(crate) fn the(&self, fits: impl Fn(&str) -> bool) -> String {
        self.names()
            .find(|name| fits(name))
            .expect("there is such an object")
            .to_string()
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        &self.objects[name]
    }

    /// Damages the object on disk. False if there is no such damage to it.
    pub(crate) fn damage(&self, target: &Target, damage: Damage) -> bool {
        let bytes = self.bytes(&target.name);
        let flip = |at: usize| {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            Some(flipped)
        };
        let damaged = match damage {
            Damage::Missing => None,
            Damage::Empty => Some(Vec::new()),
            Damage::CutInHalf => Some(bytes[..bytes.len() / 2].to_vec()),
            Damage::CutByOne => Some(bytes[..bytes.len() - 1].to_vec()),
            Damage::Flipped(percent) => flip((bytes.len() * percent / 100).min(bytes.len() - 1)),
            Damage::FlippedInHeader => flip(20),
            Damage::Swapped => {
                fs::write(self.root.join(&target.sibling), bytes).unwrap();
                Some(self.bytes(&target.sibling).to_vec())
            }
            Damage::Older => match &target.older {
                Some(older) => Some(older.clone()),
                None => return false,
            },
            Damage::SealedAgain => match &target.sealed_again {
                Some(again) => Some(again.clone()),
                None => return false,
            },
            Damage::Doubled => Some([bytes, bytes].concat()),
            Damage::Appended => Some([bytes, &[0]].concat()),
        };
        assert_ne!(
            damaged.as_deref(),
            Some(bytes),
            "{} {damage:?}: nothing is damaged",
            target.name
        );
        let path = self.root.join(&target.name);
        match damaged {
            Some(damaged) => fs::write(path, damaged).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        true
    }

    /// Puts everything back as it was, and removes what was written since.
    pub(crate) fn mend(&self) {
        for name in names(&self.root) {
            if !self.objects.contains_key(&name) {
                fs::remove_file(self.root.join(&name)).unwrap();
            }
        }
        for (name, bytes) in &self.objects {
            let path = self.root.join(name);
            if fs::read(&path).ok().as_ref() != Some(bytes) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

/// Every file below `root`, with its content: what a restore left behind.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    names(root)
        .into_iter()
        .map(|name| {
            let hash = hash(&fs::read(root.join(&name)).unwrap());
            (name, hash)
        })
        .collect()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    blake3::hash(bytes).as_bytes().to_vec()
}

fn names(root: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push(name.to_string());
            }
        }
    }
    found.sort();
    found
}
