//! A process whose stacks are unwound: which files it has mapped where.

use std::{
    fs::File,
    io::Read as _,
    ops::Range,
    time::{Duration, Instant},
};

use framehop::{Module, Unwinder as _};

use super::{
    Copy, Cut, Unwound,
    elf::{Bytes, Files, Tables},
    registers::{self, Cache, Unwinder},
};

/// Frames of a stack, at most.
const FRAMES: usize = 256;
/// Bytes of a list of mappings, at most: 64 K mappings are the kernel's limit.
const MOST: u64 = 16 << 20;
/// Time between two looks at the mappings, if code is where nothing was mapped: libraries are loaded later, too.
const AGAIN: Duration = Duration::from_secs(1);

/// Executable memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) addresses: Range<u64>,
    pub(super) offset: u64,
    pub(super) path: String,
}

impl Mapping {
    /// `begin-end perms offset device inode path`, of code only.
    pub(super) fn line(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (begin, end) = fields.next()?.split_once('-')?;
        if !fields.next()?.contains('x') {
            return None;
        }
        let number = |text| u64::from_str_radix(text, 16).ok();
        let offset = number(fields.next()?)?;
        let path = fields.nth(2).unwrap_or_default().trim_start().to_owned();
        Some(Self { addresses: number(begin)?..number(end)?, offset, path })
    }

    /// Opens the file. A link of map_files is the file itself, though it was replaced or belongs to a container.
    fn open(&self, pid: u32) -> Option<File> {
        let Range { start, end } = self.addresses;
        File::open(format!("/proc/{pid}/map_files/{start:x}-{end:x}")).ok().or_else(|| {
            let is_there = self.path.starts_with('/') && !self.path.ends_with(" (deleted)");
            let path = is_there.then(|| format!("/proc/{pid}/root{}", self.path))?;
            File::open(path).ok()
        })
    }
}

pub(super) struct Process {
    pid: u32,
    unwinder: Unwinder<Bytes>,
    cache: Cache,
    code: Vec<Range<u64>>,
    looked: Option<Instant>,
}

impl Process {
    pub(super) fn new(pid: u32) -> Self {
        let (unwinder, cache) = (Unwinder::new(), Cache::new());
        Self { pid, unwinder, cache, code: Vec::new(), looked: None }
    }

    /// Looks at what is mapped.
    fn look(&mut self, files: &mut Files) {
        self.looked = Some(Instant::now());
        let mut maps = Vec::new();
        let read =
            File::open(format!("/proc/{}/maps", self.pid)).and_then(|file| file.take(MOST).read_to_end(&mut maps));
        if read.is_err() || maps.is_empty() {
            // It has ended: what was mapped is known still.
            return;
        }
        let maps = String::from_utf8_lossy(&maps);
        let new: Vec<Mapping> = maps.lines().filter_map(Mapping::line).collect();
        self.code = new.iter().map(|mapping| mapping.addresses.clone()).collect();
        self.unwinder = Unwinder::new();
        for mapping in new {
            if let Some(module) = self.module(&mapping, files) {
                self.unwinder.add_module(module);
            }
        }
    }

    fn module(&self, mapping: &Mapping, files: &mut Files) -> Option<Module<Bytes>> {
        let tables =
            if mapping.path == "[vdso]" { super::vdso::tables()? } else { files.tables(mapping.open(self.pid)?)? };
        let bias = Tables::bias(&tables, mapping.addresses.start, mapping.offset)?;
        Some(Module::new(mapping.path.clone(), mapping.addresses.clone(), bias, tables.sections()))
    }

    fn is_code(&self, address: u64) -> bool {
        self.code.iter().any(|code| code.contains(&address))
    }

    /// Follows a copied stack.
    pub(super) fn unwind(&mut self, copy: &Copy, files: &mut Files) -> Unwound {
        let Some((address, _)) = registers::of(&copy.registers) else { return Unwound::none() };
        if self.looked.is_none() || (!self.is_code(address) && self.may_look()) {
            self.look(files);
        }
        let unwound = self.walk(copy);
        // A library may have been loaded since, which has the callers.
        if unwound.cut != Some(Cut::Code) || !self.may_look() {
            return unwound;
        }
        self.look(files);
        self.walk(copy)
    }

    fn may_look(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > AGAIN)
    }

    fn walk(&mut self, copy: &Copy) -> Unwound {
        let Some((address, registers)) = registers::of(&copy.registers) else { return Unwound::none() };
        let mut beyond = false;
        let mut read = |address: u64| {
            let word = copy.word(address);
            beyond |= word.is_none() && copy.goes_on_at(address);
            word.ok_or(())
        };
        let mut unwound = Unwound::none();
        let mut frames = self.unwinder.iter_frames(address, registers, &mut self.cache, &mut read);
        unwound.cut = loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    let address = frame.address();
                    if !self.code.iter().any(|code| code.contains(&address)) {
                        break Some(Cut::Code);
                    }
                    unwound.addresses.push(address);
                    if unwound.addresses.len() == FRAMES {
                        break Some(Cut::Copy);
                    }
                }
                Ok(None) => break None,
                Err(_) => break Some(if beyond { Cut::Copy } else { Cut::Tables }),
            }
        };
        unwound
    }
}
