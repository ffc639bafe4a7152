//! Which timelines a generation has.

use std::collections::BTreeSet;

use crate::{Result, repository::Repository};

/// The timelines of a generation of which any WAL is here, ascending.
pub async fn timelines(repository: &Repository, generation: u64) -> Result<Vec<u32>> {
    Ok(Listed::of(repository, generation).await?.with_wal.into_iter().collect())
}

/// The timelines of a generation whose history files a listing shows, ascending.
pub async fn history_timelines(repository: &Repository, generation: u64) -> Result<Vec<u32>> {
    let listed = Listed::of(repository, generation).await?;
    Ok(listed.with_history.into_iter().collect())
}

/// What a listing shows, two requests for each timeline.
#[derive(Default)]
struct Listed {
    with_wal: BTreeSet<u32>,
    with_history: BTreeSet<u32>,
}

impl Listed {
    async fn of(repository: &Repository, generation: u64) -> Result<Listed> {
        let prefix = format!("wal/{generation}/");
        let (mut after, mut listed) = (String::new(), Listed::default());
        loop {
            let page = repository.store().list_after(&prefix, &after, 1).await?;
            let Some(first) = page.first() else {
                return Ok(listed);
            };
            let rest = first.name.strip_prefix(&prefix).unwrap_or_default();
            let (timeline, rest) = rest.split_once(['/', '.']).unwrap_or((rest, ""));
            let is_history = rest == "history";
            if let Ok(number) = u32::from_str_radix(timeline, 16)
                && timeline.len() == 8
            {
                match is_history {
                    true => listed.with_history.insert(number),
                    false => listed.with_wal.insert(number),
                };
            }
            // To the next timeline at once: `.` sorts before `/`, and `0` after it.
            after = match is_history {
                true => first.name.clone(),
                false => format!("{prefix}{timeline}0"),
            };
        }
    }
}
