use lastgood_backend::ErrorKind;
use lastgood_repo::{Settings, WriteSession};
use lastgood_testkit::faulty::{Calls, Failure, Moment};

use crate::place::Place;

/// Gc waits for a session without an outcome, or fences it after a long time.
#[test]
fn a_session_that_cannot_begin_is_fenced() {
    let calls = {
        let place = Place::new();
        let before = place.faulty.call_count();
        let session = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]).unwrap();
        assert_eq!(place.names("outcomes/"), [""; 0]);
        let calls = before..place.faulty.call_count();
        drop(session);
        calls
    };
    assert!(calls.end - calls.start >= 4, "listing, announcing, listing, taking stock");
    let mut announced = 0;
    for call in calls {
        for moment in [Moment::Before, Moment::After] {
            let place = Place::new();
            place.faulty.fail(Failure { calls: Calls::One(call), moment, kind: ErrorKind::Failed });
            let begun = WriteSession::begin(&place.repo, Settings::default(), &[1; 16]);
            assert!(begun.is_err(), "call {call} failed {moment:?}");
            let sessions = place.names("sessions/");
            announced += sessions.len();
            for session in sessions {
                assert!(place.names("outcomes/").contains(&session), "call {call} {moment:?}");
            }
        }
    }
    assert!(announced >= 3, "the session was announced in {announced} of the runs");
}
