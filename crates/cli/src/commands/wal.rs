//! `lastgood wal`: the archive of WAL.

mod accept;
mod called;
mod get;
mod push;
mod receive;

pub(crate) use called::{Caller, end_on_signals};

use crate::{
    Result,
    args::{Wal, WalAct},
    commands::Run,
    output::Outcome,
};

/// Carries out the act.
pub(crate) async fn run(run: &Run, args: Wal) -> Result<Outcome> {
    match args.act {
        WalAct::Receive(args) => receive::run(run, args).await,
        WalAct::Push(args) => push::run(run, args).await,
        WalAct::Get(args) => get::run(run, args).await,
        WalAct::Accept(args) => accept::run(run, args).await,
    }
}
