//! The commands and the flags of each.

use std::path::PathBuf;

use engine::restore::At;

use super::{
    values::{Compression, Difference, Named, Reader, Renamed, VerifyLevel, parse_rate},
    wal::Wal,
};

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a repository, its key and the configuration
    Init(Init),
    /// Say what can be protected and how well, and what mends the rest
    Doctor(Doctor),
    /// Back up a running server
    Backup(Backup),
    /// List the backups
    List(List),
    /// Show one backup in full
    Show(Show),
    /// Say in one screen how well each database is protected
    Status(Status),
    /// Bring a database back, into a new directory
    Restore(Restore),
    /// Prove that a backup can be restored
    Verify(Verify),
    /// Show to which moments a database can be brought back
    Window(Window),
    /// Give the present moment a name to go back to
    Point(Point),
    /// Archive WAL, and deliver it to recoveries
    Wal(Wal),
    /// Tell the whole story on a cluster that is made and removed
    Demo(Demo),
    /// Print a completion script
    #[command(hide = true)]
    Completions(Completions),
}

impl Command {
    /// The word that was typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "init",
            Command::Doctor(_) => "doctor",
            Command::Backup(_) => "backup",
            Command::List(_) => "list",
            Command::Show(_) => "show",
            Command::Status(_) => "status",
            Command::Restore(_) => "restore",
            Command::Verify(_) => "verify",
            Command::Window(_) => "window",
            Command::Point(_) => "point",
            Command::Wal(wal) => wal.name(),
            Command::Demo(_) => "demo",
            Command::Completions(_) => "completions",
        }
    }
}

/// `lastgood init`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --database the server is looked for on this machine. Without --repository\n\
    backups go to /var/lib/lastgood (root) or ~/lastgood.\n\nExamples:\n  \
    lastgood init --repository /srv/backups\n  \
    lastgood init --repository /srv/backups --database shop='host=db1 user=backup'\n  \
    lastgood init --repository /srv/backups --passphrase-file /etc/lastgood/phrase"
)]
pub(crate) struct Init {
    /// A database to protect and how to reach its server; may be repeated
    #[arg(long = "database", value_name = "NAME=CONNINFO")]
    pub(crate) databases: Vec<Named>,
}

/// `lastgood window`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood window\n  lastgood window shop --json")]
pub(crate) struct Window {
    /// A configured database; all of them if not given
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
}

/// `lastgood point`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Here --name is the name of the moment, at most 63 bytes.\n\nExamples:\n  \
    lastgood point shop --name 'before the upgrade'\n  \
    lastgood restore shop --to /restored --at 'name:before the upgrade'"
)]
pub(crate) struct Point {
    /// A configured database or a connection string
    #[arg(value_name = "NAME|CONNINFO")]
    pub(crate) target: Option<String>,
}

/// `lastgood doctor`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood doctor\n  lastgood doctor shop\n  \
    lastgood doctor 'host=db1 user=postgres'\n  lastgood doctor 'host=db1 user=backup' --reader sql")]
pub(crate) struct Doctor {
    /// A configured database or a connection string; all of them if not given
    #[arg(value_name = "NAME|CONNINFO")]
    pub(crate) target: Option<String>,
    /// The directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "LASTGOOD_POSTGRES", hide_env = true)]
    pub(crate) postgres: Option<PathBuf>,
    /// How the server's files are read: local, or sql where this machine does not see them [default: local]
    #[arg(
        long,
        value_name = "HOW",
        env = "LASTGOOD_READER",
        hide_env = true,
        hide_possible_values = true
    )]
    pub(crate) reader: Option<Reader>,
    /// Where the server's (with --standby, the standby's) data directory is on this machine [default: where the server says]
    #[arg(long, value_name = "DIR", env = "LASTGOOD_DATA_DIRECTORY", hide_env = true)]
    pub(crate) data_directory: Option<PathBuf>,
    /// Read tables and indexes from this standby of the server; all else stays the server's
    #[arg(long, value_name = "CONNINFO", env = "LASTGOOD_STANDBY", hide_env = true)]
    pub(crate) standby: Option<String>,
}

/// `lastgood backup`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lastgood backup shop\n  lastgood backup shop --label 'before the migration'\n  \
    lastgood backup 'host=/run/postgresql' --repository /srv/backups --key-file shop.key\n  \
    lastgood backup shop --reader sql\n  \
    lastgood backup shop --standby 'host=/run/postgresql'"
)]
pub(crate) struct Backup {
    /// A configured database or a connection string
    #[arg(value_name = "NAME|CONNINFO")]
    pub(crate) target: Option<String>,
    /// Words to find this backup by
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// Store every page [default: what changed since the backup before, where there is a sound one]
    #[arg(long, conflicts_with_all = ["incremental", "rebase"])]
    pub(crate) full: bool,
    /// Store what changed since the backup before, or fail
    #[arg(long)]
    pub(crate) incremental: bool,
    /// Store anew what lies in objects of which little else is used, all of it at once
    #[arg(long)]
    pub(crate) rebase: bool,
    /// Store changed pages as differences from what they were: auto, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) difference: Difference,
    /// Of the pages that the WAL says are unchanged, how many of a hundred are read and compared all the same
    #[arg(long, value_name = "PERCENT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) audit: u8,
    /// Compression: none, or zstd's level 1..19, or -1..-7, which are faster [default: 2]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "LASTGOOD_COMPRESS",
        hide_env = true,
        allow_negative_numbers = true
    )]
    pub(crate) compress: Option<Compression>,
    /// Workers side by side [default: the cores, at most 4]
    #[arg(long, value_name = "N", env = "LASTGOOD_JOBS", hide_env = true, value_parser = jobs())]
    pub(crate) jobs: Option<u16>,
    /// The most bytes to read in a second, such as 50M or 1G
    #[arg(long, value_name = "RATE", env = "LASTGOOD_MAX_RATE", hide_env = true, value_parser = parse_rate)]
    pub(crate) max_rate: Option<u64>,
    /// How the server's files are read: local, or sql where this machine does not see them [default: local]
    #[arg(
        long,
        value_name = "HOW",
        env = "LASTGOOD_READER",
        hide_env = true,
        hide_possible_values = true
    )]
    pub(crate) reader: Option<Reader>,
    /// Where the server's (with --standby, the standby's) data directory is on this machine [default: where the server says]
    #[arg(long, value_name = "DIR", env = "LASTGOOD_DATA_DIRECTORY", hide_env = true)]
    pub(crate) data_directory: Option<PathBuf>,
    /// Read tables and indexes from this standby of the server; all else stays the server's
    #[arg(long, value_name = "CONNINFO", env = "LASTGOOD_STANDBY", hide_env = true)]
    pub(crate) standby: Option<String>,
}

