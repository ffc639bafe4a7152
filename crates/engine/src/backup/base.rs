//! What a backup builds on, and what it needs of that.

use std::sync::Arc;

use repo::{
    BackupId,
    ledger::References,
    manifest::{ChangesBy, Increment, Manifest},
};

use crate::{
    Result,
    database::Opened,
    event::Context,
    pages::Packs,
    server::{ServerFacts, Started},
    unsound,
};

use super::{
    Options,
    against::Counts,
    copy::Parent,
    increment::{Changes, Limit, ParentFiles, Shared, Wanted, changes, moving, parent},
};

/// What a backup builds on.
pub(super) enum Base {
    /// The one before it.
    Parent(Arc<Manifest>),
    /// Nothing, and why.
    None(String),
}

impl Base {
    pub(super) fn manifest(&self) -> Option<&Arc<Manifest>> {
        match self {
            Base::Parent(manifest) => Some(manifest),
            Base::None(_) => None,
        }
    }

    pub(super) fn parent(&self) -> Option<BackupId> {
        self.manifest().map(|manifest| manifest.facts.backup)
    }

    /// The newest backup that can be built on.
    pub(super) async fn find(context: &Context, opened: &Opened, facts: &ServerFacts, wanted: Wanted) -> Result<Base> {
        Ok(match parent(context, opened, facts, wanted).await? {
            Ok(manifest) => Base::Parent(Arc::new(manifest)),
            Err(why) => Base::None(why),
        })
    }

    /// What the WAL tells of the changes since the parent; `None` without one.
    pub(super) async fn known(
        &self,
        context: &Context,
        opened: &Opened,
        facts: &ServerFacts,
        begun: &Started,
    ) -> Result<Option<Known>> {
        let Some(parent) = self.manifest() else {
            return Ok(None);
        };
        context.step("changes", "looking for changes in the WAL since the backup before");
        let known = match unsound::doubts(opened, &parent.facts.backup).await {
            true => Err(format!(
                "a change that no WAL tells of was found since {} began (`{}`)",
                parent.facts.backup,
                unsound::CODE
            )),
            false => changes(context, opened, &parent.facts, facts, begun).await?,
        };
        if let Err(why) = &known {
            let what = format!("every page is read and compared with the backup before it: {why}");
            context.warn("all-pages-read", what);
        }
        Ok(Some(known))
    }

    /// What the readers need of the parent, and why they have to read every page, if they have.
    pub(super) fn against(
        &self,
        context: &Context,
        opened: &Opened,
        known: Option<Known>,
        options: &Options,
    ) -> Result<(Option<Parent>, Option<String>)> {
        let (Some(parent), Some(known)) = (self.manifest(), known) else {
            return Ok((None, None));
        };
        let (changes, why) = match known {
            Ok(changes) => (Some(changes), None),
            Err(why) => (None, Some(why)),
        };
        let repository = &opened.repository;
        let limit = if options.rebase {
            Limit::Everything
        } else {
            Limit::Budget
        };
        let needed = Arc::new(parent.needed.clone());
        let packs = Packs::new(repository.clone(), needed, parent.facts.postgresql.block_size as usize);
        let mut seed = [0; 8];
        context.runtime.rng.fill(&mut seed);
        let shared = Shared {
            manifest: parent.clone(),
            packs: Arc::new(packs),
            changes,
            seed: u64::from_le_bytes(seed),
            audit: options.audit,
            differences: options.difference.is_made(),
            moving: moving(&parent.needed, parent.facts.totals.pages, limit),
        };
        let parent = Parent {
            files: ParentFiles::new(repository, parent)?,
            shared: Arc::new(shared),
        };
        Ok((Some(parent), why))
    }
}

/// What is known of the changes since the parent: by the WAL, or why not.
pub(super) type Known = Result<Changes, String>;

/// How an incremental backup came about; `why` it did not rest on the WAL, if it did not.
pub(super) fn increment(counts: &Counts, why: Option<String>) -> Increment {
    Increment {
        by: match why {
            None => ChangesBy::Wal,
            Some(_) => ChangesBy::Hashes,
        },
        why,
        stored: counts.stored,
        same: counts.same,
        kept: counts.kept,
        audited: counts.audited,
        moved: counts.moved,
    }
}

/// Every other backup whose objects it uses.
pub(super) fn references(manifest: &Manifest) -> References {
    let owner = manifest.facts.backup;
    let others = manifest.needed.sources.iter().filter(|id| **id != owner);
    References {
        backups: others.map(ToString::to_string).collect(),
    }
}
