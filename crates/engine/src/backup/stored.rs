//! Whether the repository has what a backup rests on, asked just before it is committed.
//!
//! A put that was acknowledged must be there, whole: stores have said yes and kept nothing. And a folder whose
//! identity or session is gone cannot be read, however many packs lie in it.

use std::collections::BTreeMap;

use repo::{
    BackupId, Repository,
    manifest::{Manifest, Needed, ObjectRef},
    names,
    session::Session,
};

use crate::Result;

use super::assemble::Assembled;

/// How many names are asked for at once.
const PAGE: usize = 1000;

/// Asks for everything but the manifest, which is yet to be written.
pub(super) async fn check_stored(
    repository: &Repository,
    session: &Session,
    id: BackupId,
    packs: &[ObjectRef],
    assembled: &Assembled,
) -> Result<()> {
    check(repository, "identity".into(), None).await?;
    check(repository, session.id.object(), None).await?;
    for pack in packs {
        check(repository, names::pack(&id, pack.number), Some(u64::from(pack.size))).await?;
    }
    for (number, map) in (0..).zip(&assembled.maps) {
        check(repository, names::map(&id, number), Some(map.pin.size)).await?;
    }
    for (number, part) in (0..).zip(&assembled.table.pins) {
        check(repository, names::files(&id, number), Some(part.size)).await?;
    }
    Ok(())
}

/// Asks for the packs and maps of other backups that this one uses: a child of what is gone is worth nothing, and whoever took
/// it away is to be heard of today.
pub(super) async fn check_used(repository: &Repository, needed: &Needed) -> Result<()> {
    check_from(1, repository, needed).await
}

/// Asks for all that a parent needs, before hours go into a copy that would rest on it. A listing of each folder costs little
/// beside that.
pub(super) async fn check_parent(repository: &Repository, parent: &Manifest) -> Result<()> {
    for (number, part) in (0..).zip(parent.facts.table()) {
        check(repository, names::files(&parent.facts.backup, number), Some(part.size)).await?;
    }
    check_from(0, repository, &parent.needed).await
}

/// Asks for packs and maps of all sources from number `least` on; 0 is the backup itself.
async fn check_from(least: u32, repository: &Repository, needed: &Needed) -> Result<()> {
    let kinds: [(&[ObjectRef], Name); 2] = [(&needed.packs, names::pack), (&needed.maps, names::map)];
    for (objects, name) in kinds {
        for of_one in objects.chunk_by(|a, b| a.source == b.source) {
            let source = of_one.first().map_or(0, |first| first.source);
            let Some(backup) = needed.sources.get(source).filter(|_| source >= least) else {
                continue;
            };
            let first = name(&backup, 0);
            let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
            let listed = sizes(repository, &format!("{folder}/")).await?;
            for object in of_one {
                let (name, size) = (name(&backup, object.number), u64::from(object.size));
                // A listing may be short; only the name itself tells.
                if listed.get(&name) != Some(&size) {
                    check(repository, name, Some(size)).await?;
                }
            }
        }
    }
    Ok(())
}

type Name = fn(&BackupId, u32) -> String;

/// The objects of a folder and their sizes.
async fn sizes(repository: &Repository, folder: &str) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = repository.store().list_after(folder, &after, PAGE).await?;
        let is_last = page.len() < PAGE;
        if let Some(last) = page.last() {
            after.clone_from(&last.name);
        }
        found.extend(page.into_iter().map(|object| (object.name, object.size)));
        if is_last {
            return Ok(found);
        }
    }
}

/// One object; `size` in bytes, where it is known.
async fn check(repository: &Repository, name: String, size: Option<u64>) -> Result<()> {
    match repository.store().head(&name).await? {
        Some(found) if size.is_none_or(|size| found.size == size) => Ok(()),
        Some(_) => {
            let what = "the store keeps it with another size than was written".into();
            Err(repo::Error::Damaged { name, what }.into())
        }
        None => Err(repo::Error::Missing { name }.into()),
    }
}
