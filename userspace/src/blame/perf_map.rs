//! Names that compilers at run time give their code, in a file of the process: a line for each piece, with its address
//! and size. Where code is gone, its line stays and other code takes its place: the last line is right.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{BufRead, BufReader, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

/// Of a longer file the beginning is read, in bytes: that is a million functions.
const LONGEST: u64 = 128 << 20;

/// The names of a process' code at these addresses; `None` if it has no such file.
pub(super) fn names(pid: u32, addresses: Vec<u64>) -> Option<HashMap<u64, String>> {
    if addresses.is_empty() {
        return None;
    }
    let path = format!("/proc/{pid}/root/tmp/perf-{}.map", own_id(pid));
    // The process may have put anything there: a pipe must not hold this up.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path);
    match file.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
        Ok((true, file)) => Some(named(BufReader::new(file.take(LONGEST)), addresses)),
        _ => None,
    }
}

/// The id that a process has in its own namespace, by which it names files.
fn own_id(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.and_then(|ids| ids.split_whitespace().last()?.parse().ok()).unwrap_or(pid)
}

/// Lines are `ADDRESS SIZE NAME`, with hexadecimal numbers.
fn named(file: impl BufRead, mut addresses: Vec<u64>) -> HashMap<u64, String> {
    addresses.sort_unstable();
    let mut names = HashMap::new();
    for line in file.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.splitn(3, ' ');
        let mut hexadecimal = || u64::from_str_radix(fields.next()?.trim_start_matches("0x"), 16).ok();
        let (Some(begin), Some(size)) = (hexadecimal(), hexadecimal()) else { continue };
        let Some(name) = fields.next() else { continue };
        let first = addresses.partition_point(|address| *address < begin);
        let within = addresses[first..].iter().take_while(|address| **address - begin < size);
        names.extend(within.map(|address| (*address, name.to_owned())));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_right() {
        let map =
            "1000 20 JS:~before a.js:1:1\n1000 10 JS:~after b.js:2:2\nffffffffffffffff 2 end\nnonsense\n3000 10\n\n";
        let names = named(map.as_bytes(), vec![0x1020, 0x1015, 0x1000, 0x3001, u64::MAX]);
        let name = |address| names.get(&address).map(String::as_str);
        assert_eq!(name(0x1000), Some("JS:~after b.js:2:2"));
        assert_eq!(name(0x1015), Some("JS:~before a.js:1:1"));
        assert_eq!((name(0x1020), name(0x3001), name(u64::MAX)), (None, None, Some("end")));
    }

    #[test]
    fn a_process_without_a_map_has_no_names() {
        assert_eq!(names(std::process::id(), vec![1]), None);
        assert_eq!(own_id(std::process::id()), std::process::id());
    }
}
