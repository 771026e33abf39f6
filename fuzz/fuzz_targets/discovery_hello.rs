//! What a proxy tells the control plane: from whatever it holds, differences lead to what there is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    weft_control_plane::push::properties::check(data);
});
