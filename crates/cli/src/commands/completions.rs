//! `lastgood completions SHELL`: a script that completes commands and flags.

use clap::CommandFactory;

use crate::{
    args::{Args, Completions},
    output::Outcome,
};

/// Makes the script.
pub(crate) fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "lastgood", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Outcome::new(
        serde_json::json!({ "shell": args.shell.to_string(), "script": script }),
        script,
    )
}
