//! Reads `pg_control`, which the server rewrites in place while we look, and proves with it that the files that are
//! copied are those of the server that began the backup.

use pgformat::control::{self, Control, State};

use crate::{Error, Result, event::Context, server::Started, source::Source};

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

/// Whether the files are those of the server that began the backup: its checkpoint must have arrived in them.
///
/// The system identifier alone says little: a standby, a clone and a restored copy all have it. None of them
/// has a checkpoint at or after the backup's start, on its timeline, and is in production at the same time. Of a standby's
/// backup, any directory of another standby that has come as far would do: its own `pg_control` says where it is consistent.
/// `has_checksums` is what was seen of the server's pages when the backup was planned. That may be hours ago.
pub(super) fn check_begun(control: &Control, generation: u64, has_checksums: bool, begun: &Started) -> Result<()> {
    check_same(control, generation, begun)?;
    check_checksums(control, has_checksums)?;
    if control.checkpoint.redo < begun.start {
        return Err(other_server(format!(
            "the data directory's last checkpoint begins at {}, before the backup's own at {}",
            control.checkpoint.redo, begun.start
        )));
    }
    Ok(())
}

/// Whether `last`, read after all files, still is of the server of which `first` was.
pub(super) fn check_ended(first: &Control, last: &Control, begun: &Started) -> Result<()> {
    check_same(last, first.system_identifier, begun)?;
    check_checksums(last, first.has_checksums())?;
    if last.checkpoint.redo < first.checkpoint.redo {
        return Err(other_server(format!(
            "its last checkpoint went back from {} to {} while files were copied",
            first.checkpoint.redo, last.checkpoint.redo
        )));
    }
    if begun.in_recovery && last.min_recovery_timeline != begun.timeline {
        return Err(Error::Failed {
            code: "timeline-changed",
            what: format!(
                "the standby went from timeline {} to {} during the backup: the server that it follows was promoted",
                begun.timeline, last.min_recovery_timeline
            ),
            hint: "Run CHECKPOINT on the primary, then take the backup again.".into(),
        });
    }
    Ok(())
}

/// Whether it is of that cluster, in the state and on the timeline of the backup.
pub(super) fn check_same(control: &Control, generation: u64, begun: &Started) -> Result<()> {
    if control.system_identifier != generation {
        return Err(other_server(format!(
            "the data directory is of the cluster {}, the server of {generation}",
            control.system_identifier
        )));
    }
    let expected = match begun.in_recovery {
        true => State::InArchiveRecovery,
        false => State::InProduction,
    };
    if begun.in_recovery && control.state == State::InProduction {
        return Err(promoted());
    }
    if control.state != expected {
        return Err(other_server(format!(
            "the data directory's state is \"{}\", not \"{}\"",
            state(control.state),
            state(expected)
        )));
    }
    if control.checkpoint.timeline != begun.timeline {
        return Err(other_server(format!(
            "the data directory is on timeline {}, the backup on {}",
            control.checkpoint.timeline, begun.timeline
        )));
    }
    Ok(())
}

/// Whether pages have checksums, or have none, as they were seen to. By this pages are checked, and by this a parent's pages
/// are kept; a backup must not hold pages of one kind and a `pg_control` that tells of the other.
pub(super) fn check_checksums(control: &Control, expected: bool) -> Result<()> {
    if control.has_checksums() == expected {
        return Ok(());
    }
    let (now, before) = match expected {
        true => ("off", "on"),
        false => ("on", "off"),
    };
    Err(Error::Failed {
        code: "checksums-changed",
        what: format!(
            "page checksums are {now} by the pg_control of the files that are copied, and were {before} when the server was first looked at: pg_checksums ran meanwhile"
        ),
        hint: "Take the backup again.".into(),
    })
}

/// As `pg_controldata` says it.
fn state(state: State) -> &'static str {
    match state {
        State::StartingUp => "starting up",
        State::ShutDown => "shut down",
        State::ShutDownInRecovery => "shut down in recovery",
        State::ShuttingDown => "shutting down",
        State::InCrashRecovery => "in crash recovery",
        State::InArchiveRecovery => "in archive recovery",
        State::InProduction => "in production",
    }
}

/// A standby's files are its own from the promotion on.
pub(super) fn promoted() -> Error {
    Error::Failed {
        code: "standby-promoted",
        what: "the standby whose files are copied was promoted, or the data directory is that of a primary".into(),
        hint: "Take the backup again: of the server as a primary, or of another standby.".into(),
    }
}

