//! BTF made by hand, for tests.

/// Kinds by number, as in include/uapi/linux/btf.h.
pub(crate) const INT: u32 = 1;
pub(crate) const PTR: u32 = 2;
pub(crate) const ARRAY: u32 = 3;
pub(crate) const STRUCT: u32 = 4;
pub(crate) const UNION: u32 = 5;
pub(crate) const ENUM: u32 = 6;
pub(crate) const FWD: u32 = 7;
pub(crate) const TYPEDEF: u32 = 8;
pub(crate) const CONST: u32 = 10;
pub(crate) const FUNC: u32 = 12;
pub(crate) const FUNC_PROTO: u32 = 13;
pub(crate) const ENUM64: u32 = 19;

/// In place of `vlen`: the kind flag is set.
pub(crate) const FLAG: u32 = 1 << 31;
/// In an integer's encoding: it has a sign.
pub(crate) const SIGNED: u32 = 1 << 24;

/// Collects types.
pub(crate) struct Builder {
    strings: Vec<u8>,
    types: Vec<u32>,
    count: u32,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], types: Vec::new(), count: 0 }
    }

    /// Offset of a name; 0 for the empty one.
    pub(crate) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds a type and returns its id. `vlen` is or-ed to the kind, so that [`FLAG`] can be too.
    pub(crate) fn add(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, kind << 24 | vlen, size_or_type]);
        self.types.extend(body);
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32, encoding: u32) -> u32 {
        self.add(name, INT, 0, bytes, &[encoding | (bytes * 8)])
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", PTR, 0, to, &[])
    }

    /// A structure (or union) of members of name, type and bit offset.
    pub(crate) fn structure(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let body: Vec<u32> = members.iter().flat_map(|(name, of, place)| [self.name(name), *of, *place]).collect();
        self.add(name, kind, members.len() as u32, size, &body)
    }

    pub(crate) fn prototype(&mut self, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let body: Vec<u32> = parameters.iter().flat_map(|(name, of)| [self.name(name), *of]).collect();
        self.add("", FUNC_PROTO, parameters.len() as u32, returns, &body)
    }

    pub(crate) fn function(&mut self, name: &str, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let prototype = self.prototype(returns, parameters);
        self.add(name, FUNC, 0, prototype, &[])
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32 * 4, self.strings.len() as u32);
        let header = [0, 24, 0, types, types, strings];
        let mut data: Vec<u8> = header.iter().chain(&self.types).flat_map(|word| word.to_ne_bytes()).collect();
        data[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        data[2] = 1;
        data.extend_from_slice(&self.strings);
        data
    }
}
