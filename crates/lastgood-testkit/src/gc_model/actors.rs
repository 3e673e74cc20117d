//! The steps of everybody but the collectors: `docs/format/commit.md`, sections 3, 4, 7 and 8.

use super::state::{
    COPY, INITIAL, OLD, Outcome, Reader, ReaderAt, Relocation, Repacker, RepackerAt, RepairerAt,
    Set, Snapshot, State, Writer, WriterAt, own, pack_in, places_of,
};
use super::{Mutation, Protocol, Step};

/// Snapshots are retired, and puts arrive late, whenever they like.
pub(super) fn store(protocol: &Protocol, state: &State, visit: &mut dyn FnMut(Step, State)) {
    let step = |action, object| Step { actor: "store", number: 0, action, object };
    for number in state.live().each() {
        let retired = state.retired.and(Set::of(number));
        visit(step("retires snapshot", number), State { retired, ..*state });
    }
    for place in state.ever_put.without(state.present).each() {
        let present = state.present.and(Set::of(place));
        visit(step("gets a pack once more", place), State { present, ..*state });
    }
    for writer in 0..protocol.bounds.writers {
        let Writer { at, attempt, snapshot, .. } = state.writers[writer];
        let session = protocol.writer_session(writer, attempt.into());
        if at == WriterAt::Done
            && !snapshot.packs.is_empty()
            && state.outcomes[session] == Outcome::Open
        {
            let mut next = *state;
            next.outcomes[session] = Outcome::Snapshot(snapshot);
            visit(step("gets a commit once more", session), next);
        }
    }
}

fn put_pack(protocol: &Protocol, state: &mut State, place: usize) {
    state.present = state.present.and(Set::of(place));
    if protocol.bounds.late_puts {
        state.ever_put = state.ever_put.and(Set::of(place));
    }
}

const NOTHING: Snapshot = Snapshot { blobs: Set::EMPTY, packs: Set::EMPTY };

/// A writer: announce, validate, load the lists, refer or store, commit.
pub(super) fn writer(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.writers[number];
    let session = protocol.writer_session(number, me.attempt.into());
    let newest = state.newest_round();
    let step = |action, object| Step { actor: "writer", number, action, object };
    let then = |next: Writer| {
        let mut state = *state;
        state.writers[number] = next;
        state
    };
    match me.at {
        WriterAt::Begin => {
            let next = Writer { at: WriterAt::Announce, round: newest, ..me };
            visit(step("reads the round", newest.into()), then(next));
        }
        WriterAt::Announce => {
            let validated = after_validation(me);
            let at =
                if protocol.is(Mutation::NoValidation) { validated } else { WriterAt::Validate };
            let mut next = then(Writer { at, ..me });
            next.sessions[session] = Some(me.round);
            visit(step("announces session", session), next);
        }
        WriterAt::Validate if newest == me.round => {
            let next = Writer { at: after_validation(me), ..me };
            visit(step("finds the round unchanged", newest.into()), then(next));
        }
        WriterAt::Validate => {
            // What a partial snapshot was to hold is carried on into the next attempt.
            let snapshot = if me.held.is_some() { me.snapshot } else { NOTHING };
            let next = begin_again(protocol, Writer { snapshot, ..me });
            visit(step("finds another round", newest.into()), then(next));
        }
        WriterAt::CommitPartial => {
            let held = me.held.expect("a partial snapshot is committed by the session before");
            let held = protocol.writer_session(number, held.into());
            let at = WriterAt::Load;
            let mut next = then(Writer { at, held: None, is_carrying: true, ..me });
            if state.outcomes[held] == Outcome::Open {
                next.outcomes[held] = Outcome::Snapshot(me.snapshot);
                visit(step("commits a partial snapshot in session", held), next);
            } else {
                visit(step("sees that a partial snapshot is fenced", held), next);
            }
        }
        WriterAt::Load => {
            let forbidden = state.forbidden(protocol, me.round);
            let at = if me.is_carrying { WriterAt::Recheck } else { WriterAt::Choose };
            visit(step("loads lists up to", me.round.into()), then(Writer { at, forbidden, ..me }));
        }
        WriterAt::Choose => choose(protocol, state, number, visit),
        WriterAt::Recheck => {
            let mut packs = me.snapshot.packs.each();
            let is_allowed = packs.all(|pack| state.may_refer_to(pack, me.forbidden));
            if is_allowed || protocol.is(Mutation::CarriedUnchecked) {
                let at = WriterAt::Commit;
                let next = Writer { at, forbidden: Set::EMPTY, ..me };
                visit(step("finds what it carries allowed", 0), then(next));
            } else {
                let next = Writer { at: WriterAt::Load, forbidden: Set::EMPTY, ..me };
                visit(step("waits for a verdict", 0), then(next));
                store_own(protocol, state, number, visit);
            }
        }
        WriterAt::Commit => {
            let is_open = state.outcomes[session] == Outcome::Open;
            if is_open || protocol.is(Mutation::BlindCommit) {
                let mut next = then(Writer { at: WriterAt::Done, ..me });
                next.outcomes[session] = Outcome::Snapshot(me.snapshot);
                visit(step("commits session", session), next);
            } else {
                let next = begin_again(protocol, Writer { snapshot: NOTHING, ..me });
                let next = Writer { is_carrying: false, ..next };
                visit(step("sees that it is fenced", session), then(next));
            }
            let is_last = usize::from(me.attempt) + 1 >= protocol.bounds.attempts;
            if protocol.bounds.partial && !me.is_carrying && !is_last {
                let held = Some(me.attempt);
                let next = begin_again(protocol, Writer { held, ..me });
                visit(step("opens its next session before a partial commit", session), then(next));
            }
        }
        WriterAt::Done => {}
    }
}

