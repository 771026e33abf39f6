//! A peer's certificate, and a signing request: one identity, and a key only with its proof.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::tls::properties::check(data);
    weft_control_plane::ca::properties::check(data);
});
