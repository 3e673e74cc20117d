//! Rounds of gc as writers and collectors see them: the newest one, and what they decided.
//! Spec: `docs/format/commit.md`, sections 1, 5 and 6.

use std::collections::HashSet;

use lastgood_format::gc::{PackLocation, RoundList};
use lastgood_format::limits::GC_LIST_BYTES_MAX;
use lastgood_format::object::{ObjectKind, name};

use crate::error::{Damage, RepoError};
use crate::repository::Repository;

/// What the lists of all rounds up to one say.
#[derive(Debug, Default)]
pub(crate) struct RoundLists {
    /// Places in verdicts: gone, or going to be, for ever.
    pub(crate) decided: HashSet<PackLocation>,
    /// Places in a condemn list without a verdict.
    pub(crate) pending: HashSet<PackLocation>,
}

impl RoundLists {
    /// Loads the verdict of each round up to `newest`, or its condemn list where it has none.
    ///
    /// # Errors
    /// When one cannot be read: it may name anything.
    pub(crate) fn load(repo: &Repository, newest: u64) -> Result<Self, RepoError> {
        let mut lists = Self::default();
        for round in 1..=newest {
            if let Some(verdict) = repo.round_list(ObjectKind::Verdict, round)? {
                lists.decided.extend(verdict);
            } else {
                let condemned = repo.round_list(ObjectKind::Condemn, round)?.ok_or_else(|| {
                    let gone = Damage::State("it was there and is gone");
                    repo.damaged(&name::condemn(round), gone)
                })?;
                lists.pending.extend(condemned);
            }
        }
        Ok(lists)
    }

    /// Whether nothing may refer to what lies in `place`.
    pub(crate) fn forbid(&self, place: &PackLocation) -> bool {
        self.decided.contains(place) || self.pending.contains(place)
    }
}

impl Repository {
    /// The last round of those that follow one another from the first: no collector leaves a gap,
    /// so a name beyond one means nothing.
    pub(crate) fn newest_round(&self) -> Result<u64, RepoError> {
        let newest = self.seen_round()?;
        if newest > 0 {
            // A round that a power cut takes back must not have been seen by anybody.
            self.backend().settle(name::CONDEMN)?;
            self.backend().settle(name::VERDICT)?;
        }
        Ok(newest)
    }

    fn seen_round(&self) -> Result<u64, RepoError> {
        let mut lists = HashSet::new();
        self.list(name::CONDEMN, &mut |list, _| {
            lists.insert(format!("{}{list}", name::CONDEMN));
        })?;
        let rounds = (1..).take_while(|&round| lists.contains(&name::condemn(round)));
        Ok(rounds.last().unwrap_or(0))
    }

    /// The condemn list or verdict of a round, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be read or verified.
    pub(crate) fn round_list(
        &self,
        kind: ObjectKind,
        round: u64,
    ) -> Result<Option<Vec<PackLocation>>, RepoError> {
        let object = match kind {
            ObjectKind::Verdict => name::verdict(round),
            _ => name::condemn(round),
        };
        let Some(bytes) = self.find(&object, GC_LIST_BYTES_MAX)? else { return Ok(None) };
        let list = RoundList::decode(kind, self.keys().verifier(), round, &bytes)
            .map_err(|error| self.damaged(&object, error))?;
        Ok(Some(list.packs))
    }
}