const fn after_validation(me: Writer) -> WriterAt {
    if me.held.is_some() { WriterAt::CommitPartial } else { WriterAt::Load }
}

/// The next attempt, or the end when there is none.
fn begin_again(protocol: &Protocol, me: Writer) -> Writer {
    if usize::from(me.attempt) + 1 < protocol.bounds.attempts {
        Writer { at: WriterAt::Begin, attempt: me.attempt + 1, round: 0, ..me }
    } else {
        Writer { at: WriterAt::Done, snapshot: NOTHING, held: None, ..me }
    }
}

/// A writer refers to a pack that holds its blob, stores it again, or takes over a baseline.
fn choose(protocol: &Protocol, state: &State, number: usize, visit: &mut dyn FnMut(Step, State)) {
    let me = state.writers[number];
    let step = |action, object| Step { actor: "writer", number, action, object };
    let then = |blobs, packs| {
        let mut next = *state;
        let snapshot = Snapshot { blobs, packs };
        next.writers[number] =
            Writer { at: WriterAt::Commit, forbidden: Set::EMPTY, snapshot, ..me };
        next
    };
    for place in state.present.without(me.forbidden).each() {
        let pack = pack_in(place);
        if State::wanted().without(state.contents(pack)).is_empty() {
            visit(step("refers to pack", pack), then(State::wanted(), Set::of(pack)));
        }
    }
    store_own(protocol, state, number, visit);
    if protocol.bounds.repackers == 0 {
        return;
    }
    for baseline in 0..INITIAL + protocol.session_count() {
        // Whether it is live is looked up after the lists were loaded.
        let is_live = !state.retired.has(baseline) || protocol.is(Mutation::RetiredBaseline);
        let Some(snapshot) = state.snapshot(baseline).filter(|_| is_live) else { continue };
        let packs = snapshot.packs.each().try_fold(Set::EMPTY, |all, pack| {
            Some(all.and(standing_for(protocol, state, me, pack)?))
        });
        if let Some(packs) = packs.filter(|packs| !packs.is_empty()) {
            visit(step("takes over snapshot", baseline), then(snapshot.blobs, packs));
        }
    }
}

