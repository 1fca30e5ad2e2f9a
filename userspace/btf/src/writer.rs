//! Writing BTF: made by hand for tests, or taken out of a kernel's.

use std::collections::HashMap;

/// The kind of a structure or union that is only declared, as include/uapi/linux/btf.h numbers it.
pub(crate) const FWD: u32 = 7;
/// In place of `vlen`: the kind flag is set.
pub(crate) const FLAG: u32 = 1 << 31;

/// Collects types.
pub(crate) struct Builder {
    strings: Vec<u8>,
    names: HashMap<Vec<u8>, u32>,
    types: Vec<Vec<u32>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], names: HashMap::new(), types: Vec::new() }
    }

    /// Offset of a name; 0 for the empty one.
    pub(crate) fn name(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        *self.names.entry(name.to_vec()).or_insert_with(|| {
            let at = self.strings.len() as u32;
            self.strings.extend_from_slice(name);
            self.strings.push(0);
            at
        })
    }

    /// Makes room for a type that is to be [set](Builder::set), and returns its id.
    pub(crate) fn reserve(&mut self) -> u32 {
        self.types.push(Vec::new());
        self.types.len() as u32
    }

    /// Sets a type: its name, kind and flag and vlen, size or type, and what follows.
    pub(crate) fn set(&mut self, id: u32, header: [u32; 3], body: &[u32]) {
        self.types[id as usize - 1] = [&header, body].concat();
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let types = self.types.concat();
        let (length, strings) = (types.len() as u32 * 4, self.strings.len() as u32);
        let header = [0, 24, 0, length, length, strings];
        let mut data: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
        data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        data[2] = 1;
        data.extend_from_slice(&self.strings);
        data
    }
}
