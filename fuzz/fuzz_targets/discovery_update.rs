//! What the control plane tells a proxy: in force whole, or refused, and never what the data path cannot use.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::discovery::properties::check(data);
});
