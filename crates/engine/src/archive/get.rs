//! `wal get`, which servers call as `restore_command`.
//!
//! A server ends its recovery, and opens, at the first file that is said to be absent. Invariant: only what is proven
//! absent is said to be; a gap, or anything that could not be looked at, is an error.

mod ahead;
mod later;
mod path;
mod place;
mod segment;

use std::path::PathBuf;

use pgformat::{
    Lsn, Tli,
    segment::{SegmentName, SegmentSize, WalFileName},
};
use repo::{
    Repository,
    wal::{WalStream, read_history},
};

pub use self::{ahead::fetch_ahead, path::Until};
use crate::{Error, Result, event::Context};

use self::later::Missed;
use super::{here, left::Left};

/// What the server asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// `%f` of `restore_command`.
    pub file: String,
    /// Where to put it, absolute: `%p`.
    pub to: PathBuf,
    /// The directory in which the command was called: the data directory.
    pub current: PathBuf,
    /// The end of the planned recovery, if there is a plan.
    pub until: Option<Until>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// The file is there, whole.
    Delivered {
        /// Whether somebody should fetch the segments after it: [`fetch_ahead`].
        ahead: bool,
    },
    /// There is no such file: proven, or not part of the plan.
    Absent {
        /// In a few words.
        why: String,
    },
}

/// Delivers the file whole, or not at all.
///
/// # Errors
/// [`Error::Failed`] with the code `wal-gap` if the file is not here whole and later WAL is, or if a planned file is
/// not here whole. All errors mean that the recovery must not end here.
pub async fn run(context: &Context, repository: &Repository, request: &Request) -> Result<Got> {
    let generation_known = here::control(context, &request.to, &request.current).await?;
    let control = generation_known.ok_or_else(|| here::no_cluster("the file"))?;
    let (generation, size) = (control.system_identifier, control.wal_segment_size);
    match WalFileName::parse(&request.file, size) {
        Ok(WalFileName::Segment(name)) => segment(repository, request, generation, size, name).await,
        Ok(WalFileName::History(timeline)) => history(repository, request, generation, timeline).await,
        _ => Ok(absent("files of that kind are not kept")),
    }
}

async fn segment(
    repository: &Repository,
    request: &Request,
    generation: u64,
    size: SegmentSize,
    name: SegmentName,
) -> Result<Got> {
    let start = name.start(size).0;
    let stream = WalStream::new(generation, name.timeline.0, size.bytes())?;
    let needed = match &request.until {
        None => None,
        Some(until) => match until.needs(repository, &stream, start).await? {
            Some(end) => Some(end),
            None => return Ok(absent("it is not part of the plan")),
        },
    };
    let wanted = segment::Wanted { stream, start, needed };
    let ahead = ahead::Ahead::of(repository, request, &wanted);
    if let Some(ahead) = &ahead
        && ahead.hand_over(&request.file, &request.to)?
    {
        return Ok(Got::Delivered {
            ahead: ahead.is_short(),
        });
    }
    match segment::deliver(repository, &wanted, &request.to).await? {
        segment::Found::Whole => Ok(Got::Delivered {
            ahead: ahead.is_some_and(|ahead| ahead.is_short()),
        }),
        segment::Found::Tail => Ok(Got::Delivered { ahead: false }),
        segment::Found::Nothing => {
            if let Some(ahead) = ahead {
                ahead.clear();
            }
            Ok(absent("the WAL that is here ends before it"))
        }
    }
}

async fn history(repository: &Repository, request: &Request, generation: u64, timeline: Tli) -> Result<Got> {
    let Some(content) = read_history(repository, generation, timeline.0).await? else {
        return Ok(absent("there is no such timeline here"));
    };
    let mut file = place::Placed::begin(&request.to)?;
    file.write(&content)?;
    file.finish()?;
    Ok(Got::Delivered { ahead: false })
}

fn absent(why: &str) -> Got {
    Got::Absent { why: why.into() }
}

/// WAL is missing where there must be some.
fn gap(stream: &WalStream, position: u64, name: &str, because: Missed) -> Error {
    let because = match because {
        Missed::Planned | Missed::Later => String::new(),
        Missed::Left(Left { child, at }) => format!(", and timeline {child} left it at {}", Lsn(at)),
    };
    Error::Failed {
        code: "wal-gap",
        what: format!(
            "WAL of timeline {} is missing at {}: {name} is not in the repository{because}",
            stream.timeline,
            Lsn(position)
        ),
        hint: "Copy the object back from another copy of the repository, or recover to a target before the gap.".into(),
    }
}
