//! HPACK against the specification's examples, and against itself over made-up heads.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use proptest::{collection::vec, prelude::*};

use super::*;

/// A block's fields, `name: value` each.
fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| fields.push(shown(&field)))?;
    Ok(fields)
}

fn shown(field: &Field) -> String {
    let name = match &field.name {
        Name::Authority => ":authority",
        Name::Method => ":method",
        Name::Path => ":path",
        Name::Protocol => ":protocol",
        Name::Scheme => ":scheme",
        Name::Status => ":status",
        Name::Field(name) => name.as_str(),
        Name::Invalid(_) => "(invalid)",
    };
    let value = field.value.as_ref().map_or(&b"(invalid)"[..], HeaderValue::as_bytes);
    format!("{name}: {}", String::from_utf8_lossy(value))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16);
    digits.chunks(2).map(|digits| pair(digits).expect("hex")).collect()
}

/// RFC 7541 appendix C.4: requests on one connection, coded by Huffman's code.
#[test]
fn the_specifications_requests_are_decoded() {
    let mut decoder = Decoder::new();
    for (block, fields) in [
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            vec![":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
        ),
        (
            "8286 84be 5886 a8eb 1064 9cbf",
            vec![
                ":method: GET",
                ":scheme: http",
                ":path: /",
                ":authority: www.example.com",
                "cache-control: no-cache",
            ],
        ),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            vec![
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value",
            ],
        ),
    ] {
        assert_eq!(decoded(&mut decoder, &bytes(block)).expect("a block"), fields);
    }
}

/// RFC 7541 appendix C.6.1: a response, coded by Huffman's code.
#[test]
fn the_specifications_response_is_decoded() {
    let block =
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b
        ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    let fields = decoded(&mut Decoder::new(), &bytes(block)).expect("a block");
    assert_eq!(
        fields,
        [
            ":status: 302",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ]
    );
}

#[test]
fn what_is_no_hpack_is_refused() {
    for (block, why) in [
        ("80", "an index that no table has"),
        ("be", "an index that no table has"),
        ("ff ff ff ff ff 0f", "an integer too large"),
        ("ff", "an integer cut short"),
        ("40 05 61", "a string cut short"),
        ("82 20", "a size of the table inside a block"),
        ("3f e2 1f", "a table larger than it may be"),
        // Huffman's code: a byte of padding, padding of noughts, the end of the string inside it.
        ("40 82 1f ff 00", "more than a byte of padding"),
        ("40 81 18 00", "padding that is not ones"),
        ("40 84 ff ff ff ff 00", "a string with its end inside"),
    ] {
        let error = decoded(&mut Decoder::new(), &bytes(block)).expect_err(block);
        assert_eq!(error.0, why, "{block}");
    }
}

#[test]
fn what_no_message_has_is_told_and_the_block_goes_on() {
    // `X: b`, `a: CR`, `:x: b`, then `:method: GET`.
    let block = bytes("00 01 58 01 62  00 01 61 01 0d  00 02 3a 78 01 62  82");
    let fields = decoded(&mut Decoder::new(), &block).expect("a block");
    assert_eq!(fields, ["(invalid): b", "a: (invalid)", "(invalid): b", ":method: GET"]);
}

#[test]
fn a_table_of_another_size_is_said_and_kept_to() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (name, value) = (header::SERVER, HeaderValue::from_static("one"));
    for size in [4096, 0, 64, 4096] {
        encoder.set_max_size(0);
        encoder.set_max_size(size);
        for _ in 0..3 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.field(&name, &value, &mut block);
            assert_eq!(decoded(&mut decoder, &block).expect("a block"), ["server: one"]);
        }
    }
}

#[test]
fn what_lasts_is_one_byte_and_what_changes_does_not_push_it_out() {
    let mut encoder = Encoder::new();
    let lasting = [
        (header::USER_AGENT, HeaderValue::from_static("curl/8")),
        (HeaderName::from_static("x-team"), HeaderValue::from_static("shop")),
    ];
    let changing = HeaderName::from_static("x-request-id");
    let mut block = Vec::new();
    for round in 0..1000 {
        block.clear();
        encoder.begin(&mut block);
        for (name, value) in &lasting {
            encoder.field(name, value, &mut block);
        }
        if round > 0 {
            assert_eq!(block.len(), 2, "round {round}");
        }
        let value = HeaderValue::try_from(format!("{round:032}")).expect("a value");
        encoder.field(&changing, &value, &mut block);
    }
}

#[test]
fn secrets_are_never_kept() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut secret = HeaderValue::from_static("secret");
    secret.set_sensitive(true);
    for name in [header::SERVER, HeaderName::from_static("x-token")] {
        for _ in 0..2 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.field(&name, &secret, &mut block);
            assert_eq!(block[0] & 0xf0, 0x10);
            let mut sensitive = 0;
            let each = |field: Field| {
                sensitive += usize::from(field.value.expect("valid").is_sensitive());
            };
            decoder.decode(&block, each).expect("a block");
            assert_eq!(sensitive, 1);
        }
    }
}

fn fields() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let name = prop_oneof![
        proptest::sample::select(vec![
            header::ACCEPT,
            header::CONTENT_LENGTH,
            header::COOKIE,
            header::SERVER,
            header::VIA,
        ]),
        "x-[a-f]{1,12}".prop_map(|name| HeaderName::try_from(name).expect("a name")),
    ];
    let value = prop_oneof!["[a-c]{0,2}", "[ -~]{0,300}"]
        .prop_map(|value| HeaderValue::try_from(value).expect("a value"));
    vec((name, value), 0..12)
}

proptest! {
    #[test]
    fn heads_come_back_as_they_were_sent(
        heads in vec((fields(), proptest::option::of(0_u32..5000)), 1..40),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (fields, size) in heads {
            if let Some(size) = size {
                encoder.set_max_size(size);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.method(&Method::PUT, &mut block);
            encoder.authority("cart.shop", &mut block);
            encoder.path("/items", &mut block);
            encoder.status(StatusCode::CREATED, &mut block);
            let mut sent: Vec<_> = [":method: PUT", ":authority: cart.shop", ":path: /items", ":status: 201"]
                .map(str::to_owned)
                .into();
            for (name, value) in &fields {
                encoder.field(name, value, &mut block);
                sent.push(format!("{name}: {}", value.to_str().expect("text")));
            }
            prop_assert_eq!(decoded(&mut decoder, &block).expect("a block"), sent);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in vec(vec(any::<u8>(), 0..200), 1..5)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let _ = decoded(&mut decoder, &block);
            prop_assert!(decoder.size <= DEFAULT_TABLE_SIZE);
            let counted: usize = decoder.table.iter().map(|(_, size)| size).sum();
            prop_assert_eq!(decoder.size, counted);
        }
    }
}
