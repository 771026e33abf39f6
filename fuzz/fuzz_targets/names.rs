//! Names that come as text: an identity, a service, a port, a TLS server name, a join token.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proto::properties::check(data);
});
