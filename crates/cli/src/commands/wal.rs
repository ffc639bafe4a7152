//! `lastgood wal`: the continuous archive of WAL.

mod receive;

use crate::{
    Result,
    args::{Wal, WalVerb},
    commands::Run,
    output::Outcome,
};

/// Does what was asked.
pub(crate) async fn run(run: &Run, args: Wal) -> Result<Outcome> {
    match args.verb {
        WalVerb::Receive(args) => receive::run(run, args).await,
    }
}
