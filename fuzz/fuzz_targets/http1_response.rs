//! A server's HTTP/1 connection: the same responses in any pieces, and each the same when it is sent on.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::http::h1::properties::response::check(data);
});
