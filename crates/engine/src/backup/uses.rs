//! How much of each pack and map a backup uses: what it needs, and where little is used.

use std::collections::BTreeMap;

use repo::{
    BackupId,
    leaf::{Extent, LeafRef, PageRef},
    manifest::{Needed, ObjectRef},
    sources::Sources,
};

use crate::{Error, Result};

/// Counts by source and number.
type Counted = BTreeMap<(u32, u32), u32>;

/// Pages used of packs, leaves used of maps.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses {
    packs: Counted,
    maps: Counted,
}

impl Uses {
    pub(super) fn pages(&mut self, at: PageRef, pages: u32) {
        count(&mut self.packs, (at.source, at.pack), pages);
    }

    pub(super) fn extent(&mut self, extent: &Extent) {
        self.pages(extent.pages_at, extent.pages);
        if let Some(base) = extent.base {
            self.pages(base, extent.pages);
        }
    }

    pub(super) fn leaf(&mut self, at: &LeafRef) {
        count(&mut self.maps, (at.source, at.map), 1);
    }

    /// What the backup needs: its own packs and maps, and of others those that it uses. `parent` is what its parent needs.
    pub(super) fn needed(
        &self,
        sources: Sources,
        packs: Vec<ObjectRef>,
        maps: Vec<ObjectRef>,
        parent: Option<&Needed>,
    ) -> Result<Needed> {
        let others = |counted: &Counted, find: Find| {
            let others = counted.iter().filter(|((source, _), _)| *source != 0);
            let found = others.map(|((source, number), used)| {
                let known = sources
                    .get(*source)
                    .and_then(|backup| find(parent?, &backup, *number).copied());
                let known = known.ok_or_else(|| unknown(parent, &sources, *number))?;
                Ok(ObjectRef {
                    source: *source,
                    used: (*used).min(known.holds),
                    ..known
                })
            });
            found.collect::<Result<Vec<_>>>()
        };
        let (other_packs, other_maps) = (others(&self.packs, Needed::pack)?, others(&self.maps, Needed::map)?);
        Ok(Needed {
            packs: own(packs, &self.packs).chain(other_packs).collect(),
            maps: own(maps, &self.maps).chain(other_maps).collect(),
            sources,
        })
    }
}

/// How an object is found in what a backup needs.
type Find = for<'a> fn(&'a Needed, &BackupId, u32) -> Option<&'a ObjectRef>;

fn unknown(parent: Option<&Needed>, sources: &Sources, number: u32) -> Error {
    let whose = parent.map_or(sources, |parent| &parent.sources);
    repo::Error::Damaged {
        name: repo::names::manifest(&whose.owner()),
        what: format!("it does not name object {number}, which a map of it refers to"),
    }
    .into()
}

/// Objects of this backup: all that was put into them is used.
fn own(objects: Vec<ObjectRef>, counted: &Counted) -> impl Iterator<Item = ObjectRef> {
    objects.into_iter().map(|object| {
        let used = counted.get(&(0, object.number)).copied().unwrap_or(0);
        ObjectRef {
            holds: used,
            used,
            ..object
        }
    })
}

fn count(counted: &mut Counted, key: (u32, u32), more: u32) {
    let so_far = counted.entry(key).or_default();
    *so_far = so_far.saturating_add(more);
}
