#![no_main]

#[path = "../../tests/it/fuzz/known_hosts.rs"]
mod known_hosts;

libfuzzer_sys::fuzz_target!(|data: &[u8]| known_hosts::check(data));
