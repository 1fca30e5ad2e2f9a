//! Values of enumerators.

use crate::{
    BtfError, KernelBtf, Symbol,
    index::Index,
    layout::{Header, Kind, Steps},
};

impl KernelBtf {
    /// Value of an enumerator, whichever enumeration it is in; a negative one as its two's complement.
    ///
    /// # Errors
    /// [`BtfError::Missing`]; [`BtfError::TooWide`]; [`BtfError::Malformed`].
    pub fn enumerator(&self, name: &str) -> Result<u32, BtfError> {
        let value = self.enumerator64(name)?;
        match value >> 32 {
            0 => Ok(value as u32),
            0xffff_ffff if value >> 31 & 1 == 1 => Ok(value as u32),
            _ => Err(BtfError::TooWide(name.to_owned())),
        }
    }

    /// Value of an enumerator that may need 64 bits. A negative one of a signed enumeration is extended to them.
    ///
    /// # Errors
    /// [`BtfError::Missing`]; [`BtfError::Malformed`].
    pub fn enumerator64(&self, name: &str) -> Result<u64, BtfError> {
        let types = &self.types;
        // An enumerator's number is its enumeration's id: those are few, and large ones are rare.
        let index = self.enumerators.get_or_init(|| Index::new(types, self.all_enumerators()));
        let steps = &mut Steps::new();
        let mut last = 0;
        for id in index.candidates(name.as_bytes()) {
            if id == last {
                continue;
            }
            last = id;
            let header = types.header(id)?;
            for element in 0..header.vlen {
                steps.take()?;
                if types.is_named(types.element(&header, element, words(&header), 0)?, name.as_bytes()) {
                    let low = types.element(&header, element, words(&header), 1)?;
                    return Ok(match header.kind {
                        Kind::Enumeration64 => u64::from(types.element(&header, element, 3, 2)?) << 32 | u64::from(low),
                        _ if header.kind_flag => i64::from(low as i32) as u64,
                        _ => u64::from(low),
                    });
                }
            }
        }
        Err(BtfError::Missing(Symbol::Enumerator(name.to_owned())))
    }

    /// Name and enumeration of every enumerator.
    fn all_enumerators(&self) -> impl Iterator<Item = (u32, u32)> {
        let types = &self.types;
        types.families().enumerations.iter().flat_map(move |id| {
            types.header(*id).into_iter().flat_map(move |header| {
                (0..header.vlen)
                    .filter_map(move |element| Some((types.element(&header, element, words(&header), 0).ok()?, *id)))
            })
        })
    }
}

/// Words per enumerator.
fn words(header: &Header) -> usize {
    if header.kind == Kind::Enumeration64 { 3 } else { 2 }
}
