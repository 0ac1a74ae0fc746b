#![no_main]

#[path = "../../tests/it/fuzz/redactor.rs"]
mod redactor;

libfuzzer_sys::fuzz_target!(|data: &[u8]| redactor::check(data));
