//! Parses any input, and runs every query on what is valid BTF. Nothing may panic, overflow or run for long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use listentop_btf::KernelBtf;
use listentop_btf::exercise::exercise;

fuzz_target!(|data: &[u8]| {
    if let Ok(btf) = KernelBtf::parse(data.to_vec()) {
        let _ = exercise(&btf);
    }
});
