//! What can be typed: one definition per flag, from which the flag, its variable and its help come.
//!
//! Settings have a `LASTGOOD_*` variable. What belongs to one act alone (`--to`, `--yes`, `--plan`) has none:
//! a variable forgotten in a profile must not confirm a question.

mod acts;
mod values;
mod wal;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;

pub(crate) use acts::{
    Backup, Command, Completions, Demo, Doctor, Init, List, Point, Restore, Show, Status, Verify, Window,
};
pub(crate) use values::{Compression, Mode, Reader, VerifyLevel, check_name, is_conninfo, parse_rate};
pub(crate) use wal::{Wal, WalAccept, WalAct, WalGet, WalPush, WalReceive};

/// Brings a PostgreSQL database back to its last good moment, and proves every day that it can.
#[derive(Debug, clap::Parser)]
#[command(name = "lastgood", version, max_term_width = 80, after_help = crate::exit::help(), arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", env = "LASTGOOD_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where backups are: a directory or file:// URL
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "LASTGOOD_REPOSITORY",
        hide_env = true
    )]
    pub(crate) repository: Option<String>,
    /// The database's folder in the repository
    #[arg(long, global = true, value_name = "NAME", env = "LASTGOOD_NAME", hide_env = true)]
    pub(crate) name: Option<String>,
    /// The key file that opens the repository
    #[arg(long, global = true, value_name = "FILE", env = "LASTGOOD_KEY_FILE", hide_env = true)]
    #[arg(conflicts_with = "passphrase_file")]
    pub(crate) key_file: Option<PathBuf>,
    /// A file whose first line is the passphrase
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LASTGOOD_PASSPHRASE_FILE",
        hide_env = true
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// One JSON document on standard output
    #[arg(long, global = true, env = "LASTGOOD_JSON", hide_env = true, value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
    /// How progress is shown on standard error
    #[arg(
        long,
        global = true,
        value_name = "HOW",
        env = "LASTGOOD_PROGRESS",
        hide_env = true,
        default_value = "auto"
    )]
    pub(crate) progress: Mode,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_shows_two_examples() {
        for command in Args::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help
                .lines()
                .filter(|line| line.trim_start().starts_with("lastgood "))
                .count();
            assert!(examples >= 2, "{} shows {examples}", command.get_name());
        }
    }

    #[test]
    fn the_guide_names_every_flag_with_a_variable_and_every_key_of_the_configuration() {
        let guide = include_str!("../../../docs/guide.md");
        let root = Args::command();
        let commands = root.get_subcommands().chain([&root]);
        for argument in commands.flat_map(clap::Command::get_arguments) {
            if let Some(variable) = argument.get_env().and_then(|variable| variable.to_str()) {
                assert!(guide.contains(&format!("`{variable}`")), "{variable}");
            }
        }
        for key in crate::config::KEYS {
            assert!(guide.contains(&format!("| `{key}` |")), "{key}");
        }
    }

    #[test]
    fn global_flags_may_stand_after_the_command() {
        let args = Args::try_parse_from(["lastgood", "list", "shop", "--json", "--name", "a"]).unwrap();
        assert!(args.global.json);
        assert_eq!(args.global.name.as_deref(), Some("a"));
    }
}
