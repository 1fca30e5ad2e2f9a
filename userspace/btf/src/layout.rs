//! How BTF lies in memory: sections, types and names, as include/uapi/linux/btf.h has them.

use std::ffi::CStr;

use crate::BtfError;

/// The kinds of types that are distinguished here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Void,
    Integer,
    Pointer,
    Array,
    Structure,
    Union,
    /// A structure or union of which only the name is known.
    Forward,
    Enumeration,
    Enumeration64,
    Typedef,
    /// const, volatile, restrict or a type tag: the type itself is what it refers to.
    Qualifier,
    Function,
    Prototype,
    /// Floats, variables, sections and declaration tags.
    Other,
}

/// The common part of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// Where what follows the common part begins.
    pub body: usize,
    /// Offset of the name in the strings; 0 for none.
    pub name: u32,
    pub kind: Kind,
    /// Number of members, enumerators or parameters.
    pub vlen: u32,
    pub kind_flag: bool,
    /// Size in bytes, or the type that this one refers to.
    pub size_or_type: u32,
}

/// What one query may cost, in types and members looked at. The largest structures of a kernel have some hundred
/// members.
const STEPS: u32 = 1 << 17;
/// Members may nest and qualifiers may chain, in a kernel some levels deep.
pub(crate) const MAX_DEPTH: u32 = 32;
/// The length of a kernel's longest name (KSYM_NAME_LEN). Longer names are not looked for.
pub(crate) const MAX_NAME: usize = 512;

/// What is left of one query's work. Types may refer to each other in circles and fan out exponentially; this ends it.
#[derive(Debug)]
pub(crate) struct Steps(u32);

impl Steps {
    pub(crate) fn new() -> Self {
        Self(STEPS)
    }

    /// Accounts for one step.
    pub(crate) fn take(&mut self) -> Result<(), BtfError> {
        self.0 = self.0.checked_sub(1).ok_or(BtfError::Malformed("types refer to each other without end"))?;
        Ok(())
    }
}

const CUT_OFF: BtfError = BtfError::Malformed("a type is cut off");
const NO_TYPE: BtfError = BtfError::Malformed("a type refers to one that does not exist");

/// BTF data and where its types and strings are.
pub(crate) struct Types {
    data: Vec<u8>,
    /// Start and end of the strings.
    strings: (usize, usize),
    /// Where each type begins, by id; type 0 is void.
    offsets: Vec<u32>,
    families: Families,
}

/// The types that can be asked for by name, by id.
#[derive(Default)]
pub(crate) struct Families {
    /// Structures and unions.
    pub structures: Vec<u32>,
    pub typedefs: Vec<u32>,
    pub functions: Vec<u32>,
    /// Enumerations, also those without a name: their enumerators have one.
    pub enumerations: Vec<u32>,
}

