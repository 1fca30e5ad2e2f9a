//! Where members lie.

use crate::{
    BtfError, KernelBtf, Symbol,
    index::Index,
    layout::{Header, Kind, MAX_DEPTH, Steps, Types},
};

/// A member's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Offset in bits from the start of the outermost structure.
    pub bits: u32,
    /// Its size in bits: that of the bit field, or of the member's type; 0 for a flexible array.
    pub width: u32,
}

impl Member {
    /// Offset in whole bytes.
    #[must_use]
    pub fn byte(self) -> u32 {
        self.bits / 8
    }

    /// Of a bit field: the position of its lowest bit within that byte, on little-endian machines.
    #[must_use]
    pub fn bit(self) -> u32 {
        self.bits % 8
    }
}

/// A member as its structure declares it.
struct Declared {
    bits: u32,
    kind: u32,
    /// Bits of a bit field, 0 otherwise.
    bit_field: u32,
}

impl KernelBtf {
    /// Place of a member, by path: `"inet_conn.icsk_accept_queue.qlen"`. Anonymous structures and unions are searched.
    ///
    /// # Errors
    /// [`BtfError::Missing`] if the structure or a part of the path does not exist; [`BtfError::ThroughPointer`];
    /// [`BtfError::Malformed`].
    pub fn member(&self, structure: &str, path: &str) -> Result<Member, BtfError> {
        let types = &self.types;
        let full = || format!("{structure}.{path}");
        let steps = &mut Steps::new();
        let (mut header, mut bits, mut bit_field) = (self.structure(structure, steps)?, 0_u32, 0);
        let mut before = structure;
        for part in path.split('.') {
            match header.kind {
                Kind::Structure | Kind::Union => {}
                Kind::Pointer => {
                    return Err(BtfError::ThroughPointer { path: full(), pointer: before.to_owned() });
                }
                _ => return Err(BtfError::Missing(Symbol::Member(full()))),
            }
            let declared = find(types, &header, part.as_bytes(), 0, steps)?
                .ok_or_else(|| BtfError::Missing(Symbol::Member(full())))?;
            bits = bits.checked_add(declared.bits).ok_or(TOO_FAR)?;
            header = types.strip(declared.kind, steps)?.1;
            (bit_field, before) = (declared.bit_field, part);
        }
        let mut width = bit_field;
        if width == 0 {
            width = size_of_type(types, &header, steps)?.checked_mul(8).ok_or(TOO_FAR)?;
        }
        if header.kind == Kind::Integer && bit_field == 0 {
            // Before Linux 5.0 a bit field was an integer type with an offset and a width of its own.
            let encoding = types.element(&header, 0, 1, 0)?;
            let (offset, own) = ((encoding >> 16) & 0xff, encoding & 0xff);
            if own != 0 && own < width {
                bits = bits.checked_add(offset).ok_or(TOO_FAR)?;
                width = own;
            }
        }
        Ok(Member { bits, width })
    }

    /// Size of a structure or union in bytes.
    ///
    /// # Errors
    /// [`BtfError::Missing`]; [`BtfError::Malformed`].
    pub fn size(&self, structure: &str) -> Result<u32, BtfError> {
        Ok(self.structure(structure, &mut Steps::new())?.size_or_type)
    }

    /// The first structure or union of a name: later ones come from other compilation units.
    fn structure(&self, name: &str, steps: &mut Steps) -> Result<Header, BtfError> {
        let types = &self.types;
        let index = self.structures.get_or_init(|| Index::new(types, types.named(&types.families().structures)));
        for id in index.candidates(name.as_bytes()) {
            steps.take()?;
            let header = types.header(id)?;
            if types.is_named(header.name, name.as_bytes()) {
                return Ok(header);
            }
        }
        Err(BtfError::Missing(Symbol::Structure(name.to_owned())))
    }
}

const TOO_FAR: BtfError = BtfError::Malformed("a member lies outside every structure");

/// A member of a structure, or of the anonymous ones in it.
fn find(
    types: &Types,
    structure: &Header,
    name: &[u8],
    depth: u32,
    steps: &mut Steps,
) -> Result<Option<Declared>, BtfError> {
    if depth > MAX_DEPTH {
        return Err(BtfError::Malformed("structures are nested too deeply"));
    }
    for index in 0..structure.vlen {
        steps.take()?;
        let [member, kind, place] = [0, 1, 2].map(|word| types.element(structure, index, 3, word));
        let (member, kind, place) = (member?, kind?, place?);
        let (bits, bit_field) = if structure.kind_flag { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
        if member != 0 {
            if types.is_named(member, name) {
                return Ok(Some(Declared { bits, kind, bit_field }));
            }
            continue;
        }
        let (_, inner) = types.strip(kind, steps)?;
        if !matches!(inner.kind, Kind::Structure | Kind::Union) {
            continue;
        }
        if let Some(found) = find(types, &inner, name, depth + 1, steps)? {
            return Ok(Some(Declared { bits: bits.checked_add(found.bits).ok_or(TOO_FAR)?, ..found }));
        }
    }
    Ok(None)
}

/// Size of a type without qualifiers, in bytes; 0 for what has none.
pub(crate) fn size_of_type(types: &Types, header: &Header, steps: &mut Steps) -> Result<u32, BtfError> {
    let (mut header, mut elements) = (*header, 1_u32);
    loop {
        steps.take()?;
        let size = match header.kind {
            Kind::Integer | Kind::Structure | Kind::Union | Kind::Enumeration | Kind::Enumeration64 => {
                header.size_or_type
            }
            Kind::Pointer => size_of::<usize>() as u32,
            Kind::Array => {
                elements = elements.checked_mul(types.element(&header, 0, 3, 2)?).ok_or(TOO_FAR)?;
                header = types.strip(types.element(&header, 0, 3, 0)?, steps)?.1;
                continue;
            }
            _ => 0,
        };
        return size.checked_mul(elements).ok_or(TOO_FAR);
    }
}
