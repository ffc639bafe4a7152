//! Whose the restored files are.
//!
//! A server does not start on files of another user. Who is not root can only make files of his own.

use std::{os::unix::fs::MetadataExt, path::Path};

use repo::manifest::Owner;

use crate::{Result, error::At as _};

use super::refused;

/// A user and a group, by number, as `chown` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Ids {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
}

/// To whom files are given; `None`: they stay whose who runs us.
///
/// Root gives them to the owner of an existing target, else to the user that owned the data directory at the
/// time of the backup.
pub(super) fn choose(target: &Path, recorded: Option<&Owner>) -> Result<Option<Ids>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    if let Ok(metadata) = std::fs::metadata(target)
        && metadata.uid() != 0
    {
        return Ok(Some(Ids {
            user: metadata.uid(),
            group: metadata.gid(),
        }));
    }
    let name = recorded.map_or("postgres", |owner| owner.user.as_str());
    match by_name(name)? {
        Some(ids) if ids.user != 0 => Ok(Some(ids)),
        _ => Err(refused(
            "owner-unknown",
            format!("the files belonged to the user {name}, whom this machine does not know"),
            format!(
                "Make that user, or make {} and give it to the user who shall run the server.",
                target.display()
            ),
        )),
    }
}

/// Who runs a scratch server: root may not, so it is the user who owned the source, or `postgres`. No other: a user
/// that other services share, such as `nobody`, would let them into a copy of the database.
pub(crate) fn for_scratch(recorded: &Owner) -> Result<Option<Ids>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    for name in [recorded.user.as_str(), "postgres"] {
        if let Some(ids) = by_name(name)?
            && ids.user != 0
        {
            return Ok(Some(ids));
        }
    }
    Err(refused(
        "owner-unknown",
        format!(
            "this machine knows neither the user {} nor postgres to run a scratch server as",
            recorded.user
        ),
        "Make one of them, or run lastgood as the user that shall own the server, not as root.",
    ))
}

/// Gives `path` to its owner.
pub(crate) fn give(path: &Path, owner: Option<Ids>) -> Result<()> {
    let Some(Ids { user, group }) = owner else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(user), Some(group)).at("change the owner of", path)
}

/// Gives an open file to its owner: whatever its name leads to by now, it is this file.
pub(super) fn give_file(file: &std::fs::File, path: &Path, owner: Option<Ids>) -> Result<()> {
    let Some(Ids { user, group }) = owner else {
        return Ok(());
    };
    std::os::unix::fs::fchown(file, Some(user), Some(group)).at("change the owner of", path)
}

/// Who owns `path`, by name where there is one.
pub(crate) fn of(path: &Path) -> Result<Owner> {
    let metadata = std::fs::metadata(path).at("look at", path)?;
    let user = name_of("/etc/passwd", metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
    let group = name_of("/etc/group", metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
    Ok(Owner { user, group })
}

/// The ids of a user, by name or number.
fn by_name(name: &str) -> Result<Option<Ids>> {
    let users = std::fs::read_to_string("/etc/passwd").at("read", "/etc/passwd")?;
    Ok(users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (user, group) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        (*fields.first()? == name || *fields.get(2)? == name).then_some(Ids { user, group })
    }))
}

fn name_of(file: &str, id: u32) -> Option<String> {
    let content = std::fs::read_to_string(file).ok()?;
    content.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_string())
    })
}
