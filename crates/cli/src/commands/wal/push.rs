//! `lastgood wal push`: archive_command.

use engine::archive::push::{self, Request};

use crate::{Result, args::WalPush, commands::Run, output::Outcome};

/// Segments are stored in order: while two are made ready, as a rule one waits for its turn or for the disk. More of them
/// seldom help a server that writes WAL meanwhile, and take 12 MiB each.
const JOBS_DEFAULT: u16 = 3;

/// Stores the file. Success is silent: what is said goes to the server's log.
pub(crate) async fn run(run: &Run, args: WalPush) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let request = Request {
        path: run.current.join(args.path),
        current: run.current.clone(),
        jobs: usize::from(args.jobs.or(target.entry.jobs).unwrap_or(JOBS_DEFAULT)),
    };
    let repository = engine::database::folder(&run.context, &target.database()?).await?;
    let pushed = push::run(&run.context, &repository, &request).await?;
    Ok(Outcome::new(pushed, ""))
}
