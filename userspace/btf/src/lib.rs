//! A reader of the kernel's BTF (Documentation/bpf/btf.rst): offsets, enum values and signatures by name.
//!
//! aya keeps its BTF types private, and other crates take longer than the rest of the start (docs/architecture.md has
//! figures). So this crate has the little that is needed. BTF is untrusted input. Every access is bounds-checked. Every
//! query gives up after a fixed number of steps, even if types refer to each other in circles. Parsing and indexing are
//! linear in the size of the data. Each kind of name is indexed by the first query for one. Loading a kernel's BTF, and
//! all queries of a start, take some 10 ms.

mod enumerations;
mod excerpt;
#[cfg(feature = "exercise")]
pub mod exercise;
mod functions;
mod index;
mod layout;
mod members;
#[cfg(any(test, feature = "reduce"))]
mod reduce;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "reduce"))]
mod writer;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::OnceLock,
};

pub use functions::{Function, Parameter, Pointee, Value};
use index::Index;
use layout::Types;
pub use members::Member;

/// The file with the running kernel's BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The largest file that is read. Kernels of distributions have 4 to 10 MB.
const MAX_BYTES: u64 = 64 << 20;

/// What a query named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Symbol {
    /// A structure or union.
    #[error("struct {0}")]
    Structure(String),
    /// A member, by its path from the structure on.
    #[error("{0}")]
    Member(String),
    /// An enumerator.
    #[error("{0}")]
    Enumerator(String),
    /// A function.
    #[error("function {0}")]
    Function(String),
    /// A tracepoint.
    #[error("tracepoint {0}")]
    Tracepoint(String),
}

/// Why BTF could not be read, or what it does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What happened.
        source: io::Error,
    },
    /// The data is no BTF, is cut off, or contradicts itself.
    #[error("not valid BTF: {0}")]
    Malformed(&'static str),
    /// This kernel has no such type, member, enumerator or function.
    #[error("this kernel's BTF has no {0}")]
    Missing(Symbol),
    /// The path leads through a pointer: the members behind it have no offset in the structure.
    #[error("{path}: {pointer} is a pointer")]
    ThroughPointer {
        /// The member that was asked for.
        path: String,
        /// The part of the path that is a pointer.
        pointer: String,
    },
    /// Several functions have this name, with different signatures. It is unknown which of them a hook would get.
    #[error("this kernel has several functions {0}, with different signatures")]
    Ambiguous(String),
    /// An enumerator's value does not fit the 32 bits that were asked for.
    #[error("{0} needs 64 bits on this kernel")]
    TooWide(String),
}

impl BtfError {
    /// What would help, where the BTF is the running kernel's.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions' are, and mount sysfs at /sys if it is not"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "run it as root",
            Self::Io { .. } | Self::Malformed(_) => {
                "/sys/kernel/btf/vmlinux is not as the kernel shows it: unmount what is mounted over it, or reboot"
            }
            _ => "boot another kernel: 5.10 or later, with CONFIG_DEBUG_INFO_BTF=y",
        }
    }
}

/// A kernel's BTF. Each kind of name is indexed by the first query for one.
pub struct KernelBtf {
    types: Types,
    structures: OnceLock<Index>,
    typedefs: OnceLock<Index>,
    functions: OnceLock<Index>,
    enumerators: OnceLock<Index>,
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
        let data = read(path).map_err(|source| BtfError::Io { path: path.display().to_string(), source })?;
        Self::parse(data)
    }

    /// Parses BTF in the byte order of this machine, like the kernel's own. BTF with a base, such as a module's, is not
    /// understood.
    ///
    /// # Errors
    /// [`BtfError::Malformed`] if a section, type or name reaches outside the data.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self {
            types: Types::parse(data)?,
            structures: OnceLock::new(),
            typedefs: OnceLock::new(),
            functions: OnceLock::new(),
            enumerators: OnceLock::new(),
        })
    }
}

/// A whole file, if it is a regular one of a sane size. A device would never end, and a pipe never begin.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut data = Vec::with_capacity(metadata.len().min(MAX_BYTES) as usize + 1);
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut data)?;
    if data.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than any kernel's BTF"));
    }
    Ok(data)
}
