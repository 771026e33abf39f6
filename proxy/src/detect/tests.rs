//! What first bytes are taken for, whole and in pieces.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// An extension's number and content.
type Extension = (u16, Vec<u8>);

/// A ClientHello message's body with these extensions.
fn hello_body(extensions: &[Extension]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0); // session id
    body.extend([0, 2, 0x13, 0x01]); // one cipher suite
    body.extend([1, 0]); // no compression
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(block16(content));
    }
    body.extend(block16(&list));
    body
}

fn block16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&length.to_be_bytes(), content].concat()
}

fn server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let entry = [&[0], block16(name).as_slice()].concat();
    (0, block16(&entry))
}

fn alpn(protocols: &[&[u8]]) -> (u16, Vec<u8>) {
    let list = protocols
        .iter()
        .flat_map(|protocol| [&[u8::try_from(protocol.len()).unwrap()], *protocol].concat())
        .collect::<Vec<_>>();
    (16, block16(&list))
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[1..], body].concat()
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|piece| [&[22, 3, 1], block16(piece).as_slice()].concat())
        .collect()
}

fn tls(server_name: Option<&str>, alpn: &[&str]) -> Detected {
    Detected::Tls(ClientHello {
        server_name: server_name.map(str::to_owned),
        alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    })
}

/// Feeds the stream byte by byte: `NeedMore` until the answer, and the same answer ever after.
fn detect_in_pieces(stream: &[u8]) -> (usize, Detected) {
    let mut answer = (0, Detected::NeedMore);
    for length in 0..=stream.len() {
        let now = detect(&stream[..length]);
        if answer.1 == Detected::NeedMore {
            answer = (length, now);
        } else {
            assert_eq!(answer.1, now, "the answer changed at byte {length}");
        }
    }
    answer
}

#[test]
fn protocols_are_told_from_their_first_bytes() {
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000));
    let http1: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/1.0\n\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"get /x?y=%20&z=\xc3\xa4 HTTP/1.1\r\n",
        b"GET http://cart.shop/items HTTP/1.1\r\n",
        b"CONNECT cart.shop:80 HTTP/1.1\r\n",
        b"CONNECT [::1]:80 HTTP/1.1\r\n",
        b"PRI /a HTTP/1.1\r\n",
        b"PRI * HTTP/1.1\r\n",
        b"VERSION-CONTROL /a HTTP/1.1\r\n",
        // Malformed, and yet read by some server.
        b"\r\nGET / HTTP/1.1\r\n",
        b"\n\n \r\nGET / HTTP/1.1\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET\t/\x0bHTTP/1.1\r\n",
        b"GET\xa0/\xa0HTTP/1.1\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET / http/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET a HTTP/1.1\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET / HTTP/1.1\n",
        b"A-METHOD-THAT-IS-LONGER-THAN-32-BYTES / HTTP/1.1\r\n",
        long.as_bytes(),
    ];
    for stream in http1 {
        let name = String::from_utf8_lossy(&stream[..stream.len().min(40)]);
        assert_eq!(detect(stream), Detected::Http1, "{name}");
    }
    let preface = [HTTP2_PREFACE, b"\0\0\x12\x04"].concat();
    assert_eq!(detect(&preface), Detected::Http2);
}

