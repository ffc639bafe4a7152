//! `lastgood wal` and its acts.

use std::{path::PathBuf, time::Duration};

use clap::builder::BoolishValueParser;
use engine::archive::get::Until;

use super::values::parse_interval;

/// `lastgood wal`
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  lastgood wal receive shop\n  \
    lastgood wal push pg_wal/000000010000000000000003 shop\n  \
    lastgood wal get 000000010000000000000003 pg_wal/RECOVERYXLOG shop"
)]
pub(crate) struct Wal {
    #[command(subcommand)]
    pub(crate) act: WalAct,
}

impl Wal {
    /// The words that were typed.
    pub(crate) fn name(&self) -> &'static str {
        match self.act {
            WalAct::Receive(_) => "wal receive",
            WalAct::Push(_) => "wal push",
            WalAct::Get(_) => "wal get",
            WalAct::Accept(_) => "wal accept",
        }
    }
}

/// What is done with WAL.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WalAct {
    /// Receive WAL as the server writes it, until stopped
    Receive(WalReceive),
    /// Store a file of WAL; for archive_command
    Push(WalPush),
    /// Deliver a file of WAL; for restore_command
    Get(WalGet),
    /// Say that a timeline goes on though another one left it
    Accept(WalAccept),
}

/// `lastgood wal push`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "In postgresql.conf:\n  archive_command = 'lastgood wal push %p shop'\n\n\
    Ends with 0 once the file is durable in the repository, else with 1: the server\n\
    keeps it and asks again. Further segments that wait are stored by the same call.\n\nExamples:\n  \
    lastgood wal push %p shop\n  lastgood wal push pg_wal/000000010000000000000003 shop --jobs 1"
)]
pub(crate) struct WalPush {
    /// The file, %p of archive_command
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// A configured database
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Workers side by side, where several segments wait [default: 3]
    #[arg(long, value_name = "N", env = "LASTGOOD_JOBS", hide_env = true, value_parser = super::acts::jobs())]
    pub(crate) jobs: Option<u16>,
}

/// `lastgood wal get`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "In postgresql.conf:\n  restore_command = 'lastgood wal get %f %p shop'\n\n\
    Ends with 0 if the file was delivered whole, with 1 if it is proven that there is\n\
    none, else with 200: the server must not open over a gap. Segments fetched ahead\n\
    wait in pg_wal/lastgood-ahead; after a recovery that directory may be removed.\n\nExamples:\n  \
    lastgood wal get %f %p shop\n  lastgood wal get %f %p shop --until 1:0/5000098"
)]
pub(crate) struct WalGet {
    /// The file's name, %f of restore_command
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Where to put it, %p of restore_command
    #[arg(value_name = "PATH")]
    pub(crate) to: PathBuf,
    /// A configured database
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// The planned end of the recovery: up to there WAL must be whole, and none after it is given
    #[arg(long, value_name = "TIMELINE:LSN")]
    pub(crate) until: Option<Until>,
    /// Fetch the segments after it, ahead of the server
    #[arg(long, hide = true)]
    pub(crate) ahead: bool,
}

/// `lastgood wal accept`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where timeline 2 left timeline 1, a server that still writes timeline 1 past that\n\
    place is refused (`timeline-behind`): it may be an old primary that came back. If it\n\
    is the one that counts, because somebody recovered a copy of it that archived its\n\
    history here, `accept 1` says so, and its WAL is taken again. The word is kept in the\n\
    ledger. It is about the timelines that left until now, not about later ones.\n\nExamples:\n  \
    lastgood wal accept 1 shop\n  lastgood wal accept 3"
)]
pub(crate) struct WalAccept {
    /// The timeline that goes on, in decimal
    #[arg(value_name = "TIMELINE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeline: u32,
    /// A configured database
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
}

/// `lastgood wal receive`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It goes on where the repository's WAL ends, and acknowledges only what is stored.\n\
    Lost connections are waited out. SIGTERM and SIGINT end it in order, with code 0.\n\nExamples:\n  \
    lastgood wal receive shop\n  lastgood wal receive shop --slot backup1 --seal-interval 10s\n  \
    lastgood wal receive 'host=db1,db2 user=backup' --repository /srv/backups"
)]
pub(crate) struct WalReceive {
    /// A configured database or a connection string
    #[arg(value_name = "NAME|CONNINFO")]
    pub(crate) target: Option<String>,
    /// The replication slot [default: lastgood_ and the database's name]
    #[arg(long, value_name = "NAME", env = "LASTGOOD_SLOT", hide_env = true)]
    pub(crate) slot: Option<String>,
    /// Use no slot: what the server recycles meanwhile is lost
    #[arg(long, conflicts_with_all = ["slot", "slot_unlimited"])]
    pub(crate) no_slot: bool,
    /// Make the slot though it may fill the server's disk
    #[arg(long, env = "LASTGOOD_SLOT_UNLIMITED", hide_env = true, value_parser = BoolishValueParser::new())]
    pub(crate) slot_unlimited: bool,
    /// How long a commit may wait to be stored, such as 500ms
    #[arg(
        long,
        value_name = "TIME",
        env = "LASTGOOD_SEAL_INTERVAL",
        hide_env = true,
        value_parser = parse_interval,
        default_value = "1s"
    )]
    pub(crate) seal_interval: Duration,
}
