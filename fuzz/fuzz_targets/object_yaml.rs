//! The operator's objects: read or refused with file and line, the same when written and read again, and a mesh that
//! proxies can use.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_control_plane::model::properties::check(data);
    weft_control_plane::index::properties::check(data);
});
