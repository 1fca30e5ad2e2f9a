//! Where the functions lie that count a packet in a listener's `sk_drops` when they free it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

/// A function's addresses, first and one past the last.
pub(crate) type Range = (u64, u64);

/// Those functions. tcp_v4_rcv and tcp_v6_rcv discard packets for a listener's requests. tcp_rcv_state_process discards
/// packets for the listener itself, such as a reset that comes when its connection has gone. It calls tcp_drop_reason
/// for that, unless the compiler has merged the two.
const FUNCTIONS: [&str; 4] = ["tcp_v4_rcv", "tcp_v6_rcv", "tcp_rcv_state_process", "tcp_drop_reason"];

/// Their ranges, in that order; (0, 0) for what is not found or hidden (kernel.kptr_restrict).
pub(crate) type Ranges = [Range; FUNCTIONS.len()];

/// Whether all that every kernel has are found.
pub(crate) fn known(ranges: &Ranges) -> bool {
    ranges[..3].iter().all(|range| range.1 != 0)
}

/// Reads the ranges.
pub(crate) fn discarding() -> Ranges {
    File::open("/proc/kallsyms").map_or(Ranges::default(), |file| ranges(BufReader::new(file)))
}

/// The core kernel's symbols come first and in ascending order of address, so a function ends where the next symbol
/// begins.
fn ranges(mut symbols: impl BufRead) -> Ranges {
    let mut found = Ranges::default();
    let mut open: Option<usize> = None;
    let mut line = String::new();
    loop {
        line.clear();
        // A module's symbols name it at the end.
        if symbols.read_line(&mut line).unwrap_or(0) == 0 || line.trim_end().ends_with(']') {
            break;
        }
        let mut parts = line.split_ascii_whitespace();
        let (Some(address), Some(_kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        if let Some(index) = open
            && address > found[index].0
        {
            found[index].1 = address;
            open = None;
        }
        if let Some(index) = FUNCTIONS.iter().position(|function| *function == name)
            && address != 0
        {
            found[index].0 = address;
            open = Some(index);
        }
        if found.iter().all(|range| range.1 != 0) {
            break;
        }
    }
    found.map(|range| if range.1 > range.0 { range } else { (0, 0) })
}

#[cfg(test)]
mod tests {
    use super::{Ranges, known, ranges};

    #[test]
    fn a_function_ends_at_the_next_symbol() {
        let text = "10 T a\n20 T tcp_v4_rcv\n20 T alias\n40 t b\n50 T tcp_v6_rcv\n70 T tcp_rcv_state_process\n90 T c\n\
                    95 t tcp_drop_reason\t[other]\n99 t d\t[other]\n";
        let found = ranges(text.as_bytes());
        assert_eq!(found, [(0x20, 0x40), (0x50, 0x70), (0x70, 0x90), (0, 0)]);
        assert!(known(&found));
        let found = ranges("10 t tcp_drop_reason\n20 t a\n".as_bytes());
        assert_eq!(found[3], (0x10, 0x20));
        assert!(!known(&found));
    }

    #[test]
    fn hidden_addresses_are_not_ranges() {
        let text = "0 T tcp_v4_rcv\n0 T b\n0 T tcp_v6_rcv\n0 T tcp_rcv_state_process\n0 T c\n";
        assert_eq!(ranges(text.as_bytes()), Ranges::default());
    }
}
