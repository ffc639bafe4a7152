//! Makes all that was restored durable.
//!
//! Invariant: every file system on which a directory of the restored cluster lies is synced. A mount may stand anywhere in a
//! data directory onto which a delta restore goes, and files are not synced one by one.

use std::{collections::BTreeMap, fs::File, os::unix::fs::MetadataExt, path::Path};

use crate::{Result, error::At as _, event::Context};

/// Syncs each file system that a directory lies on, once: that costs far less than one sync per file, and reports write
/// errors all the same.
pub(super) fn sync<'a>(context: &Context, directories: impl Iterator<Item = &'a Path>) -> Result<()> {
    let systems = file_systems(directories)?;
    context.step(
        "sync",
        match systems.len() {
            1 => "making everything durable".into(),
            count => format!("making everything durable on {count} file systems"),
        },
    );
    for (path, directory) in systems.values() {
        rustix::fs::syncfs(directory).at("sync", path)?;
    }
    Ok(())
}

/// The first directory on each device, by the device's number.
fn file_systems<'a>(directories: impl Iterator<Item = &'a Path>) -> Result<BTreeMap<u64, (&'a Path, File)>> {
    let mut systems = BTreeMap::new();
    for path in directories {
        let device = std::fs::metadata(path).at("look at", path)?.dev();
        if let std::collections::btree_map::Entry::Vacant(place) = systems.entry(device) {
            place.insert((path, File::open(path).at("open", path)?));
        }
    }
    Ok(systems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_counts_once_wherever_in_the_list_it_comes() {
        // Not where temporary files go: that may be memory too.
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(folder.path().join("base")).unwrap();
        let (root, base, space) = (folder.path(), folder.path().join("base"), other.path());
        let found = |paths: &[&Path]| {
            let systems = file_systems(paths.iter().copied()).unwrap();
            let mut found: Vec<_> = systems.values().map(|(path, _)| path.to_path_buf()).collect();
            found.sort_by_key(|path| paths.iter().position(|given| given == path));
            found
        };
        assert_eq!(found(&[root, &base]), [root]);
        assert_eq!(found(&[root, &base, space, root]), [root, space]);
        assert!(file_systems([&*root.join("none")].into_iter()).is_err());
    }
}