fn other_server(found: String) -> Error {
    Error::Failed {
        code: "other-server",
        what: format!("the data directory is not that of the server that began the backup: {found}"),
        hint: "Give the connection string and the data directory of one and the same running server, then take the backup again.".into(),
    }
}

#[cfg(test)]
mod tests {
    use pgformat::{Lsn, Tli};

    use super::*;

    const START: Lsn = Lsn(0x0600_0028);

    fn control() -> Control {
        let fixture = include_bytes!("../../../pgformat/tests/fixtures/pg_control.15");
        let mut control = Control::parse(fixture).unwrap();
        control.state = State::InProduction;
        control.checkpoint.redo = START;
        control
    }

    fn begun() -> Started {
        Started {
            start: START,
            timeline: Tli(1),
            in_recovery: false,
            reached: START,
        }
    }

    fn check(change: impl Fn(&mut Control, &mut Started), expected: Option<&str>) {
        let mut begun = begun();
        let mut found = control();
        change(&mut found, &mut begun);
        let said = check_begun(&found, control().system_identifier, control().has_checksums(), &begun)
            .err()
            .map(|error| error.to_string());
        match (&said, expected) {
            (None, None) => {}
            (Some(said), Some(expected)) if said.contains(expected) => {}
            _ => panic!("{said:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn only_the_directory_that_the_backups_checkpoint_reached_is_copied() {
        check(|_, _| {}, None);
        check(|control, _| control.checkpoint.redo = Lsn(START.0 + 8), None);
        check(
            |control, _| control.checkpoint.redo = Lsn(START.0 - 8),
            Some("before the backup's own"),
        );
        check(|control, _| control.state = State::ShutDown, Some("\"shut down\""));
        check(
            |control, _| control.state = State::InArchiveRecovery,
            Some("in archive recovery"),
        );
        check(|control, _| control.checkpoint.timeline = Tli(2), Some("on timeline 2"));
        check(|control, _| control.system_identifier += 1, Some("of the cluster"));
    }

    #[test]
    fn checksums_that_were_switched_since_the_server_was_looked_at_fail_the_backup() {
        let switch = |control: &mut Control| control.data_checksum_version ^= 1;
        let mut switched = control();
        switch(&mut switched);
        for (seen, found) in [(control(), switched.clone()), (switched, control())] {
            let generation = seen.system_identifier;
            let error = check_begun(&found, generation, seen.has_checksums(), &begun()).unwrap_err();
            let Error::Failed { code, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(*code, "checksums-changed");
            assert!(check_begun(&seen, generation, seen.has_checksums(), &begun()).is_ok());
            assert!(check_ended(&seen, &found, &begun()).is_err());
        }
        check(
            |control, begun| {
                begun.in_recovery = true;
                control.state = State::InArchiveRecovery;
                switch(control);
            },
            Some("pg_checksums ran meanwhile"),
        );
    }

    #[test]
    fn of_a_standby_the_directory_must_be_in_recovery_and_stay_on_its_timeline() {
        let standby = |control: &mut Control, begun: &mut Started| {
            begun.in_recovery = true;
            control.state = State::InArchiveRecovery;
            control.min_recovery_timeline = Tli(1);
        };
        check(standby, None);
        check(|_, begun| begun.in_recovery = true, Some("was promoted"));
        let down = |control: &mut Control, begun: &mut Started| {
            standby(control, begun);
            control.state = State::ShutDownInRecovery;
        };
        check(down, Some("\"shut down in recovery\", not \"in archive recovery\""));
        let behind = |control: &mut Control, begun: &mut Started| {
            standby(control, begun);
            control.checkpoint.redo = Lsn(START.0 - 8);
        };
        check(behind, Some("before the backup's own"));
        let (mut begun, mut last) = (begun(), control());
        standby(&mut last, &mut begun);
        assert!(check_ended(&last, &last, &begun).is_ok());
        let first = last.clone();
        last.min_recovery_timeline = Tli(2);
        let error = check_ended(&first, &last, &begun).unwrap_err();
        assert!(error.to_string().contains("from timeline 1 to 2"), "{error}");
    }

    #[test]
    fn a_directory_that_was_exchanged_during_the_copy_is_noticed() {
        let begun = begun();
        let (first, mut last) = (control(), control());
        assert!(check_ended(&first, &last, &begun).is_ok());
        last.checkpoint.redo = Lsn(START.0 - 8);
        assert!(check_ended(&first, &last, &begun).is_err());
        last = control();
        last.state = State::ShutDown;
        assert!(check_ended(&first, &last, &begun).is_err());
    }
}
