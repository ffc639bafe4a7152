//! `lastgood`: brings a PostgreSQL database back to its last good moment, and proves every day that it can.
//!
//! The order of a run: read the command line, read the configuration, carry out the command, show what
//! came of it, end with the exit code that belongs to it.

mod args;
mod commands;
mod config;
mod error;
mod exit;
mod host;
mod key;
mod output;
mod progress;
mod prompt;
mod render;
mod signals;
mod usage;

use std::{process::ExitCode, sync::Arc, time::Duration};

use engine::event::{Context, Stop};

pub(crate) use crate::error::{Error, Result};
use crate::{
    args::{Args, Command, Wal, WalAct},
    commands::{
        Run,
        wal::{Caller, end_on_signals},
    },
    exit::Exit,
    output::{Outcome, Problem, show, show_line},
    progress::Progress,
    signals::Caught,
};

/// How long workers may take to notice that everything is over. Ending without them is safe, too.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    ExitCode::from(match Caller::of_process() {
        Some(caller) => caller.code(end),
        None => end().code(),
    })
}

fn end() -> Exit {
    match usage::parse() {
        Ok(args) => run(args),
        Err(exit) => exit,
    }
}

fn run(args: Args) -> Exit {
    let (command, json) = (args.command.name(), args.global.json);
    let progress = Arc::new(Progress::new(args.global.progress, json));
    let caller = Caller::of_process();
    give_way(&args.command);
    let tokio = match runtime(&args.command).enable_all().build() {
        Ok(tokio) => tokio,
        Err(error) => {
            let error = Error::file("start", std::path::Path::new("worker threads"), error);
            return show(command, json, Err(Problem::of(&error, Exit::Failed)), &[]);
        }
    };
    let (result, caught) = tokio.block_on(carry_out(args, caller, Arc::clone(&progress)));
    progress.finish();
    let result = result.map_err(|error| Problem::of(&error, caught.exit()));
    let exit = match caller {
        Some(_) if !json => show_line(command, result),
        _ => show(command, json, result, &progress.warnings()),
    };
    // Workers that are still at it would panic on a timer that is gone; they end with the process.
    std::mem::forget(tokio);
    exit
}

/// How much less of the processors a backup gets than the server beside it, where both want them: as `nice` counts.
const NICER: i32 = 10;

/// Before any thread begins: each has the niceness of the one that made it.
fn give_way(command: &Command) {
    if matches!(command, Command::Backup(_)) {
        // Where it is not allowed, the backup goes on as it is.
        let _ = rustix::process::nice(NICER);
    }
}

/// Threads of a receiver beside its own: one finishes segments, the others read and write files for both. Each keeps for
/// itself the memory of the longest object that it ever held.
const RECEIVER_THREADS: usize = 3;

/// What receives WAL runs for months and stays small. What servers call for every segment leaves them their threads.
fn runtime(command: &Command) -> tokio::runtime::Builder {
    let Command::Wal(Wal { act }) = command else {
        return tokio::runtime::Builder::new_multi_thread();
    };
    let mut one = tokio::runtime::Builder::new_current_thread();
    if matches!(act, WalAct::Receive(_)) {
        one.max_blocking_threads(RECEIVER_THREADS);
    }
    one
}

async fn carry_out(args: Args, caller: Option<Caller>, progress: Arc<Progress>) -> (Result<Outcome>, Caught) {
    let stop = Stop::default();
    let listening = match caller {
        // Recoveries are ended by the signal itself: the server knows it for a stop.
        Some(Caller::Recovery) => Ok(Caught::default()),
        Some(caller) => end_on_signals(caller).map(|()| Caught::default()),
        None => signals::listen(stop.clone(), Arc::clone(&progress)),
    };
    let caught = match listening {
        Ok(caught) => caught,
        Err(error) => {
            let error = Error::file("listen for", std::path::Path::new("signals"), error);
            return (Err(error), Caught::default());
        }
    };
    let (runtime, jobs) = host::runtime(tokio::runtime::Handle::current());
    let context = Context {
        runtime,
        observer: Arc::clone(&progress) as Arc<dyn engine::event::Observer>,
        stop,
    };
    let result = match Run::new(context, progress, args.global) {
        Ok(run) => commands::carry_out(&run, args.command).await,
        Err(error) => Err(error),
    };
    jobs.ended(PATIENCE).await;
    (result, caught)
}
