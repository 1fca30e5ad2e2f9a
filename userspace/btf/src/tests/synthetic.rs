//! BTF made by hand.

pub(super) use crate::writer::{Builder, FLAG, FWD};

/// Kinds by number, as in include/uapi/linux/btf.h.
pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const CONST: u32 = 10;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const ENUM64: u32 = 19;

/// In an integer's encoding: it has a sign.
pub(super) const SIGNED: u32 = 1 << 24;

impl Builder {
    /// Adds a type and returns its id. [`FLAG`] can be or-ed to `vlen`.
    pub(super) fn add(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, body: &[u32]) -> u32 {
        let (id, name) = (self.reserve(), self.name(name.as_bytes()));
        self.set(id, [name, kind << 24 | vlen, size_or_type], body);
        id
    }

    pub(super) fn int(&mut self, name: &str, bytes: u32, encoding: u32) -> u32 {
        self.add(name, INT, 0, bytes, &[encoding | (bytes * 8)])
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", PTR, 0, to, &[])
    }

    /// A structure (or union) of members of name, type and bit offset.
    pub(super) fn structure(&mut self, name: &str, kind: u32, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let body: Vec<u32> =
            members.iter().flat_map(|(name, of, place)| [self.name(name.as_bytes()), *of, *place]).collect();
        self.add(name, kind, members.len() as u32, size, &body)
    }

    pub(super) fn prototype(&mut self, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let body: Vec<u32> = parameters.iter().flat_map(|(name, of)| [self.name(name.as_bytes()), *of]).collect();
        self.add("", FUNC_PROTO, parameters.len() as u32, returns, &body)
    }

    pub(super) fn function(&mut self, name: &str, returns: u32, parameters: &[(&str, u32)]) -> u32 {
        let prototype = self.prototype(returns, parameters);
        self.add(name, FUNC, 0, prototype, &[])
    }
}
