//! The API server's questions: answered or refused, with a patch that makes the pod that was meant, and can be undone.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_control_plane::inject::properties::check(data));
