//! Adds a section to the configuration as text: what is there keeps every byte, comments included.

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use super::Entry;
use crate::{Error, Result};

/// Appends `[database.NAME]` to the file at `path`, which is made if it does not exist.
///
/// The file is replaced whole, so that a crash leaves the old or the new one; it is read back through
/// the strict reader first, so that what is written is what will be understood.
pub(crate) fn append(path: &Path, name: &str, entry: &Entry) -> Result<()> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file("read", path, error)),
    };
    let text = format!("{before}{}{}", separator(&before), section(name, entry));
    let read = super::strict::parse(&text, path)?;
    debug_assert_eq!(read.databases.get(name), Some(entry));
    replace(path, &text).map_err(|error| Error::file("write", path, error))
}

fn separator(before: &str) -> &'static str {
    match before {
        "" => "# Settings of lastgood; what each means: docs/guide.md.\n\n",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    }
}

fn section(name: &str, entry: &Entry) -> String {
    let mut text = format!("[database.{}]\n", key(name));
    let mut line = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {}\n", quote(&value)));
        }
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    line("repository", Some(entry.repository.clone()));
    line("id", entry.id.clone());
    line("key", path(&entry.key));
    line("passphrase_file", path(&entry.passphrase_file));
    line("server", entry.server.clone());
    text
}

/// As TOML writes a key: a name with a dot would mean two keys.
fn key(name: &str) -> String {
    if name.contains('.') { quote(name) } else { name.into() }
}

/// As TOML writes a text; the library knows what must be escaped.
fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    crate::key::make_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = std::fs::metadata(path) {
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
        // As root we would take the file away from whoever owns it.
        std::os::unix::fs::fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}
