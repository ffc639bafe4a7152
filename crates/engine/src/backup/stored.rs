//! Whether the repository has what a backup rests on, asked just before it is committed.
//!
//! A put that was acknowledged must be there, whole: stores have said yes and kept nothing. And a folder whose
//! identity or session is gone cannot be read, however many packs lie in it.

use repo::{BackupId, Repository, manifest::ObjectRef, names, session::Session};

use crate::Result;

use super::assemble::Assembled;

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