/// `lastgood list`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood list\n  lastgood list shop --json")]
pub(crate) struct List {
    /// A configured database; all of them if not given
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
}

/// `lastgood show`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood show 20261120T143000Z-7f3k9q\n  \
    lastgood show 20261120T143000Z-7f3k9q --name shop --json")]
pub(crate) struct Show {
    /// A backup's id, as `lastgood list` shows it
    #[arg(value_name = "BACKUP")]
    pub(crate) backup: String,
}

/// `lastgood status`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood status\n  lastgood status shop --json")]
pub(crate) struct Status {
    /// A configured database; all of them if not given
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
}

/// `lastgood restore`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The directory must be new or empty: a restore never writes over anything.\n\nExamples:\n  \
    lastgood restore shop --to /srv/shop-restored --plan\n  \
    lastgood restore shop --to /srv/shop-restored --start --port 5433\n  \
    lastgood restore shop --to /srv/old --at backup:20261120T143000Z-7f3k9q"
)]
pub(crate) struct Restore {
    /// A configured database
    #[arg(value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// The new data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// DIR may hold an older state of this cluster, or a restore that was cut off: only pages that differ are written,
    /// and what the backup does not have is removed. Never onto a running server
    #[arg(long)]
    pub(crate) delta: bool,
    /// Which moment: latest, a time with its zone, "5 minutes ago", lsn:X/Y, xid:N, before-xid:N, name:POINT,
    /// or backup:ID for the end of that backup
    #[arg(long, value_name = "WHEN", default_value = "latest")]
    pub(crate) at: At,
    /// The timeline, where the moment is on more than one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeline: Option<u32>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Workers side by side [default: the cores, at most 4]
    #[arg(long, value_name = "N", env = "LASTGOOD_JOBS", hide_env = true, value_parser = jobs())]
    pub(crate) jobs: Option<u16>,
    /// Put the tablespace that was in OLD into NEW; may be repeated
    #[arg(long = "tablespace", value_name = "OLD=NEW")]
    pub(crate) tablespaces: Vec<Renamed>,
    /// Start the server and wait until it is open
    #[arg(long)]
    pub(crate) start: bool,
    /// The port of the started server [default: 5432]
    #[arg(long, value_name = "PORT", requires = "start", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// The directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "LASTGOOD_POSTGRES", hide_env = true)]
    pub(crate) postgres: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `lastgood verify`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Levels:\n  objects  every object is there and intact (needs no decryption)\n  \
    pages    every page is opened and compared with its hash\n  \
    restore  restored, recovered, checked by PostgreSQL itself in a scratch server\n\nExamples:\n  \
    lastgood verify shop\n  lastgood verify shop --level restore"
)]
pub(crate) struct Verify {
    /// A configured database (its newest backup) or a backup's id
    #[arg(value_name = "NAME|BACKUP")]
    pub(crate) target: Option<String>,
    /// How thoroughly
    #[arg(long, value_name = "LEVEL", default_value = "pages")]
    pub(crate) level: VerifyLevel,
    /// Workers side by side [default: the cores, at most 4]
    #[arg(long, value_name = "N", env = "LASTGOOD_JOBS", hide_env = true, value_parser = jobs())]
    pub(crate) jobs: Option<u16>,
    /// Where a scratch server may be made [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", env = "LASTGOOD_SCRATCH", hide_env = true)]
    pub(crate) scratch: Option<PathBuf>,
    /// The directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "LASTGOOD_POSTGRES", hide_env = true)]
    pub(crate) postgres: Option<PathBuf>,
}

/// `lastgood demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lastgood demo\n  lastgood demo --megabytes 50 --progress none")]
pub(crate) struct Demo {
    /// How much data to load, about
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) megabytes: u32,
    /// Where the demo makes its own temporary directory [default: the system's]
    #[arg(long, value_name = "DIR", env = "LASTGOOD_SCRATCH", hide_env = true)]
    pub(crate) scratch: Option<PathBuf>,
    /// The directory of PostgreSQL's programs
    #[arg(long, value_name = "DIR", env = "LASTGOOD_POSTGRES", hide_env = true)]
    pub(crate) postgres: Option<PathBuf>,
}

/// `lastgood completions`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Whose
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// The most workers that make sense on one machine; more would only take memory (32 MiB each).
const JOBS_MAX: i64 = 64;

pub(super) fn jobs() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=JOBS_MAX)
}
