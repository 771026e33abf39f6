//! A client's HTTP/1 connection, read by hyper too: what is accepted means the same to both.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::http::h1::properties::against_hyper::check(data);
});
