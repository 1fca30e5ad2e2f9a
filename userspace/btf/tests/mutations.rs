//! Real BTF, truncated and changed systematically. `cargo xtask fuzz` searches for more changes.

use std::{fs, path::Path};

use listentop_btf::KernelBtf;
use listentop_btf::exercise::exercise;

/// Parts of real kernels' BTF.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let entries = fs::read_dir(directory).expect("committed");
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            (path.display().to_string(), fs::read(&path).expect("readable"))
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn seeds_are_whole_and_answer() {
    let seeds = seeds();
    assert!(seeds.len() >= 5, "{} seeds", seeds.len());
    assert!(seeds.iter().map(|(_, data)| data.len()).sum::<usize>() < 200_000);
    for (name, data) in seeds {
        let btf = KernelBtf::parse(data).expect("valid");
        assert!(exercise(&btf) > 1, "{name}");
    }
}

#[test]
fn every_truncation_is_refused() {
    for (name, whole) in seeds() {
        for length in 0..whole.len() {
            assert!(KernelBtf::parse(whole[..length].to_vec()).is_err(), "{name}: {length} bytes");
        }
    }
}

/// Bytes changed one after the other, at distances that share no factor with the layout, so that each run of the loop
/// sees every kind of field.
#[test]
fn no_changed_byte_makes_it_panic_or_go_on_for_long() {
    for (_, whole) in seeds() {
        for (at, value) in (0..whole.len()).step_by(7).zip([0, 1, 0x7f, 0x80, 0xff, 4, 0x84].into_iter().cycle()) {
            let mut data = whole.clone();
            data[at] = value;
            if let Ok(btf) = KernelBtf::parse(data) {
                let _ = exercise(&btf);
            }
        }
    }
}

/// Words replaced by ids, offsets and lengths at the edges of what is valid: cycles, other kinds, other names.
#[test]
fn no_changed_word_makes_it_panic_or_go_on_for_long() {
    for (_, whole) in seeds() {
        let words = whole.len() / 4;
        let values = [0, 1, 2, words as u32 / 4, words as u32, 1 << 31, u32::MAX, 4 << 24 | 0xffff];
        for (word, value) in (2..words).step_by(5).zip(values.into_iter().cycle()) {
            let mut data = whole.clone();
            data[4 * word..4 * word + 4].copy_from_slice(&value.to_ne_bytes());
            if let Ok(btf) = KernelBtf::parse(data) {
                let _ = exercise(&btf);
            }
        }
    }
}