/// What a writer names for a pack of its baseline: the pack itself when it may be referred to;
/// what relocations put in its place once a verdict has named it, since the round that decided so
/// saw that nothing is missing there; nothing when a relocation leads to what is gone, since no
/// round relied on that one; and none while it is undecided.
fn standing_for(protocol: &Protocol, state: &State, me: Writer, pack: usize) -> Option<Set> {
    if state.may_refer_to(pack, me.forbidden) {
        return Some(Set::of(pack));
    }
    let verdicts = state.verdicts.iter().take(me.round.into()).flatten();
    let decided = verdicts.fold(Set::EMPTY, |all, verdict| all.and(*verdict));
    let is_pending = !places_of(pack).within(me.forbidden.without(decided)).is_empty();
    let is_decided = !places_of(pack).within(decided).is_empty();
    if (is_pending || !is_decided) && !protocol.is(Mutation::UndecidedBaseline) {
        return None;
    }
    let mut moved = state.relocations().filter(|(from, _)| pack_in(*from) == pack);
    moved.try_fold(Set::EMPTY, |all, (_, to)| Some(all.and(standing_for(protocol, state, me, to)?)))
}

fn store_own(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.writers[number];
    let session = protocol.writer_session(number, me.attempt.into());
    let blobs = State::wanted();
    let mut next = *state;
    put_pack(protocol, &mut next, own(session));
    next.contents[session] = blobs;
    let snapshot = Snapshot { blobs, packs: Set::of(own(session)) };
    next.writers[number] = Writer { at: WriterAt::Commit, forbidden: Set::EMPTY, snapshot, ..me };
    let action = "stores pack";
    visit(Step { actor: "writer", number, action, object: own(session) }, next);
}

/// A write session that moves what is live in a pack and says where to.
pub(super) fn repacker(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.repackers[number];
    let session = protocol.repacker_session(number);
    let newest = state.newest_round();
    let step = |action, object| Step { actor: "repacker", number, action, object };
    let then = |next: Repacker| {
        let mut state = *state;
        state.repackers[number] = next;
        state
    };
    match me.at {
        RepackerAt::Begin => {
            let next = Repacker { at: RepackerAt::Announce, round: newest, ..me };
            visit(step("reads the round", newest.into()), then(next));
        }
        RepackerAt::Announce => {
            let mut next = then(Repacker { at: RepackerAt::Validate, ..me });
            next.sessions[session] = Some(me.round);
            visit(step("announces session", session), next);
        }
        RepackerAt::Validate => {
            let is_valid = newest == me.round;
            let at = if is_valid { RepackerAt::Load } else { RepackerAt::Done };
            visit(step("compares the round with", newest.into()), then(Repacker { at, ..me }));
        }
        RepackerAt::Load => {
            let forbidden = state.forbidden(protocol, me.round);
            let next = Repacker { at: RepackerAt::Mark, forbidden, ..me };
            visit(step("loads lists up to", me.round.into()), then(next));
        }
        RepackerAt::Mark => mark_pack(protocol, state, number, visit),
        RepackerAt::Store => {
            let mut relocate = |mut next: State, action, to: usize| {
                let from = me.from;
                next.relocations[number] = Relocation { is_put: false, from, to: to as u8 };
                let blank = Repacker { forbidden: Set::EMPTY, blobs: Set::EMPTY, from: 0, ..me };
                next.repackers[number] = Repacker { at: RepackerAt::Put, ..blank };
                visit(step(action, to), next);
            };
            for place in state.present.without(me.forbidden).each() {
                let pack = pack_in(place);
                let holds = me.blobs.without(state.contents(pack)).is_empty();
                if holds && pack != pack_in(me.from.into()) {
                    relocate(*state, "moves what is live to pack", pack);
                }
            }
            let mut next = *state;
            put_pack(protocol, &mut next, own(session));
            next.contents[session] = me.blobs;
            relocate(next, "moves what is live to its own pack", own(session));
        }
        RepackerAt::Put => {
            let mut next = then(Repacker { at: RepackerAt::End, ..me });
            next.relocations[number].is_put = true;
            visit(step("puts the relocation of session", session), next);
        }
        RepackerAt::End => {
            let mut next = then(Repacker { at: RepackerAt::Done, ..me });
            if state.outcomes[session] == Outcome::Open {
                next.outcomes[session] = Outcome::Fenced;
            }
            visit(step("ends its session", session), next);
        }
        RepackerAt::Done => {}
    }
}

