//! The store of production: a directory today, buckets by the same driver later.
//!
//! The driver's own retries stay off: it repeats conditional puts and then reports our own success as
//! "exists". Repeating is ours ([`crate::retry`]).

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, local::LocalFileSystem, path::Path};
use url::Url;

use crate::{
    Error, Result, names,
    store::{Listed, Put, Store},
};

use super::{
    folder::{clear_unfinished, make_private, sync_existing},
    listing::{self, Wanted},
    place::Place,
};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine, absolute.
    Directory(PathBuf),
}

impl Location {
    /// Reads what a user writes: a path (made absolute against `current`) or a `file://` URL.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a scheme this version has no driver for.
    pub fn parse(text: &str, current: &std::path::Path) -> Result<Location> {
        let unsupported = |what: String| Error::Unsupported {
            name: text.into(),
            what,
        };
        if let Some((scheme, _)) = text.split_once("://") {
            if scheme != "file" {
                return Err(unsupported(format!("a driver for {scheme}:// repositories")));
            }
            let url = Url::parse(text).map_err(|_| unsupported("a URL that can be read".into()))?;
            let path = url
                .to_file_path()
                .map_err(|()| unsupported("a file:// URL without a host".into()))?;
            return Ok(Location::Directory(path));
        }
        if text.is_empty() {
            return Err(unsupported("a path or URL".into()));
        }
        Ok(Location::Directory(current.join(text)))
    }

    /// The folder of the database `name`. The directory of the repository is made if `create` says so.
    pub fn database(&self, name: &str, create: bool) -> Result<Arc<dyn Store>> {
        let Location::Directory(root) = self;
        let folder = root.join(name);
        if create {
            make_private(&folder).map_err(|source| local("create", &folder, source))?;
        } else {
            // A folder that cannot be looked at is not absent: who believes so makes a second one elsewhere.
            match std::fs::metadata(&folder) {
                Ok(found) if found.is_dir() => check_holds_something(&folder)?,
                Ok(_) => return Err(local("open", &folder, ErrorKind::NotADirectory.into())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::Missing {
                        name: format!("the folder {}", folder.display()),
                    });
                }
                Err(error) => return Err(local("open", &folder, error)),
            }
        }
        let store = LocalFileSystem::new_with_prefix(&folder).map_err(|error| store_error("open", name, error))?;
        Ok(Arc::new(Objects {
            inner: Arc::new(store.with_fsync(true)),
            place: Place::new(folder),
        }))
    }

    /// Names of the folders that hold an `identity`.
    pub fn databases(&self) -> Result<Vec<String>> {
        let Location::Directory(root) = self;
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(local("list", root, error)),
        };
        let mut found_names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| local("list", root, error))?;
            // What cannot be a database's folder, such as `lost+found`, may be closed to us.
            let Some(name) = entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| names::is_database(name))
            else {
                continue;
            };
            match std::fs::metadata(entry.path().join("identity")) {
                Ok(found) if found.is_file() => found_names.push(name),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(local("open", &entry.path(), error)),
            }
        }
        found_names.sort();
        Ok(found_names)
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Location::Directory(path) = self;
        write!(out, "{}", path.display())
    }
}

/// An empty folder is where a file system was, or nothing that anybody made.
fn check_holds_something(folder: &std::path::Path) -> Result<()> {
    let mut entries = std::fs::read_dir(folder).map_err(|source| local("open", folder, source))?;
    match entries.next() {
        Some(_) => Ok(()),
        None => Err(Error::Store {
            operation: "open",
            name: folder.display().to_string(),
            transient: true,
            source: "it is empty: is the file system mounted, and was `lastgood init` run?".into(),
        }),
    }
}

fn local(operation: &'static str, path: &std::path::Path, source: std::io::Error) -> Error {
    Error::Store {
        operation,
        name: path.display().to_string(),
        transient: false,
        source: source.into(),
    }
}

/// A [`Store`] over the `object_store` crate.
pub struct Objects {
    inner: Arc<dyn ObjectStore>,
    /// Where they are on this machine.
    place: Place,
}

