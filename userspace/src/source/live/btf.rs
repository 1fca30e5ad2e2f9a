//! A reader of the kernel's BTF (Documentation/bpf/btf.rst): offsets, enum values and signatures by name.
//!
//! aya keeps its BTF types private and the general crates take longer than everything else at start, so this is the
//! little that is needed. Every access is bounds-checked: BTF is input.

use std::{collections::HashMap, path::Path};

/// Where the kernel puts its own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why BTF could not be read, or what it does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The file is no BTF, or is cut off.
    #[error("not valid BTF: {0}")]
    Malformed(&'static str),
    /// This kernel has no such type, member or enumerator.
    #[error("this kernel's BTF has no {0}")]
    Missing(String),
}

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_PTR: u32 = 2;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Members may nest and qualifiers may chain; a file that does so deeper than this is refused rather than followed.
const MAX_DEPTH: u32 = 32;

/// A member's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Offset in bits from the start of the outermost structure.
    pub bits: u32,
}

impl Member {
    /// Offset in whole bytes.
    #[must_use]
    pub fn byte(self) -> u32 {
        self.bits / 8
    }

    /// For a bit field of one bit: its position within that byte.
    #[must_use]
    pub fn bit(self) -> u32 {
        self.bits % 8
    }
}

/// BTF, indexed by type id and by name.
pub struct KernelBtf {
    data: Vec<u8>,
    strings: usize,
    strings_end: usize,
    types: Vec<u32>,
    structs: HashMap<u64, u32>,
    enums: Vec<u32>,
    typedefs: HashMap<u64, u32>,
}

struct Header {
    at: usize,
    name: u32,
    kind: u32,
    vlen: u32,
    kind_flag: bool,
    size_or_type: u32,
}

impl KernelBtf {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// [`BtfError::Io`] if there is none (CONFIG_DEBUG_INFO_BTF) or it may not be read; [`BtfError::Malformed`].
    pub fn from_kernel() -> Result<Self, BtfError> {
        Self::from_file(Path::new(VMLINUX))
    }

