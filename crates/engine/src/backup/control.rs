//! Reads `pg_control`, which the server rewrites in place while we look.

use pgformat::control::{self, Control};

use crate::{Error, Result, event::Context, source::Source};

use super::walk::unreadable;

const PATH: &[u8] = b"global/pg_control";
/// A write of the file takes microseconds; that many reads torn in a row mean damage.
const TRIES: usize = 20;

/// The file's bytes and what they say, once its CRC fits: a torn read is read again.
pub(super) async fn read(context: &Context, source: &dyn Source) -> Result<(Vec<u8>, Control)> {
    let mut last = None;
    for _ in 0..TRIES {
        let file = source.open(PATH).map_err(|error| unreadable(PATH, error))?;
        let file = file.ok_or_else(|| unreadable(PATH, std::io::ErrorKind::NotFound.into()))?;
        let mut bytes = vec![0; control::FILE_BYTES];
        let got = file.read_at(&mut bytes, 0).map_err(|error| unreadable(PATH, error))?;
        bytes.truncate(got);
        match Control::parse(&bytes) {
            Ok(control) => return Ok((bytes, control)),
            Err(error) => last = Some(error),
        }
        context.runtime.clock.sleep(std::time::Duration::from_millis(10)).await;
    }
    let why = last.map_or_else(String::new, |error| format!(": {error}"));
    Err(Error::Failed {
        code: "control-damaged",
        what: format!("global/pg_control could not be read whole {TRIES} times{why}"),
        hint: "Check the server with pg_controldata; it does not start again from a damaged pg_control.".into(),
    })
}
