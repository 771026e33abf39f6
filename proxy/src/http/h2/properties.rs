//! What must hold for any header blocks, one after the other on a connection.

use http::HeaderValue;

use super::{
    hpack::{Decoder, Encoder, Field, Name},
    received::ReceivedHead,
};

/// Bytes of a head in these checks.
const LIMIT: usize = 1024;

/// Checks blocks, each behind a byte that says how long it is: what is decoded makes a message or none, within the limit;
/// and it is the same after it was encoded and decoded again.
pub fn check(mut bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let (mut encoder, mut again) = (Encoder::new(), Decoder::new());
    while let Some((len, rest)) = bytes.split_first() {
        let (block, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        let mut fields = Vec::new();
        if decoder.decode(block, |field| fields.push(field)).is_err() {
            // The connection has ended.
            return;
        }
        check_messages(&fields);
        check_sent_on(&fields, &mut encoder, &mut again);
    }
}

fn received(fields: &[Field]) -> ReceivedHead {
    let mut received = ReceivedHead::default();
    fields.iter().for_each(|field| received.add(field.clone(), LIMIT));
    received
}

fn check_messages(fields: &[Field]) {
    let size: usize = fields.iter().map(Field::size).sum();
    assert_eq!(received(fields).size, size);
    let _ = received(fields).content_length();
    let kept = [
        received(fields).into_request().map(|request| request.fields),
        received(fields).into_response().map(|response| response.1),
        received(fields).into_trailers(),
    ];
    // A head is a request, a response or trailers, and never two of them.
    assert!(kept.iter().filter(|kept| kept.is_ok()).count() <= 1 || fields.is_empty());
    for kept in kept.into_iter().flatten() {
        let size: usize = kept.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(size <= LIMIT, "{size} bytes were kept");
    }
}

/// Encodes what this side would send on, and decodes it.
fn check_sent_on(fields: &[Field], encoder: &mut Encoder, decoder: &mut Decoder) {
    let sent: Vec<_> = fields
        .iter()
        .filter_map(|field| match (&field.name, &field.value) {
            (Name::Field(name), Some(value)) => Some((name.clone(), value.clone())),
            _ => None,
        })
        .collect();
    let mut block = Vec::new();
    encoder.begin(&mut block);
    sent.iter().for_each(|(name, value)| encoder.field(name, value, &mut block));
    let mut arrived = Vec::new();
    let decoded = decoder.decode(&block, |field| arrived.push(field));
    decoded.expect("what this side has encoded");
    assert_eq!(arrived.len(), sent.len());
    for (field, (name, value)) in arrived.iter().zip(&sent) {
        assert_eq!(field.name, Name::Field(name.clone()));
        assert_eq!(field.value.as_ref(), Some(value));
        let is_sensitive = field.value.as_ref().is_some_and(HeaderValue::is_sensitive);
        assert!(is_sensitive || !value.is_sensitive(), "{name} may be kept now");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_heads_is_decoded_and_sent_on() {
        crate::replay::corpus("http2_heads", super::check);
    }
}
