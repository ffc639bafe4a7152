//! Transactions and names: they may be anywhere in the WAL that some backup leads to.

use repo::wal::index::{Ending, EndingKind, RestorePoint};

use crate::Result;

use super::{
    super::{
        Target,
        base::{Base, First},
        find::{damaged, refused},
        scan::{Chunk, Place, Scan, Want, is_damage},
    },
    Search,
};

impl Search<'_> {
    pub(super) async fn xid(&self, bases: &[&Base], xid: u32, before: bool) -> Result<Vec<Target>> {
        let of_chunk = |chunk: &Chunk| -> Vec<Place> {
            let is = |ending: &&Ending| {
                let own = ending.xid == xid || ending.subtransactions.contains(&xid);
                own && ending.kind != EndingKind::Prepare
            };
            let place = |ending: &Ending| match before {
                true => Place {
                    record: ending.prev.0,
                    end: ending.lsn.0,
                },
                false => Place {
                    record: ending.lsn.0,
                    end: ending.end.0,
                },
            };
            chunk.transactions.endings.iter().filter(is).map(place).collect()
        };
        let places = self.everywhere(bases, of_chunk).await?;
        let places = places.ok_or_else(|| {
            refused(
                "xid-not-found",
                format!(
                    "no transaction {xid} ended in the WAL of timeline {} that is here",
                    self.tip
                ),
                "See `lastgood window` for what is here.",
            )
        })?;
        self.places(bases, places, &format!("the end of transaction {xid}"))
            .await
    }

    pub(super) async fn point(&self, bases: &[&Base], name: &str) -> Result<Vec<Target>> {
        let of_chunk = |chunk: &Chunk| -> Vec<Place> {
            let points = chunk.transactions.points.iter().filter(|point| point.name == name);
            let place = |point: &RestorePoint| Place {
                record: point.lsn.0,
                end: point.end.0,
            };
            points.map(place).collect()
        };
        let places = self.everywhere(bases, of_chunk).await?;
        let places = places.ok_or_else(|| {
            refused(
                "point-not-found",
                format!(
                    "no restore point {name:?} is in the WAL of timeline {} that is here",
                    self.tip
                ),
                "Make one with `lastgood point`; see `lastgood window` for what is here.",
            )
        })?;
        self.places(bases, places, &format!("the restore point {name:?}")).await
    }

    /// Looks through all WAL that some backup leads to, over holes too: behind one it goes on with the next backup. `None`
    /// if it is in none of it, and nothing is missing.
    async fn everywhere(&self, bases: &[&Base], of_chunk: impl Fn(&Chunk) -> Vec<Place>) -> Result<Option<Vec<Place>>> {
        let mut by_start = bases.to_vec();
        by_start.sort_by_key(|base| base.start);
        let (mut places, mut reached, mut refusal) = (Vec::new(), 0, None);
        for base in by_start {
            if base.start < reached {
                continue;
            }
            let path = self.path(base)?;
            reached = path.end().max(base.start);
            let mut scan = Scan::new(self.context, self.timelines, &path.pieces, Want::Transactions)?;
            while let Some(ahead) = scan.ahead() {
                let chunk = match scan.next().await {
                    // What is looked for may be elsewhere, and a later backup may lead on from behind it.
                    Err(error) if is_damage(&error) => {
                        reached = ahead.to;
                        refusal = refusal.or(Some(error));
                        break;
                    }
                    next => next?,
                };
                let Some(chunk) = chunk else { break };
                places.extend(of_chunk(&chunk));
                if let Some(broken) = &chunk.summary.broken {
                    // A later backup may lead on from behind it.
                    reached = chunk.to;
                    refusal = refusal.or_else(|| Some(damaged(broken)));
                    break;
                }
            }
            if let (Some(gap), None) = (path.gap, &refusal) {
                refusal = Some(self.gap(&path, gap).await);
            }
        }
        match (places.is_empty(), refusal) {
            (true, Some(refusal)) => Err(refusal),
            (true, None) => Ok(None),
            (false, refusal) => {
                if let Some(error) = refusal.filter(is_damage) {
                    let what = format!("{error}; what was looked for was found elsewhere");
                    self.context.warn("wal-damaged", what);
                }
                Ok(Some(places))
            }
        }
    }

    /// Targets at places that are known, each from the newest backup before it.
    async fn places(&self, bases: &[&Base], places: Vec<Place>, what: &str) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for place in places {
            // The record that ends the backup is itself as good a target as any after it.
            targets.extend(self.with_some(bases, place).await?);
        }
        match targets.is_empty() {
            true => Err(self.before_all(bases, what)),
            false => Ok(targets),
        }
    }

    async fn with_some(&self, bases: &[&Base], place: Place) -> Result<Option<Target>> {
        let mut first = First::default();
        for base in bases.iter().filter(|base| base.stop <= place.end) {
            if let Some(target) = first.of(self.place_from(base, place).await)? {
                return Ok(Some(target));
            }
        }
        first.none()
    }

    async fn place_from(&self, base: &Base, place: Place) -> Result<Option<Target>> {
        let path = self.path(base)?;
        match path.gap {
            Some(gap) if path.end() < place.end => Err(self.gap(&path, gap).await),
            _ if path.end() < place.end => Ok(None),
            _ => self.around(&path, base, place).await.map(Some),
        }
    }
}