    /// Reads a BTF file.
    ///
    /// # Errors
    /// As [`KernelBtf::from_kernel`].
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let data = std::fs::read(path).map_err(|source| BtfError::Io { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    /// Indexes BTF. Little- or big-endian as the machine that runs this, like the kernel's own.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] if a section, type or name reaches outside the data.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let word = |at: usize| -> Option<usize> {
            Some(u32::from_ne_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?) as usize)
        };
        let field = |at| word(at).ok_or(BtfError::Malformed("the header is cut off"));
        if data.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            return Err(BtfError::Malformed("the magic number is wrong"));
        }
        let (length, types, types_length) = (field(4)?, field(8)?, field(12)?);
        let (strings, strings_length) = (field(16)?, field(20)?);
        let end = |start: usize, length: usize| start.checked_add(length).filter(|end| *end <= data.len());
        let outside = BtfError::Malformed("a section lies outside the file");
        let (Some(types_at), Some(strings_at)) = (length.checked_add(types), length.checked_add(strings)) else {
            return Err(outside);
        };
        let (Some(types_end), Some(strings_end)) = (end(types_at, types_length), end(strings_at, strings_length))
        else {
            return Err(outside);
        };
        let mut btf = Self {
            strings: strings_at,
            strings_end,
            types: vec![0],
            structs: HashMap::new(),
            enums: Vec::new(),
            typedefs: HashMap::new(),
            data,
        };
        btf.index(types_at, types_end)?;
        Ok(btf)
    }

    fn index(&mut self, mut at: usize, end: usize) -> Result<(), BtfError> {
        while at < end {
            let id = self.types.len() as u32;
            let header = self.header_at(at).ok_or(BtfError::Malformed("a type is cut off"))?;
            self.types.push(at as u32);
            if header.name != 0 && matches!(header.kind, KIND_STRUCT | KIND_TYPEDEF) {
                let name = self.name(header.name).ok_or(BtfError::Malformed("a name lies outside the strings"))?;
                let hash = hash(name);
                // The first definition wins: later ones of the same name come from other compilation units.
                let map = if header.kind == KIND_STRUCT { &mut self.structs } else { &mut self.typedefs };
                map.entry(hash).or_insert(id);
            }
            if matches!(header.kind, KIND_ENUM | KIND_ENUM64) {
                self.enums.push(id);
            }
            let vlen = header.vlen as usize;
            at += 12
                + match header.kind {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * vlen,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * vlen,
                    KIND_PTR..=KIND_TYPE_TAG => 0,
                    _ => return Err(BtfError::Malformed("a kind of type is unknown")),
                };
        }
        if at == end { Ok(()) } else { Err(BtfError::Malformed("the last type is cut off")) }
    }

    /// Offset of a member, by path: `"inet_conn.icsk_accept_queue.qlen"`. Anonymous structures and unions are searched.
    ///
    /// # Errors
    /// [`BtfError::Missing`] if the structure or a part of the path does not exist.
    pub fn member(&self, structure: &str, path: &str) -> Result<Member, BtfError> {
        let missing = || BtfError::Missing(format!("{structure}.{path}"));
        let mut id = *self
            .structs
            .get(&hash(structure.as_bytes()))
            .ok_or_else(|| BtfError::Missing(format!("struct {structure}")))?;
        let mut bits = 0_u32;
        for part in path.split('.') {
            let (offset, member) = self.find(id, part.as_bytes(), 0).ok_or_else(missing)?;
            bits = bits.checked_add(offset).ok_or_else(missing)?;
            id = self.strip(member).ok_or_else(missing)?;
        }
        Ok(Member { bits })
    }

    /// Size of a structure in bytes.
    ///
    /// # Errors
    /// [`BtfError::Missing`].
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        let id = self.structs.get(&hash(structure.as_bytes()));
        id.and_then(|id| self.header(*id))
            .map(|header| header.size_or_type)
            .ok_or_else(|| BtfError::Missing(format!("struct {structure}")))
    }

    /// Value of an enumerator, whichever enumeration it is in.
    ///
    /// # Errors
    /// [`BtfError::Missing`].
    pub fn enumerator(&self, name: &str) -> Result<u32, BtfError> {
        self.enums
            .iter()
            .find_map(|id| self.enumerator_in(*id, name.as_bytes()))
            .ok_or_else(|| BtfError::Missing(name.to_owned()))
    }

    /// Number of arguments of a raw tracepoint, without the context that comes first (`typedef … (*btf_trace_NAME)(void *, …)`).
    ///
    /// # Errors
    /// [`BtfError::Missing`] if the kernel has no such tracepoint.
    pub fn tracepoint_arguments(&self, name: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(format!("tracepoint {name}"));
        let id = *self.typedefs.get(&hash(format!("btf_trace_{name}").as_bytes())).ok_or_else(missing)?;
        let pointer = self.header(self.header(id).ok_or_else(missing)?.size_or_type).ok_or_else(missing)?;
        let prototype = self.header(pointer.size_or_type).ok_or_else(missing)?;
        if pointer.kind != KIND_PTR || prototype.kind != KIND_FUNC_PROTO {
            return Err(missing());
        }
        prototype.vlen.checked_sub(1).ok_or_else(missing)
    }

    fn enumerator_in(&self, id: u32, name: &[u8]) -> Option<u32> {
        let header = self.header(id)?;
        let step = if header.kind == KIND_ENUM { 8 } else { 12 };
        (0..header.vlen as usize).find_map(|index| {
            let at = header.at + 12 + step * index;
            (self.name(self.word(at)?)? == name).then(|| self.word(at + 4))?
        })
    }

    fn find(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        let header = self.header(id)?;
        if depth > MAX_DEPTH || !matches!(header.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        (0..header.vlen as usize).find_map(|index| {
            let at = header.at + 12 + 12 * index;
            let (member, kind, mut offset) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            if header.kind_flag {
                offset &= 0xff_ffff;
            }
            if member == 0 {
                let (inner, kind) = self.find(self.strip(kind)?, name, depth + 1)?;
                return Some((offset.checked_add(inner)?, kind));
            }
            (self.name(member)? == name).then_some((offset, kind))
        })
    }

    /// Follows typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_DEPTH {
            let header = self.header(id)?;
            match header.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => id = header.size_or_type,
                _ => return Some(id),
            }
        }
        None
    }

    fn header(&self, id: u32) -> Option<Header> {
        if id == 0 {
            return None;
        }
        self.header_at(*self.types.get(id as usize)? as usize)
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        let info = self.word(at.checked_add(4)?)?;
        Some(Header {
            at,
            name: self.word(at)?,
            kind: (info >> 24) & 0x1f,
            vlen: info & 0xffff,
            kind_flag: info >> 31 == 1,
            size_or_type: self.word(at.checked_add(8)?)?,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.data.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let bytes = self.data.get(self.strings.checked_add(offset as usize)?..self.strings_end)?;
        Some(&bytes[..bytes.iter().position(|byte| *byte == 0)?])
    }
}

/// FNV-1a: 64 bits are enough to tell the names of one kernel apart, and no string is copied.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with `struct inner { int a; int b; }`, `struct outer { int x; union { struct inner in; }; }`, `enum { ONE = 1 }`.
    fn small() -> Vec<u8> {
        let strings = b"\0int\0inner\0a\0b\0outer\0x\0in\0ONE\0";
        let at = |name: &str| {
            let needle: Vec<u8> = [b"\0", name.as_bytes(), b"\0"].concat();
            strings.windows(needle.len()).position(|w| w == needle).expect("in the table") as u32 + 1
        };
        let info = |kind: u32, vlen: u32| kind << 24 | vlen;
        let types: Vec<u32> = [
            vec![at("int"), info(KIND_INT, 0), 4, 32],
            vec![at("inner"), info(KIND_STRUCT, 2), 8, at("a"), 1, 0, at("b"), 1, 32],
            vec![0, info(KIND_UNION, 1), 8, at("in"), 2, 0],
            vec![at("outer"), info(KIND_STRUCT, 2), 12, at("x"), 1, 0, 0, 3, 32],
            vec![0, info(KIND_ENUM, 1), 4, at("ONE"), 1],
        ]
        .concat();
        let header = [0_u32, 24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32];
        let mut data: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
        data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        data[2] = 1;
        data.extend_from_slice(strings);
        data
    }

    #[test]
    fn members_are_found_through_anonymous_unions() {
        let btf = KernelBtf::parse(small()).expect("valid");
        assert_eq!(btf.member("outer", "in.b").expect("there").byte(), 8);
        assert_eq!(btf.enumerator("ONE").expect("there"), 1);
        assert!(matches!(btf.member("outer", "in.c"), Err(BtfError::Missing(what)) if what == "outer.in.c"));
        assert!(matches!(btf.member("none", "x"), Err(BtfError::Missing(what)) if what == "struct none"));
    }

    #[test]
    fn every_truncation_is_refused_without_a_panic() {
        let whole = small();
        for length in 0..whole.len() {
            assert!(KernelBtf::parse(whole[..length].to_vec()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn no_changed_byte_makes_it_panic() {
        let whole = small();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut data = whole.clone();
                data[at] = value;
                if let Ok(btf) = KernelBtf::parse(data) {
                    let _ = btf.member("outer", "in.b");
                    let _ = btf.enumerator("ONE");
                    let _ = btf.tracepoint_arguments("x");
                }
            }
        }
    }
}
