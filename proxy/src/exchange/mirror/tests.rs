//! What a copy holds, and for how long.

use super::*;
use crate::http::body;

const KIB: usize = 1024;

fn data(length: usize) -> Result<Frame, BodyError> {
    Ok(Frame::Data(vec![b'x'; length].into()))
}

fn copied(inner: Body, limit: usize) -> (CopiedBody, Gathered) {
    let (gathering, gathered) = Gathering::new(limit);
    (CopiedBody { inner, gathering: Some(gathering) }, gathered)
}

async fn next(body: &mut CopiedBody) -> Option<Result<Frame, BodyError>> {
    std::future::poll_fn(|cx| body.poll_frame(cx)).await
}

#[tokio::test(start_paused = true)]
async fn a_copy_gets_the_body_when_it_has_passed_by_whole() {
    let (sender, inner) = body::channel();
    let (mut body, gathered) = copied(inner, 8);
    for length in [3, 5] {
        sender.send(data(length)).expect("it lives");
        assert!(matches!(next(&mut body).await, Some(Ok(Frame::Data(_)))));
    }
    drop(sender);
    assert!(next(&mut body).await.is_none());
    assert_eq!(gathered.whole().await.expect("whole").len(), 8);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_or_breaks_off_is_not_copied_and_passes_all_the_same() {
    for last in [data(1), Err(BodyError::Truncated)] {
        let (sender, inner) = body::channel();
        let (mut body, gathered) = copied(inner, 8);
        for frame in [data(8), last, data(64 * KIB)] {
            sender.send(frame).expect("it lives");
            assert!(next(&mut body).await.is_some());
        }
        assert_eq!(gathered.content.borrow().capacity(), 8, "nothing beyond is kept");
        assert!(gathered.whole().await.is_none());
    }
}

/// Whoever sends and whoever reads the body may both stand still: the place is free, and the memory too.
#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_open_holds_nothing_for_long() {
    let (sender, inner) = body::channel();
    let (mut body, gathered) = copied(inner, 64 * KIB);
    sender.send(data(10 * KIB)).expect("it lives");
    assert!(matches!(next(&mut body).await, Some(Ok(Frame::Data(_)))));
    let content = gathered.content.clone();
    let began = clock::now();
    assert!(gathered.whole().await.is_none());
    assert_eq!(clock::now() - began, PASSES_BY);
    assert_eq!(content.borrow().capacity(), 0);
    sender.send(data(10 * KIB)).expect("it lives");
    assert!(matches!(next(&mut body).await, Some(Ok(Frame::Data(_)))), "the request goes on");
    assert_eq!(content.borrow().capacity(), 0);
    drop(sender);
    assert!(next(&mut body).await.is_none());
}
