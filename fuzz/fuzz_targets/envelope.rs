#![no_main]

#[path = "../../tests/it/fuzz/envelope.rs"]
mod envelope;

#[path = "../../tests/it/fuzz/runtime.rs"]
mod runtime;

use runtime::block_on;

libfuzzer_sys::fuzz_target!(|data: &[u8]| envelope::check(data));
