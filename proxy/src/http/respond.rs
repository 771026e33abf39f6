//! The responses that the proxy itself makes.
//!
//! In comes why a request ended and who asked; out goes a response with the reason's status, the field
//! `weft-reason` and a line of text, or for gRPC a response of trailers only. Whoever is neither the local
//! application nor a verified peer learns the status and nothing else: never an address, an identity or a rule
//! of policy.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use time::{OffsetDateTime, Weekday};

use super::{Body, RequestHead, Response, ResponseHead, grpc, side};
use crate::{
    clock,
    error::{Delivery, ProxyError, Side},
};

/// Who reads a response, and so how much it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The application beside this proxy: the reason and all details.
    Local,
    /// A verified peer of the mesh: the reason, and whether the request reached the application.
    Mesh,
    /// Anybody else: the status.
    Stranger,
}

/// What of a request shapes the response to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// It is a gRPC call.
    pub grpc: bool,
    /// The response must have no content: HEAD.
    pub head_only: bool,
    /// The status, where it is not the reason's own.
    pub status: Option<StatusCode>,
}

impl From<&RequestHead> for Asked {
    fn from(head: &RequestHead) -> Self {
        let head_only = head.method == Method::HEAD;
        Self { grpc: head.is_grpc(), head_only, status: None }
    }
}

/// The response to a request that ended with this error. `Asked::default()` where no head could be read.
#[must_use]
pub fn respond(error: &ProxyError, asked: impl Into<Asked>, audience: Audience) -> Response {
    let asked = asked.into();
    let text = text(error, audience);
    let mut response =
        if asked.grpc { grpc_response(error, &text) } else { plain_response(error, text, asked) };
    let headers = &mut response.head.headers;
    headers.insert(header::DATE, date());
    if audience != Audience::Stranger {
        headers.insert(side::REASON, HeaderValue::from_static(error.reason.code()));
    }
    if audience == Audience::Mesh
        && error.delivery == Delivery::Nothing
        && error.side() != Side::Client
    {
        side::mark_not_delivered(headers);
    }
    response
}

fn plain_response(error: &ProxyError, text: String, asked: Asked) -> Response {
    let mut head = ResponseHead::new(asked.status.unwrap_or_else(|| error.status()));
    head.headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let line = format!("weft: {text}\n");
    let body = if asked.head_only { Body::Empty } else { Body::full(Bytes::from(line)) };
    Response::new(head, body)
}

/// A response of trailers only: one head that carries the status of the call.
fn grpc_response(error: &ProxyError, text: &str) -> Response {
    let mut head = ResponseHead::new(StatusCode::OK);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    grpc::put_status(&mut head.headers, error.grpc_status(), &format!("weft: {text}"));
    Response::new(head, Body::Empty)
}

fn text(error: &ProxyError, audience: Audience) -> String {
    let (code, meaning) = (error.reason.code(), error.reason.meaning());
    match audience {
        Audience::Local if !error.detail.is_empty() => {
            format!("{code}: {meaning} ({})", error.detail)
        }
        Audience::Local | Audience::Mesh => format!("{code}: {meaning}"),
        Audience::Stranger => {
            let status = error.status();
            status.canonical_reason().unwrap_or(status.as_str()).to_owned()
        }
    }
}

/// Now, as the field `Date` says it (RFC 9110 5.6.7).
fn date() -> HeaderValue {
    let seconds = i64::try_from(clock::since_epoch().as_secs()).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    HeaderValue::try_from(format_date(now)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn format_date(at: OffsetDateTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let weekday = match at.weekday() {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    };
    let month = MONTHS[usize::from(u8::from(at.month())) - 1];
    let mut text = String::with_capacity(29);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT",
        at.day(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::grpc_status,
        http::{Fields, Frame},
        reason::Reason,
    };

    const GRPC: Asked = Asked { grpc: true, head_only: false, status: None };

    async fn content(response: &mut Response) -> String {
        match response.body.frame().await {
            Some(Ok(Frame::Data(data))) => String::from_utf8(data.to_vec()).expect("text"),
            _ => String::new(),
        }
    }

    fn field<'a>(headers: &'a Fields, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[tokio::test]
    async fn every_reason_has_its_status_and_its_code() {
        for &reason in Reason::ALL {
            let error = ProxyError::new(reason, "because of 10.1.2.3");
            let mut response = respond(&error, Asked::default(), Audience::Local);
            assert_eq!(response.head.status, error.status());
            assert_eq!(field(&response.head.headers, "weft-reason"), Some(reason.code()));
            assert!(field(&response.head.headers, "date").is_some());
            let line = format!("weft: {}: {} (because of 10.1.2.3)\n", reason, reason.meaning());
            assert_eq!(content(&mut response).await, line);
        }
    }

    #[tokio::test]
    async fn grpc_calls_get_trailers_only() {
        for &reason in Reason::ALL {
            let error = ProxyError::new(reason, "100% gone");
            let response = respond(&error, GRPC, Audience::Local);
            assert_eq!(response.head.status, StatusCode::OK);
            assert!(response.body.is_end());
            assert_eq!(grpc::status(&response.head.headers), Some(grpc_status(reason)));
            let message = field(&response.head.headers, "grpc-message").expect("a message");
            assert!(message.ends_with("(100%25 gone)"), "{message}");
            assert_eq!(field(&response.head.headers, "weft-reason"), Some(reason.code()));
        }
    }

    #[tokio::test]
    async fn strangers_learn_the_status_only() {
        let error = ProxyError::new(Reason::StrictRequired, "spiffe://secret");
        let mut response = respond(&error, Asked::default(), Audience::Stranger);
        assert_eq!(response.head.status, StatusCode::FORBIDDEN);
        assert_eq!(content(&mut response).await, "weft: Forbidden\n");
        assert!(response.head.headers.keys().all(|name| !name.as_str().starts_with("weft-")));
        let response = respond(&error, GRPC, Audience::Stranger);
        assert_eq!(field(&response.head.headers, "grpc-message"), Some("weft: Forbidden"));
    }

    #[tokio::test]
    async fn peers_learn_the_reason_without_details_and_what_was_not_delivered() {
        for (error, marked) in [
            (ProxyError::new(Reason::ConnectRefused, "127.0.0.1:80"), true),
            (ProxyError::new(Reason::Draining, ""), true),
            (ProxyError::after_send(Reason::ConnectionLost, ""), false),
            (ProxyError::new(Reason::BadRequest, ""), false),
        ] {
            let mut response = respond(&error, Asked::default(), Audience::Mesh);
            let headers = &response.head.headers;
            assert_eq!(headers.contains_key("weft-not-delivered"), marked, "{error}");
            assert!(!content(&mut response).await.contains("127.0.0.1"));
        }
    }

    #[test]
    fn a_response_to_head_has_no_content() {
        let error = ProxyError::new(Reason::NoEndpoints, "");
        let asked = Asked { head_only: true, ..Asked::default() };
        assert!(respond(&error, asked, Audience::Local).body.is_end());
    }

    #[test]
    fn dates_are_imf_fixdates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_709_164_799, "Wed, 28 Feb 2024 23:59:59 GMT"),
        ] {
            let at = OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
            assert_eq!(format_date(at), text);
        }
    }
}
