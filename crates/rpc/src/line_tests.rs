//! When a call counts as sent.

use super::*;
use crate::Method;
use floeberg_types::GroupId;
use futures::FutureExt as _;
use tokio_stream::StreamExt as _;

const PATIENCE: Duration = Duration::from_millis(5);

fn request(body: &'static [u8]) -> Request {
    Request {
        method: Method::Propose,
        group: GroupId::CATALOG,
        body: Bytes::from_static(body),
    }
}

fn line(settings: Settings) -> Arc<Line> {
    Arc::new(Line::new(settings))
}

fn begin(line: &Arc<Line>) -> Outbox {
    let mut outbox = line.begin(Frame { kind: None });
    let hello = outbox.next().now_or_never();
    assert_eq!(hello, Some(Some(Frame { kind: None })), "hello comes first");
    outbox
}

/// What the stream would send now.
fn next(outbox: &mut Outbox) -> Option<Frame> {
    outbox.next().now_or_never().flatten()
}

fn told(ticket: &mut Ticket) -> Answer {
    ticket.answer.try_recv().expect("the caller was told")
}

#[test]
fn a_call_is_sent_once_its_frame_is_taken() {
    let line = line(Settings::default());
    let mut outbox = begin(&line);
    let mut first = line.ask(request(b"1")).unwrap();
    assert_eq!(next(&mut outbox), None, "the handshake is not over");
    line.opened();
    assert!(next(&mut outbox).is_some());
    let mut second = line.ask(request(b"2")).unwrap();
    line.broken("cut");
    assert_eq!(told(&mut first), Err(CallError::lost("cut")));
    assert!(second.answer.try_recv().is_err(), "it waits for the next");
    line.unreachable(&CallError::not_sent("down"));
    assert_eq!(told(&mut second), Err(CallError::not_sent("down")));
}

#[test]
fn a_call_given_up_in_the_queue_is_never_sent() {
    let line = line(Settings::default());
    let mut outbox = begin(&line);
    let early = line.ask(request(b"1")).unwrap();
    let later = line.ask(request(b"2")).unwrap();
    let gave_up = line.give_up(early, PATIENCE);
    assert!(matches!(gave_up, Err(CallError::NotSent { .. })));
    line.opened();
    assert_eq!(next(&mut outbox), Some(wire::call(2, request(b"2"))));
    assert_eq!(next(&mut outbox), None);
    let gave_up = line.give_up(later, PATIENCE);
    assert!(matches!(gave_up, Err(CallError::Lost { .. })));
}

#[test]
fn an_answer_that_came_as_patience_ended_counts() {
    let line = line(Settings::default());
    let mut outbox = begin(&line);
    line.opened();
    let ticket = line.ask(request(b"1")).unwrap();
    assert!(next(&mut outbox).is_some());
    line.answered(1, Ok(Bytes::from_static(b"yes")));
    assert_eq!(
        line.give_up(ticket, PATIENCE),
        Ok(Bytes::from_static(b"yes"))
    );
}

#[test]
fn an_old_stream_takes_nothing_from_a_new_one() {
    let line = line(Settings::default());
    let mut old = begin(&line);
    line.opened();
    line.broken("cut");
    let mut new = begin(&line);
    line.opened();
    let _ticket = line.ask(request(b"1")).unwrap();
    assert_eq!(old.next().now_or_never(), Some(None), "the old one ends");
    assert!(next(&mut new).is_some());
}

#[test]
fn what_waits_is_bounded() {
    let settings = Settings {
        waiting_calls: 2,
        waiting_bytes: 3,
        ..Settings::default()
    };
    let crowded = line(settings);
    let _large = crowded.ask(request(b"larger than that")).unwrap();
    let refused = crowded.ask(request(b"x")).unwrap_err();
    assert!(matches!(refused, CallError::NotSent { .. }));
    let crowded = line(settings);
    let _first = crowded.ask(request(b"")).unwrap();
    let mut second = crowded.ask(request(b"")).unwrap();
    assert!(crowded.ask(request(b"")).is_err());
    crowded.close("stopped");
    assert_eq!(told(&mut second), Err(CallError::not_sent("stopped")));
    let closed = crowded.ask(request(b"")).unwrap_err();
    assert_eq!(closed, CallError::not_sent("stopped"));
}
