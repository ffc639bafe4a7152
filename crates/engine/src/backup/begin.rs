//! What the ledger hears of a backup before and after its work.

use repo::{
    BackupId,
    ledger::{Entry, What},
    session::Session,
};

use crate::{Error, Result, begun, database::Opened};

use super::Plan;

/// One word a cause, and no more: an error's text may name things that the ledger need not know.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Failed { code, .. } | Error::Refused { code, .. } | Error::Conflict { code, .. } => (*code).into(),
        Error::Interrupted => "interrupted".into(),
        Error::Server(_) => "server".into(),
        Error::Repository(_) => "repository".into(),
        Error::File { .. } => "file".into(),
        Error::NotFound { .. } | Error::Unproven { .. } => "other".into(),
    }
}

/// A folder holds one cluster. Another system identifier means another cluster: a person must say so.
pub(crate) async fn check_generation(opened: &Opened, generation: u64) -> Result<()> {
    let generation = generation.to_string();
    let known: Vec<String> = opened
        .with_state(|state| {
            let of_backups = state
                .backups()
                .filter_map(|backup| backup.summary.generation.as_deref());
            state.generations().chain(of_backups).map(str::to_string).collect()
        })
        .await;
    judge_generation(&generation, &known)
}

/// A cluster that is known here is never refused, whichever came first; a second one always is, even before the
/// first has a backup.
fn judge_generation(generation: &str, known: &[String]) -> Result<()> {
    match known.first() {
        Some(other) if !known.iter().any(|known| known == generation) => Err(Error::Refused {
            code: "foreign-server",
            what: format!("this server is the cluster {generation}; the repository holds the cluster {other}"),
            hint: "Give the connection string of the cluster that is protected here, or protect this one under another name with `lastgood init`.".into(),
        }),
        _ => Ok(()),
    }
}

/// Says in the ledger that a run begins, and which cluster and timeline it is about.
pub(super) async fn begin(
    opened: &Opened,
    session: &Session,
    plan: &Plan,
    id: BackupId,
    parent: Option<BackupId>,
) -> Result<()> {
    let facts = &plan.facts;
    let cluster = begun::Cluster {
        generation: facts.system_identifier,
        segment_size: facts.wal_segment_size.bytes(),
        block_size: facts.block_size,
        major: facts.major.number(),
    };
    begun::generation(opened, cluster).await?;
    begun::timeline(opened, cluster.generation, facts.timeline.0, None).await?;
    let (run, session) = (id.to_string(), session.id.to_string());
    opened
        .append(Entry::RunStarted {
            run,
            session,
            what: What::Backup,
            parent: parent.map(|parent| parent.to_string()),
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cluster_is_refused_and_a_known_one_never() {
        let known = |known: &[&str]| known.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(judge_generation("1", &known(&[])).is_ok());
        assert!(judge_generation("1", &known(&["1"])).is_ok());
        assert!(judge_generation("2", &known(&["1", "2"])).is_ok());
        assert!(judge_generation("2", &known(&["1"])).is_err());
    }
}
