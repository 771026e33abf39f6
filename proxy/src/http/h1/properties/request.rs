//! Requests: a client's bytes in any pieces, and what is sent on of them.

use bytes::BytesMut;
use http::{HeaderValue, Method, header};

use super::{Kind, Message, check_trailers, expected_fields, read_back, read_in_any_pieces, write};
use crate::http::{
    Fields, RequestHead,
    fields::SpeltName,
    h1::{
        HeadError,
        encode::request_head,
        framing::BodyLength,
        parse::{self, HeadLimits, ParsedRequest, Progress},
    },
};

/// Requests on a client's connection.
pub(super) struct Requests;

impl Kind for Requests {
    type Head = ParsedRequest;

    fn parse(
        &self,
        buffer: &mut BytesMut,
        progress: &mut Progress,
        limits: HeadLimits,
    ) -> Result<Option<ParsedRequest>, HeadError> {
        parse::request(buffer, progress, limits)
    }

    fn length(head: &ParsedRequest) -> BodyLength {
        head.length
    }

    /// What follows a CONNECT is the tunnel's.
    fn is_last(head: &ParsedRequest) -> bool {
        !head.keep_alive || head.head.method == Method::CONNECT
    }
}

/// Checks a client's bytes: the same requests in any pieces, and each the same when it is sent on.
pub fn check(bytes: &[u8]) {
    for message in read_in_any_pieces(&Requests, bytes) {
        for length in framings(&message) {
            check_sent_on(&message, length);
        }
    }
}

/// The framings that the client codec may choose.
pub(super) fn framings(message: &Message<ParsedRequest>) -> Vec<BodyLength> {
    match message.content.len() as u64 {
        0 if message.head.head.method == Method::CONNECT => vec![BodyLength::Empty],
        0 => vec![BodyLength::Empty, BodyLength::Chunked],
        length => vec![BodyLength::Exact(length), BodyLength::Chunked],
    }
}

/// A request as the client codec writes it.
pub(super) fn sent_on(message: &Message<ParsedRequest>, length: BodyLength) -> Vec<u8> {
    let head = |out: &mut Vec<u8>| request_head(out, &message.head.head, length);
    write(head, length, &message.content, &message.trailers)
}

fn check_sent_on(sent: &Message<ParsedRequest>, length: BodyLength) {
    let bytes = sent_on(sent, length);
    let received = read_back(&Requests, &bytes);
    assert_eq!(received.head.length, length);
    assert_eq!(received.content, sent.content);
    check_trailers(&sent.trailers, length, &received.trailers);
    check_head(&sent.head.head, length, &received.head.head);
    // What was written once is written in the same way ever after.
    assert_eq!(
        sent_on(&received, length).escape_ascii().to_string(),
        bytes.escape_ascii().to_string()
    );
}

fn check_head(sent: &RequestHead, length: BodyLength, received: &RequestHead) {
    assert_eq!(received.method, sent.method);
    assert_eq!(received.target.path(), sent.target.path());
    assert_eq!(received.target.query(), sent.target.query());
    if sent.method == Method::CONNECT {
        assert_eq!(received.target.authority(), sent.target.authority());
    }
    let mut fields = expected_fields(&sent.headers, length);
    if !fields.contains_key(header::HOST) {
        fields = behind_host(added_host(sent), &fields);
    }
    assert_eq!(without_length(&received.headers), fields);
    assert_eq!(received.accepts_trailers, sent.accepts_trailers);
    let upgrade = sent.upgrade.as_ref().filter(|_| length == BodyLength::Empty);
    assert_eq!(received.upgrade.as_ref(), upgrade);
}

/// The Host of an HTTP/1.0 request that had none.
fn added_host(sent: &RequestHead) -> HeaderValue {
    let authority = sent.target.authority().map_or("", http::uri::Authority::as_str);
    HeaderValue::from_str(authority).expect("an authority is a value")
}

/// The same fields behind a Host that was added.
fn behind_host(host: HeaderValue, fields: &Fields) -> Fields {
    let mut all = Fields::new();
    all.append_spelt(SpeltName::of(header::HOST, b"Host"), host);
    for field in fields {
        all.append_spelt(field.spelt().clone(), field.value().clone());
    }
    all
}

fn without_length(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    fields.remove(header::CONTENT_LENGTH);
    fields
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_requests_is_read_and_sent_on_alike() {
        crate::replay::corpus("http1_request", super::check);
    }
}
