//! Further segments that wait, stored by the same call: starting a program for each costs more than storing some.
//!
//! Invariants: a segment is marked as done only once it is durable. The server finds that it need not ask for it
//! (`pgarch.c`: "the archive_command for a previous file may have already marked it done"). And none is stored before those
//! before it are: whoever reads meanwhile, or after this call was killed, sees WAL that ends, and no hole.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_channel::{Receiver, Sender};

use crate::{
    Result,
    event::Context,
    workers::{died, watched},
};

use super::{Pushed, Request, Writer, file::SegmentFile, segment, turn::Turn};

/// The most segments of one call: the server waits for its end, and counts a success for each that it asked for only.
const SEGMENTS_MAX: usize = 256;
/// No further segment is begun after this: a server that is stopped waits for the call.
const PATIENCE: Duration = Duration::from_secs(20);

/// A segment that waits.
struct Waiting {
    path: PathBuf,
    name: String,
    /// The server's own mark; none for the segment that it asked for, which it marks itself.
    ready: Option<PathBuf>,
    turn: Turn,
}

/// What a worker did.
struct Done {
    asked: bool,
    stored: bool,
}

/// Stores the segment that was asked for, and others that wait.
pub(super) async fn store(context: &Context, writer: Writer, request: &Request, name: &str) -> Result<Pushed> {
    let first = Waiting {
        path: request.path.clone(),
        name: name.into(),
        ready: None,
        turn: Turn::first(),
    };
    let queue = waiting(first);
    let jobs = request.jobs.clamp(1, queue.len());
    let (give, take) = async_channel::unbounded();
    for segment in queue {
        // It has no bound and its receiver is here.
        let _ = give.send(segment).await;
    }
    give.close();
    let (done, outcomes) = async_channel::unbounded();
    let (writer, began) = (Arc::new(writer), context.runtime.clock.monotonic());
    let work = || work(context.clone(), began, Arc::clone(&writer), take.clone(), done.clone());
    match jobs {
        1 => work().await,
        _ => (0..jobs).for_each(|_| {
            let watched = watched(work(), done.clone());
            context.runtime.workers.spawn(Box::pin(watched));
        }),
    }
    drop(done);
    collect(outcomes).await
}

async fn collect(outcomes: Receiver<Result<Done>>) -> Result<Pushed> {
    let (mut asked, mut further) = (None, 0usize);
    while let Ok(outcome) = outcomes.recv().await {
        match outcome? {
            Done { asked: true, stored } => asked = Some(stored),
            Done { asked: false, .. } => further = further.saturating_add(1),
        }
    }
    let stored = asked.ok_or_else(died)?;
    Ok(Pushed { stored, further })
}

async fn work(
    context: Context,
    began: Duration,
    writer: Arc<Writer>,
    take: Receiver<Waiting>,
    done: Sender<Result<Done>>,
) {
    while let Ok(next) = take.recv().await {
        let late = context.runtime.clock.monotonic().saturating_sub(began) >= PATIENCE;
        let asked = next.ready.is_none();
        if !asked && (late || context.stop.check().is_err()) {
            break;
        }
        let stored = store_one(&writer, &next).await;
        if stored.is_err() {
            // Whatever it is, the next segment would meet it too.
            while take.try_recv().is_ok() {}
        }
        match stored {
            Ok(stored) => {
                if let Some(ready) = &next.ready {
                    // One that is lost means being asked again, and the same bytes succeed.
                    let _ = fs::rename(ready, ready.with_extension("done"));
                }
                next.turn.over();
                let _ = done.send(Ok(Done { asked, stored })).await;
            }
            Err(error) if asked => {
                let _ = done.send(Err(error)).await;
            }
            // The server asks for it in its turn, and hears then what is wrong with it.
            Err(_) => {}
        }
    }
}

async fn store_one(writer: &Writer, next: &Waiting) -> Result<bool> {
    let file = SegmentFile::open(&next.path, &next.name)?;
    segment::store(writer, &file, &next.turn).await
}

/// `first`, and the whole segments after it on its timeline that the server wants archived, in order.
fn waiting(first: Waiting) -> Vec<Waiting> {
    let names = names_after(&first.path, &first.name);
    let mut queue = vec![first];
    for (name, ready) in names {
        let Some(before) = queue.last_mut() else { break };
        let (path, turn) = (before.path.with_file_name(&name), before.turn.next());
        queue.push(Waiting {
            path,
            name,
            ready: Some(ready),
            turn,
        });
    }
    queue
}

/// The names of those after it, each with the server's mark.
fn names_after(path: &Path, name: &str) -> Vec<(String, PathBuf)> {
    let Some(directory) = path.parent() else {
        return Vec::new();
    };
    let status = directory.join("archive_status");
    let Ok(entries) = fs::read_dir(&status) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".ready").map(str::to_string))
        .filter(|other| other.len() == 24 && other.get(..8) == name.get(..8) && other.as_str() > name)
        .collect();
    names.sort_unstable();
    names.truncate(SEGMENTS_MAX - 1);
    let mark = |name: String| {
        let ready = status.join(format!("{name}.ready"));
        (name, ready)
    };
    names.into_iter().map(mark).collect()
}