impl Types {
    pub(crate) fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        if data.is_empty() {
            return Err(BtfError::Malformed("the file is empty"));
        }
        match data.get(..2) {
            Some(magic) if magic == 0xeb9f_u16.to_ne_bytes() => {}
            Some(magic) if magic == 0xeb9f_u16.swap_bytes().to_ne_bytes() => {
                return Err(BtfError::Malformed("it is of a machine with another byte order"));
            }
            _ => return Err(BtfError::Malformed("the magic number is wrong")),
        }
        let field = |at| word(&data, at).ok_or(BtfError::Malformed("the header is cut off"));
        let header = field(4)? as usize;
        if header < 24 {
            return Err(BtfError::Malformed("the header is too short"));
        }
        let section = |offset: u32, length: u32| {
            let start = header.checked_add(offset as usize)?;
            let end = start.checked_add(length as usize)?;
            (end <= data.len()).then_some((start, end))
        };
        let outside = BtfError::Malformed("a section lies outside the file");
        let (Some(types), Some(strings)) = (section(field(8)?, field(12)?), section(field(16)?, field(20)?)) else {
            return Err(outside);
        };
        // As the kernel demands it: so a name always ends, and offset 0 is the empty name.
        let text = &data[strings.0..strings.1];
        if text.first() != Some(&0) || text.last() != Some(&0) {
            return Err(BtfError::Malformed("the strings do not begin and end with a zero"));
        }
        // A type takes some 20 bytes.
        let mut offsets = Vec::with_capacity((types.1 - types.0) / 20 + 1);
        offsets.push(0);
        // Newer kernels may say how long the kinds of types are, so that one that is not known here can be passed over.
        let layout = if header >= 32 { section(field(24)?, field(28)?).ok_or(outside)? } else { (0, 0) };
        let mut this = Self { data, strings, offsets, families: Families::default() };
        this.locate(types.0, types.1, layout)?;
        Ok(this)
    }

    /// Finds the beginning of every type.
    fn locate(&mut self, mut at: usize, end: usize, layout: (usize, usize)) -> Result<(), BtfError> {
        let names = self.strings.1 - self.strings.0;
        while at < end {
            let header = self.header_at(at)?;
            if header.name as usize >= names {
                return Err(BtfError::Malformed("a name lies outside the strings"));
            }
            let id = self.offsets.len() as u32;
            let family = match header.kind {
                Kind::Structure | Kind::Union => Some(&mut self.families.structures),
                Kind::Typedef => Some(&mut self.families.typedefs),
                Kind::Function => Some(&mut self.families.functions),
                Kind::Enumeration | Kind::Enumeration64 => Some(&mut self.families.enumerations),
                _ => None,
            };
            if let Some(family) = family {
                family.push(id);
            }
            self.offsets.push(u32::try_from(at).map_err(|_| BtfError::Malformed("it is too large"))?);
            let kind = (word(&self.data, at + 4).ok_or(CUT_OFF)? >> 24) & 0x7f;
            let vlen = header.vlen as usize;
            // INT, VAR, DECL_TAG; ARRAY; STRUCT, UNION, DATASEC, ENUM64; ENUM, FUNC_PROTO; PTR, FWD, TYPEDEF and the
            // like.
            let body = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * vlen,
                6 | 13 => 8 * vlen,
                2 | 7..=12 | 16 | 18 => 0,
                // struct btf_layout: bytes of what follows once, bytes of what follows vlen times, flags.
                kind => match self.data[layout.0..layout.1].as_chunks::<4>().0.get(kind as usize) {
                    Some(lengths) => usize::from(lengths[0]) + usize::from(lengths[1]) * vlen,
                    None => return Err(BtfError::Malformed("a kind of type is unknown")),
                },
            };
            at = header.body + body;
        }
        if at == end { Ok(()) } else { Err(BtfError::Malformed("the last type is cut off")) }
    }

    /// How many types there are, with the one of number 0, which is void.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u32 {
        self.offsets.len() as u32
    }

    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// These types with their names, without unnamed ones.
    pub(crate) fn named<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = (u32, u32)> + 'a {
        ids.iter().filter_map(|id| Some((self.header(*id).ok()?.name, *id))).filter(|(name, _)| *name != 0)
    }

    pub(crate) fn header(&self, id: u32) -> Result<Header, BtfError> {
        if id == 0 {
            return Ok(Header { body: 0, name: 0, kind: Kind::Void, vlen: 0, kind_flag: false, size_or_type: 0 });
        }
        self.header_at(*self.offsets.get(id as usize).ok_or(NO_TYPE)? as usize)
    }

    fn header_at(&self, at: usize) -> Result<Header, BtfError> {
        let (name, info, size_or_type) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
        // Bits 16 to 23 and 29 to 30 are zero where they are not yet used, so wider fields do no harm.
        Ok(Header {
            body: at + 12,
            name,
            kind: match (info >> 24) & 0x7f {
                1 => Kind::Integer,
                2 => Kind::Pointer,
                3 => Kind::Array,
                4 => Kind::Structure,
                5 => Kind::Union,
                6 => Kind::Enumeration,
                7 => Kind::Forward,
                8 => Kind::Typedef,
                9..=11 | 18 => Kind::Qualifier,
                12 => Kind::Function,
                13 => Kind::Prototype,
                19 => Kind::Enumeration64,
                _ => Kind::Other,
            },
            vlen: info & 0xff_ffff,
            kind_flag: info >> 31 == 1,
            size_or_type,
        })
    }

    /// A type's kind, flag and vlen as they are written.
    #[cfg(any(test, feature = "reduce"))]
    pub(crate) fn info(&self, of: &Header) -> Result<u32, BtfError> {
        self.word(of.body - 8)
    }

    /// Word `index` of element `element` of what follows a type's common part, in elements of `words` words.
    pub(crate) fn element(&self, of: &Header, element: u32, words: usize, index: usize) -> Result<u32, BtfError> {
        self.word(of.body + 4 * (words * element as usize + index))
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        word(&self.data, at).ok_or(CUT_OFF)
    }

    /// What follows from a name's first byte on, zero and further names included.
    fn text(&self, name: u32) -> &[u8] {
        self.strings.0.checked_add(name as usize).and_then(|at| self.data.get(at..self.strings.1)).unwrap_or(&[])
    }

    /// Whether a name is this one. Costs no more than `expected` is long.
    pub(crate) fn is_named(&self, name: u32, expected: &[u8]) -> bool {
        self.text(name).strip_prefix(expected).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// A name's bytes, of an overlong one the beginning.
    pub(crate) fn name_bytes(&self, name: u32) -> &[u8] {
        let text = self.text(name);
        let text = &text[..text.len().min(MAX_NAME)];
        CStr::from_bytes_until_nul(text).map_or(text, CStr::to_bytes)
    }

    /// A name.
    pub(crate) fn name(&self, name: u32) -> String {
        String::from_utf8_lossy(self.name_bytes(name)).into_owned()
    }

    /// Follows typedefs and qualifiers to the type itself.
    pub(crate) fn strip(&self, mut id: u32, steps: &mut Steps) -> Result<(u32, Header), BtfError> {
        for _ in 0..MAX_DEPTH {
            steps.take()?;
            let header = self.header(id)?;
            match header.kind {
                Kind::Typedef | Kind::Qualifier => id = header.size_or_type,
                _ => return Ok((id, header)),
            }
        }
        Err(BtfError::Malformed("types refer to each other without end"))
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}
