//! Which cluster a command of the server is about: its data directory is where the command is called, or above the
//! directory of the file that it names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pgformat::control::Control;

use crate::{Error, Result, error::At as _, event::Context};

/// A server rewrites the file in microseconds; that many reads torn in a row mean damage.
const TRIES: usize = 20;

/// The `pg_control` of the server that names `file` in its `pg_wal`; `None` if there is none.
///
/// `current` is the directory in which the command was called; servers call it in their data directory.
pub(super) async fn control(context: &Context, file: &Path, current: &Path) -> Result<Option<Control>> {
    let above = file.parent().and_then(Path::parent).map(Path::to_path_buf);
    for directory in above.into_iter().chain([current.to_path_buf()]) {
        let path = directory.join("global/pg_control");
        if let Some(control) = read(context, &path).await? {
            return Ok(Some(control));
        }
    }
    Ok(None)
}

async fn read(context: &Context, path: &PathBuf) -> Result<Option<Control>> {
    let mut why = String::new();
    for _ in 0..TRIES {
        let bytes = match fs::read(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            read => read.at("read", path)?,
        };
        match Control::parse(&bytes) {
            Ok(control) => return Ok(Some(control)),
            Err(error) => why = error.to_string(),
        }
        context.runtime.clock.sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(Error::Failed {
        code: "control-damaged",
        what: format!("{} could not be read whole {TRIES} times: {why}", path.display()),
        hint: "Check the server with pg_controldata; it does not start again from a damaged pg_control.".into(),
    })
}

/// What to do where no data directory tells the cluster.
pub(super) fn no_cluster(what: &str) -> Error {
    Error::Refused {
        code: "no-data-directory",
        what: format!("which cluster {what} is of is not known: there is no global/pg_control here"),
        hint: "Run the command in the server's data directory, as archive_command and restore_command are.".into(),
    }
}