fn path(name: &str) -> Path {
    Path::from(name)
}

#[async_trait]
impl Store for Objects {
    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        self.place.check()?;
        match self.inner.put_opts(&path(name), bytes.into(), options).await {
            Ok(_) => self.place.check().map(|()| Put::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // "Exists" promises as much as "created": whoever hears it builds on the object.
                let folder = self.place.folder();
                match sync_existing(folder, name) {
                    Ok(()) => self.place.check().map(|()| Put::Exists),
                    // It went meanwhile: the next attempt finds out what is there now.
                    Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Store {
                        operation: "write",
                        name: name.into(),
                        transient: true,
                        source: "another writer removed what was there".into(),
                    }),
                    Err(error) => Err(local("sync", &folder.join(name), error)),
                }
            }
            Err(error) => Err(store_error("write", name, error)),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let found = match self.inner.get(&path(name)).await {
            Ok(result) if result.meta.size > names::largest(name) => {
                return Err(Error::Damaged {
                    name: name.into(),
                    what: format!("it has {} bytes, more than its kind may have", result.meta.size),
                });
            }
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        self.or_absent(name, found)
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Option<Bytes>> {
        let end = offset.saturating_add(length as u64);
        match self.inner.get_range(&path(name), offset..end).await {
            Ok(bytes) if bytes.len() == length => Ok(Some(bytes)),
            Ok(_) => Err(too_short(name)),
            Err(object_store::Error::NotFound { .. }) => self.place.check().map(|()| None),
            // Drivers say in words of their own that a range lies beyond the end: the size tells.
            Err(error) => match self.head(name).await? {
                None => Ok(None),
                Some(found) if found.size < end => Err(too_short(name)),
                Some(_) => Err(store_error("read", name, error)),
            },
        }
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>> {
        let found = self.inner.head(&path(name)).await;
        Ok(self.or_absent(name, found)?.map(listed))
    }

    async fn list_after(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>> {
        let (folder, wanted) = (self.place.folder().to_owned(), Wanted::new(prefix, after, limit));
        // Thousands of directories may be opened: who beats or streams beside it goes on, as beside the driver's own work.
        let found = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(move || listing::list(&folder, &wanted)).await,
            Err(_) => Ok(listing::list(&folder, &wanted)),
        };
        let found = found.unwrap_or_else(|died| Err(std::io::Error::other(died)));
        let found = found.map_err(|error| Error::Store {
            operation: "list",
            name: prefix.into(),
            transient: !lasting(&error),
            source: error.into(),
        })?;
        self.place.check()?;
        Ok(found)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let gone = self.inner.delete(&path(name)).await;
        self.or_absent(name, gone).map(|_| ())
    }

    async fn clear_unfinished(&self, before_micros: i64) -> Result<u64> {
        let folder = self.place.folder();
        clear_unfinished(folder, before_micros).map_err(|error| local("tidy", folder, error))
    }
}

impl Objects {
    /// What was found, or that nothing is there.
    fn or_absent<T>(&self, name: &str, found: object_store::Result<T>) -> Result<Option<T>> {
        match found {
            Ok(value) => Ok(Some(value)),
            Err(object_store::Error::NotFound { .. }) => self.place.check().map(|()| None),
            Err(error) => Err(store_error("read", name, error)),
        }
    }
}

fn too_short(name: &str) -> Error {
    Error::Damaged {
        name: name.into(),
        what: "it is shorter than recorded".into(),
    }
}

fn listed(meta: object_store::ObjectMeta) -> Listed {
    let modified_micros = meta.last_modified.timestamp_micros();
    Listed {
        name: meta.location.to_string(),
        size: meta.size,
        modified_micros,
    }
}

fn store_error(operation: &'static str, name: &str, error: object_store::Error) -> Error {
    let transient = !lasting(&error);
    Error::Store {
        operation,
        name: name.into(),
        transient,
        source: error.into(),
    }
}

/// Whether asking again is pointless: no room, no right.
fn lasting(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                StorageFull | QuotaExceeded | PermissionDenied | ReadOnlyFilesystem | NotADirectory
            )
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