#[test]
fn other_protocols_are_opaque_as_soon_as_their_bytes_prove_it() {
    // The bytes, and after how many the answer must stand.
    let table: &[(&[u8], usize)] = &[
        (b"*1\r\n$4\r\nPING\r\n", 3),                // Redis
        (b"PING\r\n", 5),                            // Redis, inline
        (b"SET key value\r\n", 15),                  // Redis, inline
        (b"SET /key HTTP\r\n", 15),                  // Redis, inline, as mean as can be
        (b"get /key\r\n", 10),                       // memcached
        (b"set http/1 0 0 5\r\n", 18),               // memcached
        (b"\0\0\0\x08\x04\xd2\x16\x2f", 1),          // PostgreSQL SSLRequest
        (b"\x20\0\0\x01\x85\xa6\xff\x01", 2),        // MySQL
        (b"0\x0c\x02\x01\x01`\x07\x02\x01", 3),      // LDAP
        (b"EHLO mail.example\r\n", 19),              // SMTP
        (b"a1 LOGIN user pass\r\n", 20),             // IMAP
        (b"SSH-2.0-OpenSSH_9.6\r\n", 20),            // SSH
        (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", 29),    // RTSP
        (b"INVITE sip:bob@example SIP/2.0\r\n", 32), // SIP
        (b"CONNECT {\"verbose\":false}\r\n", 27),    // NATS
        (b"CONNECT\naccept-version:1.2\n", 8),       // STOMP
        (b"AMQP\0\0\x09\x01", 5),                    // AMQP
        (b"\x10\x0c\0\x04MQTT", 1),                  // MQTT
        (b"\n\x05hello", 2),                         // a delimited protobuf
        (b"{\"jsonrpc\":\"2.0\"}", 1),               // JSON
        (b"GET /\r\n", 7),                           // HTTP/0.9
        (b"\x16\x02\0\0\x10\x01", 2),                // no TLS version
        (b"\x16\x03\x01\0\0", 5),                    // an empty record
        (b"\x16\x03\x01\xff\xff", 5),                // too long a record
        (b"\x16\x03\x01\0\x10\x02", 6),              // a ServerHello
        (b"\x16\x03\x01\0\x10\x01\x01\0\0", 7),      // 64 KiB and more
        (b"\x16\x03\x01\0\x10\x01\0\x40\x01", 9),    // 16 KiB and a byte
        (b"\x80\x2e\x01\x03\x01", 1),                // SSLv2
    ];
    for (stream, length) in table {
        let name = stream.escape_ascii();
        assert_eq!(detect_in_pieces(stream), (*length, Detected::Opaque), "{name}");
    }
}

#[test]
fn a_hello_gives_its_server_name_and_protocols() {
    let table = [
        (vec![], tls(None, &[])),
        (vec![server_name(b"8080.weft.internal")], tls(Some("8080.weft.internal"), &[])),
        (vec![server_name(b"Cart.SHOP")], tls(Some("cart.shop"), &[])),
        (vec![alpn(&[b"weft-h2/1", b"h2"])], tls(None, &["weft-h2/1", "h2"])),
        (vec![(43, vec![2, 3, 4]), server_name(b"a"), alpn(&[b"h2"])], tls(Some("a"), &["h2"])),
        // A name of another kind is passed over.
        (vec![(0, block16(&[7, 0, 1, b'x']))], tls(None, &[])),
    ];
    for (extensions, expected) in table {
        let stream = records(&message(&hello_body(&extensions)), 16_384);
        assert_eq!(detect(&stream), expected);
        let answered = detect_in_pieces(&stream);
        assert_eq!(answered, (stream.len(), expected.clone()), "in 1-byte pieces");
        let stream = records(&message(&hello_body(&extensions)), 2);
        assert_eq!(detect(&stream), expected, "in records of 2 bytes");
    }
    let mut without_extensions = hello_body(&[]);
    without_extensions.truncate(without_extensions.len() - 2);
    assert_eq!(detect(&records(&message(&without_extensions), 100)), tls(None, &[]));
}

#[test]
fn a_malformed_hello_is_opaque() {
    let two_names = block16(&[0, 0, 1, b'a', 0, 0, 1, b'b']);
    let table: Vec<(&str, Vec<Extension>)> = vec![
        ("an empty name", vec![server_name(b"")]),
        ("a name with NUL", vec![server_name(b"a\0b")]),
        ("a name with a blank", vec![server_name(b"a b")]),
        ("a name too long", vec![server_name(&[b'a'; 256])]),
        ("two host names", vec![(0, two_names)]),
        ("no names", vec![(0, block16(&[]))]),
        ("bytes after the names", vec![(0, [block16(&[0, 0, 1, b'a']), vec![0]].concat())]),
        ("the name's extension twice", vec![server_name(b"a"), server_name(b"a")]),
        ("ALPN twice", vec![alpn(&[b"h2"]), alpn(&[b"h2"])]),
        ("an empty protocol", vec![alpn(&[b""])]),
        ("no protocols", vec![(16, block16(&[]))]),
        ("a protocol cut off", vec![(16, block16(&[9, b'h']))]),
    ];
    for (what, extensions) in table {
        let stream = records(&message(&hello_body(&extensions)), 16_384);
        assert_eq!(detect(&stream), Detected::Opaque, "{what}");
    }
}

#[test]
fn a_hello_cut_short_at_any_length_is_never_taken_for_whole() {
    let body = hello_body(&[server_name(b"80.weft.internal"), alpn(&[b"h2"])]);
    // The message says that it is shorter: no cut is a valid hello, but at the end of the compression list,
    // where extensions are absent.
    let no_extensions = 2 + 32 + 1 + 4 + 2;
    for length in 0..body.len() {
        let answer = detect(&records(&message(&body[..length]), 16_384));
        let expected = if length == no_extensions { tls(None, &[]) } else { Detected::Opaque };
        assert_eq!(answer, expected, "cut at {length}");
    }
}

#[test]
fn a_hello_beyond_the_bounds_is_opaque() {
    let padding = |length: usize| vec![(21, vec![0; length])];
    let fits = hello_body(&padding(MAX_HELLO_BYTES - hello_body(&padding(0)).len()));
    assert_eq!(fits.len(), MAX_HELLO_BYTES);
    assert_eq!(detect(&records(&message(&fits), 16_384)), tls(None, &[]));
    assert_eq!(detect(&records(&message(&fits), 100)), tls(None, &[]));
    // In records of one byte the message is six times as long: given up on at the bound.
    let dribble = records(&message(&fits), 1);
    assert_eq!(detect(&dribble[..MAX_RECORDS_BYTES - 1]), Detected::NeedMore);
    assert_eq!(detect(&dribble[..MAX_RECORDS_BYTES]), Detected::Opaque);
}

#[test]
fn a_real_post_quantum_hello_is_read() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"weft-h2/1".to_vec(), b"h2".to_vec()];
    let name = "8080.weft.internal".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = Vec::new();
    client.write_tls(&mut stream).unwrap();
    assert!(stream.len() > 1_216, "a post-quantum key share is in it");
    let expected = tls(Some("8080.weft.internal"), &["weft-h2/1", "h2"]);
    assert_eq!(detect_in_pieces(&stream), (stream.len(), expected));
}

