//! BTF that has little more than some names, for readers that make an object of each type.

use crate::{KernelBtf, index::Index};

/// In an excerpt, what has no name is a structure that is only declared, as include/uapi/linux/btf.h numbers it: the
/// shortest kind of type.
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
/// Bytes of a type without parts.
const LENGTH: usize = 12;

impl KernelBtf {
    /// BTF in which only the functions and typedefs of these names have one, and no type has parts. Each type has the
    /// number that it has in the kernel; those behind the last with a name are left out.
    #[must_use]
    pub fn excerpt<Name: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = Name>) -> Vec<u8> {
        let types = &self.types;
        let functions = self.functions.get_or_init(|| Index::new(types, types.named(&types.families().functions)));
        let typedefs = self.typedefs.get_or_init(|| Index::new(types, types.named(&types.families().typedefs)));
        let (mut found, mut strings) = (Vec::new(), vec![0]);
        for name in names {
            let name = name.as_ref();
            let at = strings.len() as u32;
            strings.extend_from_slice(name);
            strings.push(0);
            for (index, kind) in [(functions, FUNC), (typedefs, TYPEDEF)] {
                let is_named = |id: &u32| types.header(*id).is_ok_and(|header| types.is_named(header.name, name));
                found.extend(index.candidates(name).filter(is_named).map(|id| (id, type_of(at, kind))));
            }
        }
        let last = found.iter().map(|(id, _)| *id).max().unwrap_or(0) as usize;
        let mut all = type_of(0, FWD).repeat(last);
        for (id, named) in found {
            // 0 is void, and not written.
            all[(id as usize - 1) * LENGTH..][..LENGTH].copy_from_slice(&named);
        }
        let (length, names) = (all.len() as u32, strings.len() as u32);
        let mut data: Vec<u8> = [0, 24, 0, length, length, names].into_iter().flat_map(u32::to_ne_bytes).collect();
        data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        data[2] = 1;
        data.extend_from_slice(&all);
        data.extend_from_slice(&strings);
        data
    }
}

fn type_of(name: u32, kind: u32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&name.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(kind << 24).to_ne_bytes());
    bytes
}
