//! Any input is parsed and, if it is BTF, queried for everything: no panic, no overflow, no endless work.

#![no_main]

use libfuzzer_sys::fuzz_target;
use listentop_btf::KernelBtf;

#[path = "../../tests/exercise/mod.rs"]
mod exercise;

fuzz_target!(|data: &[u8]| {
    if let Ok(btf) = KernelBtf::parse(data.to_vec()) {
        exercise::exercise(&btf);
    }
});