proptest! {
    #[test]
    fn no_input_panics_or_changes_its_answer(stream in proptest::collection::vec(any::<u8>(), 0..300)) {
        detect_in_pieces(&stream);
    }

    #[test]
    fn no_handshake_record_panics_or_changes_its_answer(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        size in 1_usize..50,
    ) {
        detect_in_pieces(&records(&message(&body), size));
    }

    #[test]
    fn a_flipped_byte_in_a_hello_never_panics(at in 0_usize..200, to in any::<u8>()) {
        let body = hello_body(&[server_name(b"80.weft.internal"), alpn(&[b"h2", b"http/1.1"])]);
        let mut stream = records(&message(&body), 40);
        let at = at % stream.len();
        stream[at] = to;
        detect_in_pieces(&stream);
    }

    #[test]
    fn any_request_line_is_http1(method in "[A-Z]{1,60}", path in "[!-~]{1,60}", minor in 0_u8..10) {
        let line = format!("{method} {path} HTTP/1.{minor}\r\n");
        prop_assert_eq!(detect_in_pieces(line.as_bytes()), (line.len(), Detected::Http1));
    }

    #[test]
    fn lines_of_words_without_the_version_are_opaque(line in "[ -~]{1,80}") {
        prop_assume!(!line.to_ascii_uppercase().contains("HTTP/"));
        // Empty lines may stand before a request (RFC 9112 2.2).
        prop_assume!(!line.trim().is_empty());
        let line = format!("{line}\r\n");
        prop_assert_eq!(detect(line.as_bytes()), Detected::Opaque);
    }
}

#[test]
fn settings_are_told_from_what_other_servers_say_first() {
    let settings = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    for count in 0..settings.len() {
        let expected = (count >= 9).then_some(true);
        assert_eq!(is_http2_server(&settings[..count]), expected, "{count} bytes");
    }
    let empty = b"\0\0\0\x04\0\0\0\0\0";
    assert_eq!(is_http2_server(empty), Some(true));
    let others: [&[u8]; 7] = [
        b"220 ready\r\n",
        b"J\0\0\0\n8.0.36",
        b"\0\0\x13\x04\0\0\0\0\0",
        b"\0\x04",
        b"\0\0\x12\x04\x01\0\0\0\0",
        b"\0\0\x12\x04\0\0\0\0\x01",
        b"\0\0\x12\x07",
    ];
    for other in others {
        assert_eq!(is_http2_server(other), Some(false), "{other:?}");
    }
}
