//! The tables of ELF files by which exceptions find their way through a stack: all of C++, Rust and C on x86-64 and
//! aarch64 has them, unless it was built to have none.

use std::{collections::HashMap, fs::File, ops::Range, os::unix::fs::MetadataExt as _, sync::Arc};

use framehop::ExplicitModuleSectionInfo;
use object::{
    Endianness, Object as _, ObjectSection as _, ReadCache, ReadRef,
    elf::{PF_X, PT_LOAD, ProgramHeader64},
    read::elf::{ElfFile64, ProgramHeader as _},
};

/// Bytes of one section, at most: those of a browser's have 20 MB.
const MOST: u64 = 64 << 20;
/// Bytes of all, at most.
pub(super) const MOST_OF_ALL: usize = 256 << 20;

/// Bytes that several processes share.
pub(super) type Bytes = Arc<[u8]>;

/// What a file says.
#[derive(Debug)]
pub(super) struct Tables {
    /// Offsets of code in the file, and the addresses that it has there.
    code: Vec<(Range<u64>, u64)>,
    sections: ExplicitModuleSectionInfo<Bytes>,
}

impl Tables {
    /// Reads them from an open file; `None` if it is no ELF file of 64 bits, or has none.
    pub(super) fn read(file: File) -> Option<Self> {
        Self::parse(&ReadCache::new(file))
    }

    /// The same, of a file in memory.
    pub(super) fn parse<'data>(data: impl ReadRef<'data>) -> Option<Self> {
        let elf = ElfFile64::<Endianness, _>::parse(data).ok()?;
        let endian = elf.endian();
        let is_code = |header: &&ProgramHeader64<Endianness>| {
            header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X == PF_X
        };
        let code = elf.elf_program_headers().iter().filter(is_code).filter_map(|header| {
            let begin: u64 = header.p_offset(endian);
            Some((begin..begin.checked_add(header.p_filesz(endian))?, header.p_vaddr(endian)))
        });
        let code = code.collect();
        let range = |name| {
            let section = elf.section_by_name(name)?;
            Some(section.address()..section.address().checked_add(section.size())?)
        };
        let bytes = |name| -> Option<Bytes> {
            let section = elf.section_by_name(name).filter(|section| section.size() <= MOST)?;
            Some(section.data().ok()?.into())
        };
        let sections = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: range(".text"),
            got_svma: range(".got"),
            eh_frame_svma: range(".eh_frame"),
            eh_frame: bytes(".eh_frame"),
            eh_frame_hdr_svma: range(".eh_frame_hdr"),
            eh_frame_hdr: bytes(".eh_frame_hdr"),
            debug_frame: if elf.section_by_name(".eh_frame").is_none() { bytes(".debug_frame") } else { None },
            ..Default::default()
        };
        let has_some = sections.eh_frame.is_some() || sections.debug_frame.is_some();
        has_some.then_some(Self { code, sections })
    }

    /// What to add to the addresses in the file, if the file is mapped there from this offset on.
    pub(super) fn bias(&self, mapped: u64, offset: u64) -> Option<u64> {
        /// Mappings begin at a page, segments anywhere.
        const LARGEST_PAGE: u64 = 1 << 16;
        // Linkers put the end of one segment and the beginning of the next into the same page of the file, which is
        // mapped twice: the mapping is that of the segment that begins there.
        let begins = |(part, _): &&(Range<u64>, u64)| (offset..offset + LARGEST_PAGE).contains(&part.start);
        let beginning = self.code.iter().filter(begins).min_by_key(|(part, _)| part.start);
        let (part, address) = beginning.or_else(|| self.code.iter().find(|(part, _)| part.contains(&offset)))?;
        Some(mapped.wrapping_sub(offset).wrapping_add(part.start).wrapping_sub(*address))
    }

    /// For the unwinder.
    pub(super) fn sections(&self) -> ExplicitModuleSectionInfo<Bytes> {
        self.sections.clone()
    }

    fn bytes(&self) -> usize {
        let sections = [&self.sections.eh_frame, &self.sections.eh_frame_hdr, &self.sections.debug_frame];
        sections.into_iter().flatten().map(|bytes| bytes.len()).sum()
    }
}

/// Which file, as long as nobody changes it.
type Identity = (u64, u64, u64, i64);

/// The tables of all files that were read.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: HashMap<Identity, Option<Arc<Tables>>>,
    bytes: usize,
}

impl Files {
    /// The tables of an open file.
    pub(super) fn tables(&mut self, file: File) -> Option<Arc<Tables>> {
        let about = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let identity = (about.dev(), about.ino(), about.size(), about.mtime());
        if let Some(known) = self.known.get(&identity) {
            return known.clone();
        }
        let tables = Tables::read(file).map(Arc::new);
        self.bytes += tables.as_ref().map_or(0, |tables| tables.bytes());
        self.known.insert(identity, tables.clone());
        tables
    }

    /// Whether there is too much of it.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > MOST_OF_ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_that_of_the_code_that_begins_in_it() {
        let code = vec![(0x1000..0x2000, 0x1000), (0x2ab0..0x5000, 0x4ab0)];
        let tables = Tables { code, sections: ExplicitModuleSectionInfo::default() };
        assert_eq!(tables.bias(0x7000_1000, 0x1000), Some(0x7000_0000));
        assert_eq!(tables.bias(0x7000_4000, 0x2000), Some(0x7000_0000));
        // A part of it, which was mapped apart.
        assert_eq!(tables.bias(0x7000_6000, 0x4000), Some(0x7000_0000));
        assert_eq!(tables.bias(0x7000_6000, 0x9000), None);
    }
}
