//! A head that came by HTTP/2: it is one head in HTTP/1 too, no stranger's field passes for the mesh's word, and the
//! destination and the trace context that it names have one form.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::http::properties::check(data);
    weft_proxy::telemetry::traces::properties::check(data);
});
