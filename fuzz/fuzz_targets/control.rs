#![no_main]

#[path = "../../tests/it/fuzz/control.rs"]
mod control;

#[path = "../../tests/it/fuzz/runtime.rs"]
mod runtime;

use runtime::block_on;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control::check(data));