/// Finds what is live in a pack that can be read.
fn mark_pack(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.repackers[number];
    let mut places = vec![OLD, COPY];
    places.extend((0..number).map(|other| own(protocol.repacker_session(other))));
    for place in places.into_iter().filter(|place| state.present.has(*place)) {
        let pack = pack_in(place);
        let needing = state.live().each().filter_map(|number| state.snapshot(number));
        let blobs = needing
            .filter(|snapshot| state.closure(snapshot.packs).has(pack))
            .fold(Set::EMPTY, |all, snapshot| all.and(snapshot.blobs))
            .within(state.contents(pack));
        if !blobs.is_empty() {
            let mut next = *state;
            let from = place as u8;
            next.repackers[number] = Repacker { at: RepackerAt::Store, from, blobs, ..me };
            let action = "finds what is live in place";
            visit(Step { actor: "repacker", number, action, object: place }, next);
        }
    }
}

/// A session that puts the first pack in another place, as repair and replication do.
pub(super) fn repairer(protocol: &Protocol, state: &State, visit: &mut dyn FnMut(Step, State)) {
    let (at, round) = state.repairer;
    let session = protocol.repairer_session();
    let newest = state.newest_round();
    let step = |action, object| Step { actor: "repairer", number: 0, action, object };
    let then = |at, round| State { repairer: (at, round), ..*state };
    match at {
        RepairerAt::Begin => {
            visit(step("reads the round", newest.into()), then(RepairerAt::Announce, newest));
        }
        RepairerAt::Announce => {
            let mut next = then(RepairerAt::Validate, round);
            next.sessions[session] = Some(round);
            visit(step("announces session", session), next);
        }
        RepairerAt::Validate => {
            let at = if newest == round { RepairerAt::Store } else { RepairerAt::Done };
            visit(step("compares the round with", newest.into()), then(at, 0));
        }
        RepairerAt::Store => {
            let mut next = then(RepairerAt::End, 0);
            put_pack(protocol, &mut next, COPY);
            visit(step("puts the pack in another place", COPY), next);
        }
        RepairerAt::End => {
            let mut next = then(RepairerAt::Done, 0);
            if state.outcomes[session] == Outcome::Open {
                next.outcomes[session] = Outcome::Fenced;
            }
            visit(step("ends its session", session), next);
        }
        RepairerAt::Done => {}
    }
}

/// A read session: announce, then look whether the snapshot is live, then read.
pub(super) fn reader(
    protocol: &Protocol,
    state: &State,
    number: usize,
    visit: &mut dyn FnMut(Step, State),
) {
    let me = state.readers[number];
    let snapshot = usize::from(me.snapshot);
    let step = |action, object| Step { actor: "reader", number, action, object };
    let then = |next: Reader| {
        let mut state = *state;
        state.readers[number] = next;
        state
    };
    match me.at {
        ReaderAt::Begin => {
            for snapshot in state.live().each() {
                let next = Reader { at: ReaderAt::Announce, snapshot: snapshot as u8, ..me };
                visit(step("chooses snapshot", snapshot), then(next));
            }
        }
        ReaderAt::Announce => {
            let is_early = protocol.is(Mutation::LivenessCheckedFirst);
            let at = if is_early { ReaderAt::Read } else { ReaderAt::Check };
            let next = Reader { at, is_announced: true, ..me };
            visit(step("announces that it reads", snapshot), then(next));
        }
        ReaderAt::Check => {
            let is_there = snapshot >= INITIAL || state.objects.has(snapshot);
            if is_there && !state.retired.has(snapshot) {
                let next = Reader { at: ReaderAt::Read, ..me };
                visit(step("begins to read", snapshot), then(next));
            } else {
                let next = Reader { at: ReaderAt::Done, ..me };
                visit(step("finds it retired", snapshot), then(next));
            }
        }
        ReaderAt::Read => {
            let next = Reader { at: ReaderAt::Done, is_fenced: true, ..me };
            visit(step("is done reading", snapshot), then(next));
        }
        ReaderAt::Done => {}
    }
}
