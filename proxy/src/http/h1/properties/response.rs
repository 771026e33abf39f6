//! Responses: a server's bytes in any pieces, and what is sent on of them.

use bytes::BytesMut;
use http::{Method, StatusCode, Version, header};

use super::{Kind, Message, check_trailers, expected_fields, read_back, read_in_any_pieces, write};
use crate::http::{
    Body,
    h1::{
        HeadError,
        encode::{Persistence, interim_head, response_head, response_length},
        framing::BodyLength,
        parse::{self, HeadLimits, ParsedResponse, Progress},
    },
};

/// Responses on a server's connection, to requests of one method.
struct Responses {
    method: Method,
}

impl Kind for Responses {
    type Head = ParsedResponse;

    fn parse(
        &self,
        buffer: &mut BytesMut,
        progress: &mut Progress,
        limits: HeadLimits,
    ) -> Result<Option<ParsedResponse>, HeadError> {
        parse::response(buffer, progress, limits, self.method == Method::HEAD)
    }

    fn length(head: &ParsedResponse) -> BodyLength {
        head.length
    }

    /// What follows a 101 is another protocol's.
    fn is_last(head: &ParsedResponse) -> bool {
        !head.keep_alive || head.head.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Checks a server's bytes, as answers to GET and to HEAD: the same responses in any pieces, and each the
/// same when it is sent on.
pub fn check(bytes: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        let kind = Responses { method };
        for message in read_in_any_pieces(&kind, bytes) {
            for length in kind.framings(&message) {
                kind.check_sent_on(&message, length);
            }
        }
    }
}

impl Responses {
    /// The framings that the server codec may choose.
    fn framings(&self, message: &Message<ParsedResponse>) -> Vec<BodyLength> {
        let body = Body::full(message.content.clone().into());
        let head = &message.head.head;
        let known = response_length(head, &body, &self.method, Version::HTTP_11);
        match self.has_content(head.status) {
            true => vec![known, BodyLength::Chunked, BodyLength::UntilClose],
            false => vec![known],
        }
    }

    fn has_content(&self, status: StatusCode) -> bool {
        let never = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        self.method != Method::HEAD && !never && !status.is_informational()
    }

    /// A response as the server codec writes it.
    fn sent_on(&self, message: &Message<ParsedResponse>, length: BodyLength) -> Vec<u8> {
        let sent = &message.head.head;
        let persistence = match length {
            BodyLength::UntilClose => Persistence::Close,
            BodyLength::Empty | BodyLength::Exact(_) | BodyLength::Chunked => Persistence::Implied,
        };
        let is_interim =
            sent.status.is_informational() && sent.status != StatusCode::SWITCHING_PROTOCOLS;
        let head = |out: &mut Vec<u8>| match is_interim {
            true => interim_head(out, sent),
            false => response_head(out, sent, length, persistence, &self.method),
        };
        write(head, length, &message.content, &message.trailers)
    }

    fn check_sent_on(&self, sent: &Message<ParsedResponse>, length: BodyLength) {
        let bytes = self.sent_on(sent, length);
        let received = read_back(self, &bytes);
        assert_eq!(received.head.length, length);
        assert_eq!(received.head.keep_alive, length != BodyLength::UntilClose);
        assert_eq!(received.content, sent.content);
        check_trailers(&sent.trailers, length, &received.trailers);
        self.check_head(sent, length, &received);
        // What was written once is written in the same way ever after.
        assert_eq!(
            self.sent_on(&received, length).escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }

    fn check_head(
        &self,
        sent: &Message<ParsedResponse>,
        length: BodyLength,
        received: &Message<ParsedResponse>,
    ) {
        let (sent, received) = (&sent.head.head, &received.head.head);
        assert_eq!(received.status, sent.status);
        assert_eq!(received.reason_phrase, sent.reason_phrase);
        assert_eq!(received.upgrade, sent.upgrade);
        let fields = expected_fields(&sent.headers, length);
        let mut others = received.headers.clone();
        let told = others.remove(header::CONTENT_LENGTH);
        assert_eq!(others, fields);
        let describes = self.method == Method::HEAD || sent.status == StatusCode::NOT_MODIFIED;
        if describes {
            assert_eq!(told.as_ref(), sent.headers.get(header::CONTENT_LENGTH));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_responses_is_read_and_sent_on_alike() {
        crate::replay::corpus("http1_response", super::check);
    }
}
