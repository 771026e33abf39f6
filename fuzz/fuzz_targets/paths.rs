//! A request's path: whatever an application makes of it is among the readings that access rules see.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_proxy::policy::operation::path::properties::check(data);
});
