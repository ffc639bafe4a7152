//! `lastgood wal`: the continuous archive of WAL.

use std::time::Duration;

use clap::builder::BoolishValueParser;

use super::values::parse_interval;

/// `lastgood wal`
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  lastgood wal receive shop\n  lastgood wal receive shop --seal-interval 10s"
)]
pub(crate) struct Wal {
    #[command(subcommand)]
    pub(crate) verb: WalVerb,
}

/// What to do with WAL.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum WalVerb {
    /// Receive WAL as the server writes it, until stopped
    Receive(WalReceive),
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
