//! Lists the objects in a repository's folder in the order of their names, from any name on.
//!
//! The driver goes through everything below a folder for each page that is asked for: pages of a long WAL archive would take
//! time by its square. Here only those directories are opened that hold what is wanted.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Listed;

/// Names of one directory that are held at once; of a larger one, the others are read when their turn comes.
const MOST_NAMES: usize = 10_000;

/// What is still to be looked at.
enum Next {
    Object(String),
    /// A directory, its name ending with a slash (the folder itself has none), and the name in it up to which it was done.
    Directory(String, Option<String>),
}

/// What is wanted of a listing.
pub(super) struct Wanted {
    /// What the names begin with.
    prefix: String,
    /// What they come after.
    after: String,
    /// How many, at most.
    limit: usize,
}

impl Wanted {
    pub(super) fn new(prefix: &str, after: &str, limit: usize) -> Wanted {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        Wanted { prefix, after, limit }
    }

    /// Whether the object or, with a slash at its end, any object in the directory of that name may be.
    fn has(&self, name: &str) -> bool {
        let is_directory = name.ends_with('/');
        let begins = name.starts_with(&self.prefix) || is_directory && self.prefix.starts_with(name);
        begins && (name > &*self.after || is_directory && self.after.starts_with(name))
    }
}

/// The first objects below `root` that are wanted, ascending. What goes meanwhile is not there. A file where a directory should be
/// is an error.
pub(super) fn list(root: &Path, wanted: &Wanted) -> io::Result<Vec<Listed>> {
    list_holding(MOST_NAMES, root, wanted)
}

fn list_holding(most: usize, root: &Path, wanted: &Wanted) -> io::Result<Vec<Listed>> {
    let mut found = Vec::new();
    let folder = wanted.prefix.rfind('/').map_or("", |slash| &wanted.prefix[..=slash]);
    let mut waiting = vec![Next::Directory(folder.into(), None)];
    while let Some(next) = waiting.pop() {
        if found.len() >= wanted.limit {
            break;
        }
        match next {
            Next::Object(name) => found.extend(object(root, name)?),
            Next::Directory(folder, done) => {
                let (names, is_all) = names(most, root, &folder, done.as_deref(), wanted)?;
                if !is_all {
                    waiting.push(Next::Directory(folder, names.last().cloned()));
                }
                waiting.extend(names.into_iter().rev().map(|name| match name.ends_with('/') {
                    true => Next::Directory(name, None),
                    false => Next::Object(name),
                }));
            }
        }
    }
    Ok(found)
}

/// The first names in a directory after `done` that are wanted, in full, and whether these are all of them.
fn names(
    most: usize,
    root: &Path,
    folder: &str,
    done: Option<&str>,
    wanted: &Wanted,
) -> io::Result<(BTreeSet<String>, bool)> {
    let (mut names, mut is_all) = (BTreeSet::new(), true);
    let Some(entries) = there(fs::read_dir(root.join(folder)))? else {
        return Ok((names, is_all));
    };
    for entry in entries {
        let entry = entry?;
        // A file that is not whole yet has a name that no object has.
        let Some(name) = entry.file_name().into_string().ok().filter(|name| is_ours(name)) else {
            continue;
        };
        let Some(mut kind) = there(entry.file_type())? else {
            continue;
        };
        if kind.is_symlink() {
            let Some(target) = there(fs::metadata(entry.path()))? else {
                continue;
            };
            kind = target.file_type();
        }
        let name = match (kind.is_dir(), kind.is_file()) {
            (true, _) => format!("{folder}{name}/"),
            (_, true) => format!("{folder}{name}"),
            _ => continue,
        };
        if wanted.has(&name) && done.is_none_or(|done| name.as_str() > done) {
            names.insert(name);
            if names.len() > most {
                names.pop_last();
                is_all = false;
            }
        }
    }
    Ok((names, is_all))
}

fn object(root: &Path, name: String) -> io::Result<Option<Listed>> {
    let Some(found) = there(fs::metadata(root.join(&name)))? else {
        return Ok(None);
    };
    Ok(Some(Listed {
        size: found.len(),
        modified_micros: micros(found.modified()?),
        name,
    }))
}

fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `None` for what is not there.
fn there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_ours(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(root: &Path, prefix: &str, after: &str, limit: usize) -> Vec<String> {
        let wanted = Wanted::new(prefix, after, limit);
        let found = list(root, &wanted).unwrap();
        // However few names are held at once, it is the same.
        assert_eq!(list_holding(1, root, &wanted).unwrap(), found);
        assert_eq!(list_holding(3, root, &wanted).unwrap(), found);
        found.into_iter().map(|one| one.name).collect()
    }

    fn put(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }

    proptest! {
        #[test]
        fn any_prefix_and_any_name_to_begin_after_find_what_sorting_all_names_finds(
            names in prop::collection::btree_set("[ab](-|/[ab.]|[ab]){0,4}", 0..12),
            prefix in "([ab]{1,2}/){0,2}[ab]?",
            after in "([ab](/|[ab.-]){0,4})?",
            limit in 0usize..6,
        ) {
            let root = tempfile::tempdir().unwrap();
            // Of a name and what would lie below it only one can be.
            let is_file = |name: &String| {
                let below = format!("{name}/");
                !names.iter().any(|other| other.starts_with(&below)) && name.split('/').all(|part| !matches!(part, "." | ".."))
            };
            let names: Vec<&String> = names.iter().filter(|name| is_file(name)).collect();
            // Where a file lies in place of a directory, that is an error.
            prop_assume!(!names.iter().any(|name| prefix.starts_with(&format!("{name}/"))));
            for name in &names {
                put(root.path(), name);
            }
            let expected = names.iter().filter(|name| name.starts_with(&prefix) && name.as_str() > after.as_str());
            let expected: Vec<&str> = expected.take(limit).map(|name| name.as_str()).collect();
            prop_assert_eq!(listed(root.path(), &prefix, &after, limit), expected);
        }
    }

    #[test]
    fn empty_directories_are_no_objects_and_end_no_page() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..30 {
            fs::create_dir_all(root.path().join(format!("wal/{number:02}"))).unwrap();
        }
        for number in ["03", "17", "29"] {
            put(root.path(), &format!("wal/{number}/run"));
        }
        assert_eq!(listed(root.path(), "wal/", "", 10).len(), 3);
        assert_eq!(listed(root.path(), "wal/", "wal/17/run", 10)[0], "wal/29/run");
        assert!(listed(root.path(), "wal/", "wal/3/run", 10).is_empty());
    }

    #[test]
    fn links_are_followed_and_what_is_no_object_is_left_out() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(other.path(), "x/y");
        put(root.path(), "a#1");
        put(root.path(), "b c");
        std::os::unix::fs::symlink(other.path().join("x"), root.path().join("x")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("gone")).unwrap();
        std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        assert_eq!(listed(root.path(), "", "", 10), ["x/y"]);
        assert!(listed(root.path(), "absent/", "", 10).is_empty());
    }
}
