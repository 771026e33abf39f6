//! A peer's HTTP/2 heads: header blocks that make messages or none, and are the same when they are sent on.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::http::h2::properties::check(data);
});
