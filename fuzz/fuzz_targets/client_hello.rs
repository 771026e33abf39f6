//! What a connection is, from its first bytes: the same in any pieces, in time, and TLS where rustls reads one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::detect::properties::check(data);
});
