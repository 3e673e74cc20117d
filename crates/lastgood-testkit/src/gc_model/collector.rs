//! The steps of a collector: `docs/format/commit.md`, section 9.

use super::state::{Collector, CollectorAt, INITIAL, OLD, Outcome, Set, State, pack_in, places_of};
use super::{Mutation, Protocol, Step};

/// Propose, condemn, resolve, mark, verdict, sweep.
pub(super) fn collector(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.collectors[number];
    let n = usize::from(me.round);
    let step = |action, object| Step { actor: "collector", number, action, object };
    let then = |next: Collector| {
        let mut state = *state;
        state.collectors[number] = next;
        state
    };
    match me.at {
        CollectorAt::Begin => begin(protocol, state, number, visit),
        CollectorAt::Condemn => {
            let is_first = state.condemned[n - 1].is_none();
            let early = protocol.is(Mutation::SessionsListedFirst) && is_first;
            let at = if early { CollectorAt::MarkLive } else { CollectorAt::Resolve };
            let mut next = then(Collector { at, list: Set::EMPTY, ..me });
            if is_first {
                next.condemned[n - 1] = Some(me.list);
                visit(step("condemns in round", n), next);
            } else {
                visit(step("adopts the condemn list of round", n), next);
            }
        }
        CollectorAt::Resolve => resolve(protocol, state, number, visit),
        CollectorAt::MarkLive => {
            let expired = state.retired.within(state.objects);
            let expired = if protocol.bounds.readers > 0 { expired } else { Set::EMPTY };
            let early = protocol.is(Mutation::ReadersListedFirst);
            let held = if early { held(protocol, state) } else { Set::EMPTY };
            let live = if early { held } else { state.live() };
            let next = Collector { at: CollectorAt::MarkHeld, live, expired, ..me };
            if protocol.bounds.readers + protocol.bounds.repackers > 0 {
                visit(step("reads what is live", n), then(next));
            } else {
                // Nothing else is read, so both halves of the mark are one.
                visit(step("decides what is dead", n), then(decided(protocol, state, next)));
            }
        }
        CollectorAt::MarkHeld => {
            let early = protocol.is(Mutation::ReadersListedFirst);
            let other = if early { state.live() } else { held(protocol, state) };
            let next = Collector { live: me.live.and(other), ..me };
            let expired = me.expired.without(next.live);
            let obsolete = obsolete(state, next.live);
            let next = Collector { expired, obsolete, ..next };
            visit(step("decides what is dead", n), then(decided(protocol, state, next)));
        }
        CollectorAt::Verdict => {
            let mut next = then(Collector { at: CollectorAt::Sweep, ..me });
            if let Some(verdict) = state.verdicts[n - 1] {
                if !protocol.is(Mutation::OwnVerdict) {
                    next.collectors[number].list = verdict;
                }
                visit(step("adopts the verdict of round", n), next);
            } else {
                next.verdicts[n - 1] = Some(me.list);
                visit(step("puts the verdict of round", n), next);
            }
        }
        CollectorAt::Sweep => sweep(protocol, state, number, visit),
    }
}

/// Joins the newest round, helps to sweep it, or proposes the next.
fn begin(protocol: &Protocol, state: &State, number: usize, visit: &mut dyn FnMut(Step, State)) {
    let me = state.collectors[number];
    let newest = usize::from(state.newest_round());
    let step = |action, object| Step { actor: "collector", number, action, object };
    let blank = Collector {
        at: CollectorAt::Begin,
        round: newest as u8,
        list: Set::EMPTY,
        live: Set::EMPTY,
        expired: Set::EMPTY,
        obsolete: Set::EMPTY,
        has_swept: false,
    };
    let then = |next: Collector| {
        let mut state = *state;
        state.collectors[number] = next;
        state
    };
    let is_decided = newest == 0 || state.verdicts[newest - 1].is_some();
    if !is_decided {
        let next = Collector { at: CollectorAt::Resolve, ..blank };
        visit(step("joins round", newest), then(next));
        return;
    }
    if newest > 0 && !me.has_swept {
        let next = Collector { at: CollectorAt::Sweep, ..blank };
        visit(step("sweeps again what was decided in round", newest), then(next));
    }
    let has_open = (0..protocol.session_count()).any(|session| is_open(state, session));
    if newest < protocol.bounds.rounds && !(protocol.is(Mutation::SessionsListedFirst) && has_open)
    {
        let at = CollectorAt::Condemn;
        let round = newest as u8 + 1;
        if protocol.bounds.any_proposal {
            for list in state.present.subsets() {
                let next = Collector { at, round, list, ..blank };
                visit(step("proposes anything for round", newest + 1), then(next));
            }
        } else {
            let list = proposal(protocol, state);
            let next = Collector { at, round, list, ..blank };
            visit(step("proposes for round", newest + 1), then(next));
        }
    }
}

