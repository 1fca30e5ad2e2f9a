//! The kernel's own library, which it maps into each process: it is in no file, and the same in all.

use std::sync::{Arc, OnceLock};

use super::{elf::Tables, process::Mapping};

/// Its tables; `None` if this process has none.
pub(super) fn tables() -> Option<Arc<Tables>> {
    static TABLES: OnceLock<Option<Arc<Tables>>> = OnceLock::new();
    TABLES.get_or_init(|| Tables::parse(bytes()?).map(Arc::new)).clone()
}

fn bytes() -> Option<&'static [u8]> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let own = maps.lines().filter_map(Mapping::line).find(|mapping| mapping.path == "[vdso]")?;
    let (begin, end) = (own.addresses.start as usize, own.addresses.end as usize);
    // SAFETY: the kernel has mapped these bytes, which never change, for as long as the process lives; nobody unmaps
    // them.
    Some(unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(begin), end.checked_sub(begin)?) })
}
