#![no_main]

#[path = "../../tests/it/fuzz/output_buffer.rs"]
mod output_buffer;

#[path = "../../tests/it/fuzz/runtime.rs"]
mod runtime;

use runtime::block_on;

libfuzzer_sys::fuzz_target!(|data: &[u8]| output_buffer::check(data));