fn is_open(state: &State, session: usize) -> bool {
    state.sessions[session].is_some() && state.outcomes[session] == Outcome::Open
}

/// Places of resolved sessions that nobody needs, or that others stand in for.
fn proposal(protocol: &Protocol, state: &State) -> Set {
    let live = state.live();
    let is_owner_resolved = |place: usize| match place.checked_sub(2) {
        Some(session) => state.outcomes[session] != Outcome::Open,
        None if place == OLD => true,
        None => state.outcomes[protocol.repairer_session()] != Outcome::Open,
    };
    let mut list = Set::EMPTY;
    for place in state.present.each().filter(|place| is_owner_resolved(*place)) {
        let longer = list.and(Set::of(place));
        if is_dead(protocol, state, live, longer, place) {
            list = longer;
        }
    }
    list
}

/// Whether what `live` needs is there without a place, all of `list` being gone.
fn is_dead(protocol: &Protocol, state: &State, live: Set, list: Set, place: usize) -> bool {
    let pack = pack_in(place);
    let follow = |packs| {
        if protocol.is(Mutation::RelocationsNotFollowed) { packs } else { state.closure(packs) }
    };
    let mut needing = live
        .each()
        .filter_map(|number| state.snapshot(number))
        .filter(|snapshot| follow(snapshot.packs).has(pack))
        .peekable();
    if needing.peek().is_none() {
        return true;
    }
    let verdicts = state.verdicts.iter().flatten();
    let doomed = verdicts.fold(list, |all, verdict| all.and(*verdict));
    let doomed = if protocol.is(Mutation::DuplicateOfTheDoomed) { list } else { doomed };
    let others = places_of(pack).without(Set::of(place));
    if !others.within(state.present).without(doomed).is_empty() {
        return true;
    }
    let stays = |pack: usize| !places_of(pack).within(state.present).without(doomed).is_empty();
    let is_loose = protocol.is(Mutation::RelocationOfAnotherPlace);
    let is_trusting = protocol.is(Mutation::RelocationTrusted);
    let mut moved = state
        .relocations()
        .filter(|&(from, _)| from == place || is_loose && pack_in(from) == pack)
        .filter(|&(_, to)| stays(to) || is_trusting)
        .map(|(_, to)| state.contents(to))
        .peekable();
    if moved.peek().is_none() {
        return false;
    }
    let moved = moved.fold(Set::EMPTY, Set::and);
    protocol.is(Mutation::RelocatedMeansDead)
        || needing.all(|it| it.blobs.within(state.contents(pack)).without(moved).is_empty())
}

/// Waits for sessions that did not see the condemn list, or fences them.
fn resolve(protocol: &Protocol, state: &State, number: usize, visit: &mut dyn FnMut(Step, State)) {
    let me = state.collectors[number];
    let step = |action, object| Step { actor: "collector", number, action, object };
    let has_not_seen = |session: &usize| state.sessions[*session].is_some_and(|n| n < me.round);
    let mut waiting = false;
    for session in (0..protocol.session_count()).filter(has_not_seen) {
        if is_open(state, session) {
            waiting = true;
            if !protocol.is(Mutation::GraceTime) {
                let mut next = *state;
                next.outcomes[session] = Outcome::Fenced;
                visit(step("fences session", session), next);
            }
        }
    }
    for (reader, it) in state.readers.iter().enumerate().take(protocol.bounds.readers) {
        if it.is_announced && !it.is_fenced {
            let mut next = *state;
            next.readers[reader].is_fenced = true;
            visit(step("fences reader", reader), next);
        }
    }
    if !waiting || protocol.is(Mutation::GraceTime) {
        let mut next = *state;
        next.collectors[number].at = CollectorAt::MarkLive;
        visit(step("has resolved what began before round", me.round.into()), next);
    }
}

