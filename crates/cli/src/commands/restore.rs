//! `lastgood restore`: shows the plan, then brings the database back into a new directory, or onto an old one.

use std::io::{BufRead, IsTerminal, Read, Write};

use engine::restore::{self, Onto, Plan, Request, Restored, Start};

use crate::{
    Error, Result,
    args::Restore,
    commands::{Run, jobs},
    output::Outcome,
    prompt, render,
};

/// Restores, or shows the plan.
pub(crate) async fn run(run: &Run, args: Restore) -> Result<Outcome> {
    let target = run.target(args.target.as_deref())?;
    let binaries = run.absolute(args.postgres).or_else(|| target.entry.postgres.clone());
    let request = Request {
        at: args.at,
        timeline: args.timeline,
        to: run.current.join(&args.to),
        onto: if args.delta { Onto::Delta } else { Onto::Empty },
        jobs: jobs(args.jobs, target.entry.jobs),
        tablespaces: args
            .tablespaces
            .into_iter()
            .map(|moved| (moved.old, run.current.join(moved.new)))
            .collect(),
        start: args.start.then_some(Start {
            port: args.port,
            binaries,
        }),
    };
    let opened = engine::database::open_to_restore(&run.context, &target.database()?, &request.at).await?;
    // Everything that can be refused is refused here, before anything is touched.
    let plan = restore::plan(&run.context, &opened, &request).await?;
    let lines: Vec<String> = plan.lines().iter().map(|line| render::printable(line)).collect();
    if args.plan {
        return Ok(Outcome::new(&plan, lines.join("\n") + "\n"));
    }
    for line in &lines {
        run.progress.note(line);
    }
    if !args.yes {
        confirm(&plan, run.global.json)?;
    }
    let restored = restore::run(&run.context, &opened, &request, plan).await?;
    Ok(Outcome::new(&restored, text(&restored)))
}

/// Asks on a terminal. Without one, and for programs, a restore goes ahead where there is nothing to lose: into a new or
/// empty directory, and on with one that was cut off. What writes over something is to be said outright.
fn confirm(plan: &Plan, json: bool) -> Result<()> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if json || !stdin.is_terminal() || !stderr.is_terminal() {
        return match &plan.delta {
            Some(delta) if delta.overwrites() => Err(Error::refused(
                "not-confirmed",
                format!(
                    "this restore would write over {}, and there is nobody to ask",
                    plan.to.display()
                ),
                "Look at the plan (--plan), then add --yes.",
            )),
            _ => Ok(()),
        };
    }
    let terminal = |error| Error::file("read from", std::path::Path::new("the terminal"), error);
    write!(stderr, "Go ahead? [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(terminal)?;
    let _open = prompt::open(None);
    let mut answer = String::new();
    // Longer answers are no yes.
    stdin.lock().take(100).read_line(&mut answer).map_err(terminal)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Declined),
    }
}

fn text(restored: &Restored) -> String {
    let seconds = restored.seconds.max(0.001);
    let rate = render::rate(restored.bytes as f64 / seconds);
    let mut text = format!(
        "Restored {} into {}\n{} in {} files, {} ({rate}); every page was compared with its hash.\n",
        restored.backup,
        render::printable(&restored.to.display().to_string()),
        render::size(restored.bytes),
        restored.files,
        render::duration(restored.seconds),
    );
    if let Some(delta) = &restored.delta {
        text.push_str(&format!(
            "Delta: {} pages compared, {} written ({}), {} fetched; {} files and directories removed.\n",
            delta.pages_compared,
            delta.pages_written,
            render::size(delta.bytes_written),
            render::size(delta.bytes_fetched),
            delta.removed,
        ));
    }
    if let Some(server) = &restored.server {
        text.push_str(&format!(
            "The server is open: port {}, process {}, socket in {}\nIts log: {}\n",
            server.port,
            server.pid,
            render::printable(&server.socket_dir.display().to_string()),
            render::printable(&server.log.display().to_string()),
        ));
    }
    if !restored.made.is_empty() {
        text.push_str(&format!(
            "Made, because the backup had none: {}\n",
            restored.made.join(", ")
        ));
    }
    text.push_str("Next:\n");
    for line in next(restored) {
        text.push_str(&format!("  {}\n", render::printable(&line)));
    }
    text
}

/// What to type now.
fn next(restored: &Restored) -> Vec<String> {
    match &restored.server {
        Some(server) => vec![
            format!("psql -h {} -p {} -l", server.socket_dir.display(), server.port),
            format!("pg_ctl -D {} stop", restored.to.display()),
        ],
        None => vec![
            format!("pg_ctl -D {} -l {0}/restored.log start", restored.to.display()),
            "(the server replays WAL to the moment that was asked for, then opens)".into(),
            format!(
                "Once it is open, remove the block between \"# lastgood: recovery begins here\" and \"... ends here\" from {}: until then it does not archive its WAL, and hba_file and ident_file are those in the directory.",
                restored.to.join("postgresql.auto.conf").display()
            ),
        ],
    }
}
