//! Reads the command line; what is wrong with it is told as the rest of the program tells errors.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};

use crate::{
    args::Args,
    config,
    exit::Exit,
    output::{Problem, show},
};

/// The command line of this process. The error is how to end: help, version or a mistake have been shown.
pub(crate) fn parse() -> Result<Args, Exit> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = Args::command()
        .try_get_matches_from(&words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    parsed.map_err(|error| tell(&error, &words))
}

fn tell(error: &clap::Error, words: &[OsString]) -> Exit {
    let words: Vec<String> = words
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked {
        // Nothing can be done if the reader is gone.
        drop(error.print());
        return Exit::Done;
    }
    let json = words.iter().any(|word| word == "--json");
    let text = without_passwords(&error.render().to_string(), &words);
    if !json {
        use std::io::Write;
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
        return Exit::Usage;
    }
    let command = command_of(&words);
    let help = if command == "lastgood" {
        "lastgood --help".into()
    } else {
        format!("lastgood {command} --help")
    };
    let problem = Problem::found(Exit::Usage, "usage", message(&text), format!("See `{help}`."));
    show(&command, true, Err(problem), &[])
}

/// The first paragraph, without the library's prefix, on one line.
fn message(text: &str) -> String {
    let paragraph: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let message = paragraph.join(" ");
    message.strip_prefix("error: ").unwrap_or(&message).to_string()
}

/// The verb that was meant, as far as one can tell.
fn command_of(words: &[String]) -> String {
    let known = Args::command();
    let found = words.iter().find(|word| {
        known
            .get_subcommands()
            .any(|command| command.get_name() == word.as_str())
    });
    found.map_or_else(|| "lastgood".into(), Clone::clone)
}

/// The library quotes what it does not understand; a connection string may hold a password.
fn without_passwords(text: &str, words: &[String]) -> String {
    let mut text = text.to_string();
    for word in words.iter().filter(|word| config::has_password(word)) {
        text = text.replace(word.as_str(), "(a connection string)");
        // Of `--flag=value` the library quotes the value alone.
        if let Some((_, value)) = word.split_once('=').filter(|(flag, _)| flag.starts_with('-')) {
            text = text.replace(value, "(a connection string)");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_typed_by_mistake_is_not_repeated() {
        for word in [
            "postgres://u:hunter2@h/d",
            "host=h password=hunter2",
            "--to=postgres://u:hunter2@h/d",
        ] {
            let value = word.strip_prefix("--to=").unwrap_or(word);
            let told = without_passwords(&format!("error: unexpected argument '{value}' found"), &[word.into()]);
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn the_message_for_programs_is_one_sentence() {
        assert_eq!(
            message("error: the following\n  --to <DIR>\n\nUsage: x"),
            "the following --to <DIR>"
        );
    }
}