/// What open read sessions hold. Nobody is reading a snapshot whose object is gone.
fn held(protocol: &Protocol, state: &State) -> Set {
    if protocol.is(Mutation::HeldNotCounted) {
        return Set::EMPTY;
    }
    state.held().without(Set::first(INITIAL).without(state.objects))
}

/// Relocations of packs that none of `live` needs.
fn obsolete(state: &State, live: Set) -> Set {
    let snapshots = live.each().filter_map(|number| state.snapshot(number));
    let needed = snapshots.fold(Set::EMPTY, |all, it| all.and(state.closure(it.packs)));
    let all = state.relocations.iter().enumerate().filter(|(_, it)| it.is_put);
    let unneeded = all.filter(|(_, it)| !needed.has(pack_in(it.from.into())));
    unneeded.fold(Set::EMPTY, |all, (number, _)| all.and(Set::of(number)))
}

fn decided(protocol: &Protocol, state: &State, me: Collector) -> Collector {
    let condemned = state.condemned[usize::from(me.round) - 1].unwrap_or_default();
    let dead = condemned
        .each()
        .filter(|&place| is_dead(protocol, state, me.live, condemned, place))
        .fold(Set::EMPTY, |dead, place| dead.and(Set::of(place)));
    Collector { at: CollectorAt::Verdict, list: dead, live: Set::EMPTY, ..me }
}

/// Removes what the verdict names, one request at a time, then what no longer says anything.
fn sweep(protocol: &Protocol, state: &State, number: usize, visit: &mut dyn FnMut(Step, State)) {
    let me = state.collectors[number];
    let step = |action, object| Step { actor: "collector", number, action, object };
    let verdict = if protocol.is(Mutation::OwnVerdict) {
        me.list
    } else {
        state.verdicts[usize::from(me.round) - 1].unwrap_or_default()
    };
    let mut doomed = verdict;
    if protocol.is(Mutation::VerdictNamesPacks) {
        doomed = verdict.each().fold(doomed, |all, place| all.and(places_of(pack_in(place))));
    }
    let doomed = doomed.within(state.present);
    for place in doomed.each() {
        let present = state.present.without(Set::of(place));
        visit(step("removes place", place), State { present, ..*state });
    }
    // A stalled collector removes what another has removed already, and a late put brought back.
    let expired =
        if protocol.is(Mutation::RetiredObjectsRemovedAtOnce) { state.retired } else { me.expired };
    let expired = expired.within(state.objects);
    for snapshot in expired.each() {
        let objects = state.objects.without(Set::of(snapshot));
        visit(step("removes the object of snapshot", snapshot), State { objects, ..*state });
    }
    let verdicts = state.verdicts.iter().take(me.round.into()).flatten();
    let decided = verdicts.fold(Set::EMPTY, |all, verdict| all.and(*verdict));
    let early = protocol.is(Mutation::RelocationsRemovedEarly);
    for relocation in me.obsolete.each() {
        let mut next = *state;
        next.collectors[number].obsolete = me.obsolete.without(Set::of(relocation));
        let from = usize::from(state.relocations[relocation].from);
        if decided.has(from) || early {
            next.relocations[relocation].is_put = false;
            visit(step("removes relocation", relocation), next);
        } else {
            visit(step("keeps relocation", relocation), next);
        }
    }
    if doomed.is_empty() && expired.is_empty() && me.obsolete.is_empty() {
        let mut next = *state;
        next.collectors[number] = Collector {
            at: CollectorAt::Begin,
            list: Set::EMPTY,
            expired: Set::EMPTY,
            obsolete: Set::EMPTY,
            has_swept: true,
            ..me
        };
        for (session, outcome) in next.outcomes.iter_mut().enumerate() {
            let is_retired = state.retired.has(INITIAL + session);
            let is_freed = match outcome {
                Outcome::Fenced => protocol.is(Mutation::FencesFreed),
                Outcome::Snapshot(_) => is_retired && protocol.is(Mutation::CommitsFreed),
                Outcome::Open => false,
            };
            if is_freed {
                *outcome = Outcome::Open;
                next.retired = next.retired.without(Set::of(INITIAL + session));
            }
        }
        visit(step("has swept round", me.round.into()), next);
    }
}
