//! A small BTF out of a large one: real types for tests and for the fuzzer, in some kilobytes.

use std::collections::HashMap;

use crate::{
    BtfError, KernelBtf,
    layout::{Header, Kind, Steps},
    writer::{Builder, FLAG, FWD},
};

impl KernelBtf {
    /// BTF of these structures, functions, typedefs and enumerators only, and of what they consist of. Structures
    /// behind pointers are declared, not defined, unless they are asked for.
    ///
    /// # Errors
    /// [`BtfError::Malformed`]. What the kernel does not have is left out.
    pub fn reduced(&self, names: &[&str]) -> Result<Vec<u8>, BtfError> {
        let mut reducer = Reducer { btf: self, copies: HashMap::new(), copy: Builder::new(), steps: Steps::new() };
        for id in names.iter().flat_map(|name| self.ids(name)) {
            reducer.copy(id, false, 0)?;
        }
        Ok(reducer.copy.build())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let families = self.types.families();
        let named = [&families.structures, &families.typedefs, &families.functions]
            .into_iter()
            .flatten()
            .filter(|id| self.types.header(**id).is_ok_and(|header| self.types.is_named(header.name, name.as_bytes())));
        let enumerations = families.enumerations.iter().filter(|id| {
            let Ok(header) = self.types.header(**id) else { return false };
            let words = if header.kind == Kind::Enumeration64 { 3 } else { 2 };
            (0..header.vlen).any(|element| {
                let enumerator = self.types.element(&header, element, words, 0);
                enumerator.is_ok_and(|enumerator| self.types.is_named(enumerator, name.as_bytes()))
            })
        });
        named.chain(enumerations).copied().collect()
    }
}

struct Reducer<'a> {
    btf: &'a KernelBtf,
    /// New ids by old ones, and whether only declared.
    copies: HashMap<(u32, bool), u32>,
    copy: Builder,
    steps: Steps,
}

/// The largest depth of types that refer to types. The code follows them by recursion.
const MAX_DEPTH: u32 = 100;

impl Reducer<'_> {
    /// Copies a type and all that it consists of. `pointed_at`: a structure is declared only.
    fn copy(&mut self, id: u32, pointed_at: bool, depth: u32) -> Result<u32, BtfError> {
        let (id, header) = match self.btf.types.header(id)? {
            // Qualifiers do not matter behind a pointer, and typedefs may hide a structure.
            header if pointed_at && matches!(header.kind, Kind::Typedef | Kind::Qualifier) => {
                self.btf.types.strip(id, &mut self.steps)?
            }
            header => (id, header),
        };
        if header.kind == Kind::Void {
            return Ok(0);
        }
        let declare = pointed_at && matches!(header.kind, Kind::Structure | Kind::Union);
        if let Some(copy) = self.copies.get(&(id, declare)) {
            return Ok(*copy);
        }
        self.steps.take()?;
        if depth > MAX_DEPTH {
            return Err(BtfError::Malformed("types are nested too deeply"));
        }
        let copy = self.copy.reserve();
        self.copies.insert((id, declare), copy);
        let name = self.name(header.name);
        if declare {
            let flag = if header.kind == Kind::Union { FLAG } else { 0 };
            self.copy.set(copy, [name, FWD << 24 | flag, 0], &[]);
        } else {
            let (size_or_type, body) = self.definition(&header, depth + 1)?;
            self.copy.set(copy, [name, self.btf.types.info(&header)?, size_or_type], &body);
        }
        Ok(copy)
    }

    fn definition(&mut self, header: &Header, depth: u32) -> Result<(u32, Vec<u32>), BtfError> {
        let btf = self.btf;
        let word = |element, words, index| btf.types.element(header, element, words, index);
        let mut body = Vec::new();
        let mut size_or_type = header.size_or_type;
        match header.kind {
            Kind::Integer => body.push(word(0, 1, 0)?),
            Kind::Pointer => size_or_type = self.copy(size_or_type, true, depth)?,
            Kind::Typedef | Kind::Qualifier | Kind::Function => size_or_type = self.copy(size_or_type, false, depth)?,
            Kind::Array => {
                body = vec![self.copy(word(0, 3, 0)?, false, depth)?, self.copy(word(0, 3, 1)?, false, depth)?];
                body.push(word(0, 3, 2)?);
            }
            Kind::Structure | Kind::Union => {
                for element in 0..header.vlen {
                    let name = self.name(word(element, 3, 0)?);
                    body.extend([name, self.copy(word(element, 3, 1)?, false, depth)?, word(element, 3, 2)?]);
                }
            }
            Kind::Prototype => {
                for element in 0..header.vlen {
                    let name = self.name(word(element, 2, 0)?);
                    body.extend([name, self.copy(word(element, 2, 1)?, false, depth)?]);
                }
                size_or_type = self.copy(size_or_type, false, depth)?;
            }
            Kind::Enumeration | Kind::Enumeration64 => {
                let words = if header.kind == Kind::Enumeration { 2 } else { 3 };
                for element in 0..header.vlen {
                    body.push(self.name(word(element, words, 0)?));
                    for index in 1..words {
                        body.push(word(element, words, index)?);
                    }
                }
            }
            // Of the others only floats can be part of a type, and nothing follows those.
            Kind::Forward | Kind::Void | Kind::Other => {}
        }
        Ok((size_or_type, body))
    }

    fn name(&mut self, name: u32) -> u32 {
        self.copy.name(self.btf.types.name_bytes(name))
    }
}
