//! The verbs. Each reads like its procedure; the work is the engines'.

mod backup;
mod completions;
mod demo;
mod doctor;
mod init;
mod list;
mod point;
mod restore;
mod show;
mod status;
mod verify;
pub(crate) mod wal;
mod window;

use std::{path::PathBuf, sync::Arc};

use engine::event::Context;

use crate::{
    Error, Result,
    args::{Command, Global},
    config::{self, Config, Many, Target},
    output::Outcome,
    progress::Progress,
};

/// What every command has at hand.
pub(crate) struct Run {
    /// For the engines.
    pub(crate) context: Context,
    /// Standard error, and the warnings.
    pub(crate) progress: Arc<Progress>,
    /// The flags of every command.
    pub(crate) global: Global,
    /// Where the command was called.
    pub(crate) current: PathBuf,
}

impl Run {
    /// Brings together what a command needs.
    pub(crate) fn new(context: Context, progress: Arc<Progress>, global: Global) -> Result<Run> {
        let current = std::env::current_dir()
            .map_err(|error| Error::file("find", std::path::Path::new("the current directory"), error))?;
        Ok(Run {
            context,
            progress,
            global,
            current,
        })
    }

    /// The configuration, or an empty one.
    pub(crate) fn config(&self) -> Result<Config> {
        Config::load(self.global.config.as_deref(), &self.current)
    }

    /// The one database that `word` means.
    pub(crate) fn target(&self, word: Option<&str>) -> Result<Target> {
        config::one(&self.global, &self.config()?, word, &self.current)
    }

    /// All databases that `word`, or no word, means.
    pub(crate) fn targets(&self, word: Option<&str>) -> Result<Vec<Target>> {
        config::resolve(&self.global, &self.config()?, word, Many::All, &self.current)
    }

    /// A path of the command line: relative ones count from where the command was called.
    pub(crate) fn absolute(&self, path: Option<PathBuf>) -> Option<PathBuf> {
        path.map(|path| self.current.join(path))
    }

    /// Shows text for people at once; for programs there is only the document at the end.
    pub(crate) fn say(&self, text: &str) {
        if !self.global.json {
            // A reader that is gone is no reason to stop the work.
            drop(self.progress.say(text));
        }
    }
}

/// Carries out a command.
pub(crate) async fn carry_out(run: &Run, command: Command) -> Result<Outcome> {
    match command {
        Command::Init(args) => init::run(run, args).await,
        Command::Doctor(args) => doctor::run(run, args).await,
        Command::Backup(args) => backup::run(run, args).await,
        Command::List(args) => list::run(run, &args).await,
        Command::Show(args) => show::run(run, &args).await,
        Command::Status(args) => status::run(run, &args).await,
        Command::Restore(args) => restore::run(run, args).await,
        Command::Verify(args) => verify::run(run, args).await,
        Command::Window(args) => window::run(run, &args).await,
        Command::Point(args) => point::run(run, &args).await,
        Command::Wal(args) => wal::run(run, args).await,
        Command::Demo(args) => demo::run(run, args).await,
        Command::Completions(args) => Ok(completions::run(&args)),
    }
}

/// The most workers taken without being asked: more of them seldom help and each takes memory.
const JOBS_DEFAULT_MAX: usize = 4;

/// How many workers: what was said, else the cores up to a bound.
pub(crate) fn jobs(flag: Option<u16>, entry: Option<u16>) -> usize {
    let cores = || {
        std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(JOBS_DEFAULT_MAX)
    };
    flag.or(entry).map_or_else(cores, usize::from)
}
