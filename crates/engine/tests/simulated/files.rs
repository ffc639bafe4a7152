//! Files that go while they are read.

use std::{io, sync::Arc, sync::mpsc, time::Duration};

use engine::{
    backup::Summary,
    source::{Names, Source, SourceFile, Stat},
};

use crate::model::{Files, world::World};

/// One that is no relation, and larger than what is read at once.
const LOG: &[u8] = b"pg_xact/0000";
const BYTES: usize = 3 << 20;

/// The model's files, with a larger log, which may go when a MiB of it was read and it is named anew for what follows.
struct WithLog {
    files: Files,
    goes: bool,
}

struct Log {
    stat: Stat,
    goes: bool,
}

fn longer(stat: Stat) -> Stat {
    Stat {
        size: BYTES as u64,
        ..stat
    }
}

impl Source for WithLog {
    fn list(&self, path: &[u8]) -> io::Result<Option<Names>> {
        self.files.list(path)
    }
    fn stat(&self, path: &[u8]) -> io::Result<Option<Stat>> {
        let stat = self.files.stat(path)?;
        Ok(stat.map(|stat| if path == LOG { longer(stat) } else { stat }))
    }
    fn link(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.files.link(path)
    }
    fn open(&self, path: &[u8]) -> io::Result<Option<Box<dyn SourceFile>>> {
        let open = self.files.open(path)?;
        open.map(|file| match path {
            LOG => Ok(Box::new(Log {
                stat: longer(file.stat()?),
                goes: self.goes,
            }) as Box<dyn SourceFile>),
            _ => Ok(file),
        })
        .transpose()
    }
}

impl SourceFile for Log {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.stat)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.goes && offset >= 1 << 20 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let length = buffer.len().min(BYTES.saturating_sub(offset as usize));
        buffer[..length].fill(0x55);
        Ok(length)
    }
}

/// One backup after another; in each the log goes or not.
fn backups(goes: &[bool]) -> Vec<Summary> {
    let world = World::new(1).initialised();
    let take = |(number, goes): (usize, &bool)| {
        let process = world.sim.process("backup");
        let (own, world, goes) = (process.clone(), world.clone(), *goes);
        let taken = world.clone().sim.run_one(&process, async move {
            let files = world.cluster.files().clone();
            let plan = world.cluster.plan_reading(Arc::new(WithLog { files, goes }));
            world
                .carry_out(plan, &own, &world.store.of(&own), &number.to_string())
                .await
        });
        taken.expect("it lives").unwrap()
    };
    let taken = goes.iter().enumerate().map(take).collect();
    assert_eq!(world.judge("at the end").len(), goes.len());
    taken
}

/// Who does not come to an end does not hold up whoever waits for the test.
#[expect(
    clippy::disallowed_methods,
    reason = "workers are waited for, and this one may never come to an end"
)]
fn within_a_minute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(60)).expect("it comes to an end")
}

#[test]
fn a_file_of_no_relation_that_goes_while_it_is_read_is_not_in_the_backup_rather_than_half_of_it() {
    let taken = within_a_minute(|| backups(&[false, true, false, true]));
    let files: Vec<u64> = taken.iter().map(|summary| summary.backup.files).collect();
    assert_eq!(files, [files[0], files[0] - 1, files[0], files[0] - 1]);
    assert!(taken[1..].iter().all(|summary| summary.increment.is_some()));
    assert!(taken[0].backup.bytes - taken[1].backup.bytes == BYTES as u64);

    let alone = within_a_minute(|| backups(&[true]));
    assert_eq!(alone[0].backup.files, files[0] - 1);
    assert_eq!(alone[0].backup.bytes, taken[1].backup.bytes);
}
