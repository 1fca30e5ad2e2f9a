//! Where tcp_v4_rcv and tcp_v6_rcv lie: a packet that is freed inside them was counted in the listener's `sk_drops`.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

/// A function's addresses, first and one past the last.
pub(super) type Range = (u64, u64);

/// Ranges of tcp_v4_rcv and tcp_v6_rcv; (0, 0) for what is not found or hidden (kernel.kptr_restrict).
pub(super) fn tcp_receive_ranges() -> [Range; 2] {
    File::open("/proc/kallsyms").map_or([(0, 0); 2], |file| ranges(BufReader::new(file)))
}

/// The core kernel's symbols are in ascending order of address, so a function ends where the next symbol begins.
fn ranges(mut symbols: impl BufRead) -> [Range; 2] {
    let mut found = [(0, 0); 2];
    let mut open: Option<usize> = None;
    let mut line = String::new();
    loop {
        line.clear();
        if symbols.read_line(&mut line).unwrap_or(0) == 0 {
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
        let index = match name {
            "tcp_v4_rcv" => 0,
            "tcp_v6_rcv" => 1,
            _ => continue,
        };
        if address != 0 {
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
    use super::ranges;

    #[test]
    fn a_function_ends_at_the_next_symbol() {
        let text = "10 T a\n20 T tcp_v4_rcv\n20 T alias\n40 t b\n50 T tcp_v6_rcv\n70 T c\n";
        assert_eq!(ranges(text.as_bytes()), [(0x20, 0x40), (0x50, 0x70)]);
    }

    #[test]
    fn hidden_addresses_are_not_ranges() {
        assert_eq!(ranges("0 T tcp_v4_rcv\n0 T b\n0 T tcp_v6_rcv\n".as_bytes()), [(0, 0), (0, 0)]);
    }
}
