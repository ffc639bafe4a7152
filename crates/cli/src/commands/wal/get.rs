//! `lastgood wal get`: restore_command.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use engine::archive::get::{self, Got, Request};
use serde_json::json;

use crate::{
    Result,
    args::WalGet,
    commands::Run,
    exit::Exit,
    output::{Outcome, Problem},
};

use super::called::{Caller, caller_at};

/// Delivers the file.
pub(crate) async fn run(run: &Run, args: WalGet) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let request = Request {
        file: args.file,
        to: run.current.join(args.to),
        current: run.current.clone(),
        until: args.until,
    };
    let repository = engine::database::folder(&run.context, &target.database()?).await?;
    if args.ahead {
        get::fetch_ahead(&run.context, &repository, &request).await?;
        return Ok(Outcome::new(json!({}), ""));
    }
    match get::run(&run.context, &repository, &request).await? {
        Got::Delivered { ahead } => {
            if ahead {
                start_ahead();
            }
            Ok(Outcome::new(json!({ "delivered": true }), ""))
        }
        Got::Absent { why } => {
            let message = format!("{} is not in the repository: {why}", request.file);
            let problem = Problem::found(
                Exit::Absent,
                "absent",
                message,
                "Nothing: servers ask for what may not exist.",
            );
            Ok(Outcome::new(json!({ "delivered": false }), "").but(Some(problem)))
        }
    }
}

/// Starts a process that fetches the next segments while the server replays this one. In a group of its own, it is not
/// stopped with the server's; it holds none of the server's pipes, which would keep its log open.
fn start_ahead() {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let (Some((Caller::Recovery, at)), Ok(program)) = (caller_at(&words), std::env::current_exe()) else {
        return;
    };
    let (before, after) = words.split_at((at + 1).min(words.len()));
    let mut ahead = Command::new(program);
    ahead
        .args(before)
        .arg("--ahead")
        .args(after)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    // Without it every segment is fetched when it is asked for.
    drop(ahead.spawn());
}
