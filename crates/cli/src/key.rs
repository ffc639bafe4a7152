//! Keys and passphrases on this machine: made once, readable by their owner alone, never on a command line.

use std::{
    io::{BufRead, IsTerminal, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
    process::{Command, Stdio},
};

use engine::repo::keys::Unlock;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Longer is no key and no passphrase.
const SIZE_MAX: u64 = 64 << 10;

/// Reads a key file that only its owner can read.
pub(crate) fn read(path: &Path) -> Result<Unlock> {
    Ok(Unlock::parse_key_file(&read_private(path)?)?)
}

/// Makes a key file, whole or not at all, or reads the one that an earlier `init` made.
/// The answer says whether it is new.
pub(crate) fn read_or_create(path: &Path, database: &str) -> Result<(Unlock, bool)> {
    if path.exists() {
        return Ok((read(path)?, false));
    }
    let (text, _) = Unlock::generate(database);
    create(path, text.as_bytes()).map_err(|error| Error::file("write", path, error))?;
    // What counts is what is in the file, should somebody else have been quicker.
    Ok((read(path)?, true))
}

/// Written beside, then linked: a crash leaves no half a key, and a file that exists is never written over.
fn create(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folder(folder)?;
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.error),
        _ => {}
    }
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a directory, and those above it, that only its owner may enter.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The passphrase on the first line of a file that only its owner can read.
pub(crate) fn passphrase_of_file(path: &Path) -> Result<SecretString> {
    first_line(&read_private(path)?, &path.display().to_string())
}

/// The passphrase on the first line of what a program prints.
pub(crate) fn passphrase_of_command(command: &[String]) -> Result<SecretString> {
    let (program, arguments) = command.split_first().ok_or_else(|| {
        Error::usage(
            "`passphrase_command` is empty",
            "Write the program and its arguments as a list.",
        )
    })?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::file("run", Path::new(program), error))?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(Error::refused(
            "passphrase-command",
            format!("the passphrase command {program} failed ({})", output.status),
            "Run it by hand to see why.",
        ));
    }
    first_line(&String::from_utf8_lossy(&printed), program)
}

/// Asks for the passphrase, where there is somebody to ask.
pub(crate) fn ask_passphrase(prompt: &str) -> Result<SecretString> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Error::usage(
            "no key is given",
            "Add --key-file or --passphrase-file, or `key` or `passphrase_file` to the configuration.",
        ));
    }
    let terminal = |error: std::io::Error| Error::file("read from", Path::new("the terminal"), error);
    write!(stderr, "{prompt}")
        .and_then(|()| stderr.flush())
        .map_err(terminal)?;
    let shown = rustix::termios::tcgetattr(&stdin).map_err(|error| terminal(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
    let set = |attributes| rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, attributes);
    let _open = crate::prompt::open(Some(shown.clone()));
    set(&hidden).map_err(|error| terminal(error.into()))?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().take(SIZE_MAX).read_line(&mut line);
    set(&shown).map_err(|error| terminal(error.into()))?;
    writeln!(stderr).map_err(terminal)?;
    read.map_err(terminal)?;
    first_line(&line, "the terminal")
}

fn first_line(text: &str, place: &str) -> Result<SecretString> {
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
        _ => Err(Error::refused(
            "passphrase-empty",
            format!("there is no passphrase in {place}"),
            "Write it as the first line.",
        )),
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Error::not_found(
                format!("there is no key or passphrase file {}", path.display()),
                "Check `key` in the configuration, or --key-file; copy the file back from where you keep its copy.",
            );
        }
        Error::file("read", path, error)
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::refused(
            "key-readable-by-others",
            format!("{} can be read by others (mode {mode:04o})", path.display()),
            format!("Run `chmod 600 {}`.", path.display()),
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SIZE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_key_is_for_its_owner_alone_and_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/shop.key");
        assert!(read_or_create(&path, "shop").unwrap().1);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let text = std::fs::read(&path).unwrap();
        create(&path, b"other").unwrap();
        assert!(!read_or_create(&path, "shop").unwrap().1);
        assert_eq!(std::fs::read(&path).unwrap(), text);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.key");
        read_or_create(&path, "shop").unwrap();
        for bits in [0o640, 0o604, 0o620, 0o644] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.code(), "key-readable-by-others", "{bits:o}");
            assert!(error.hint().unwrap().contains("chmod 600"));
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_a_file_or_of_what_a_program_prints() {
        let command =
            |words: &[&str]| passphrase_of_command(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(command(&["printf", "a b\\nc\\n"]).unwrap().expose_secret(), "a b");
        assert_eq!(command(&["false"]).unwrap_err().code(), "passphrase-command");
        assert_eq!(command(&["true"]).unwrap_err().code(), "passphrase-empty");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phrase");
        create(&path, b"correct horse\n").unwrap();
        assert_eq!(passphrase_of_file(&path).unwrap().expose_secret(), "correct horse");
        assert_eq!(
            passphrase_of_file(&folder.path().join("none")).unwrap_err().code(),
            "not-found"
        );
    }
}
