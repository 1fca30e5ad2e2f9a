//! Reads any input as a recording, and as the contents of its frames. Nothing may panic, overflow, run for long or take
//! much memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use listentop_recording::exercise::exercise;

fuzz_target!(|data: &[u8]| exercise(data));
