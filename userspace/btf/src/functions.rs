//! Signatures of functions and tracepoints, which change between kernels.

use crate::{
    BtfError, KernelBtf, Symbol,
    index::Index,
    layout::{Header, Kind, Steps, Types},
    members::size_of_type,
};

/// The type of a parameter or result, without typedefs and qualifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the function returns no value.
    Void,
    /// A number, a character or a truth value.
    Integer {
        /// Its size.
        bytes: u32,
        /// Whether it has a sign.
        signed: bool,
    },
    /// An enumeration.
    Enumeration {
        /// Its name; empty if it has none.
        name: String,
        /// Its size.
        bytes: u32,
    },
    /// An address.
    Pointer(Pointee),
    /// A structure or union that is passed whole.
    Structure {
        /// Its name; empty if it has none.
        name: String,
        /// Its size.
        bytes: u32,
    },
    /// Anything else, such as a floating-point number.
    Other,
}

/// What a pointer points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pointee {
    /// `void *`.
    Void,
    /// The structure or union of this name; empty if it has none.
    Structure(String),
    /// A number or an enumeration, of this size in bytes.
    Number(u32),
    /// Anything else, such as a function or another pointer.
    Other,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; empty if BTF has none, as in prototypes of pointers to functions.
    pub name: String,
    /// What it is.
    pub value: Value,
}

impl Parameter {
    /// How many 64-bit words of a tracing program's arguments it takes (kernel/bpf/btf.c: get_ctx_arg_idx).
    fn words(&self) -> u32 {
        match self.value {
            Value::Structure { bytes, .. } => bytes.div_ceil(8),
            _ => 1,
        }
    }
}

/// A function's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// In the order of declaration, without the dots of a variadic function.
    pub parameters: Vec<Parameter>,
    /// What it returns.
    pub returns: Value,
    /// Whether further arguments may follow: such a function takes no fentry program.
    pub variadic: bool,
}

impl Function {
    /// Where a tracing program finds the parameter of this name: the index of the 64-bit word in its arguments.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<u32> {
        let index = self.parameters.iter().position(|parameter| parameter.name == name)?;
        Some(words(&self.parameters[..index]))
    }

    /// Where an fexit program finds the result: the 64-bit word behind those of the arguments.
    #[must_use]
    pub fn return_position(&self) -> u32 {
        words(&self.parameters)
    }

    /// Whether the other signature has the same types. A parameter with another name there loses its name here: it is
    /// unknown which of the two is right.
    fn agrees_with(&mut self, other: &Self) -> bool {
        let values = |of: &Self| of.parameters.iter().map(|parameter| parameter.value.clone()).collect::<Vec<_>>();
        if (self.variadic, &self.returns, values(self)) != (other.variadic, &other.returns, values(other)) {
            return false;
        }
        for (ours, theirs) in self.parameters.iter_mut().zip(&other.parameters) {
            if ours.name != theirs.name {
                ours.name.clear();
            }
        }
        true
    }

    /// The number of parameters.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.parameters.len()
    }
}

fn words(parameters: &[Parameter]) -> u32 {
    parameters.iter().fold(0, |sum, parameter| sum.saturating_add(parameter.words()))
}

impl KernelBtf {
    /// Signature of a function. Only functions that exist as such are listed: not those inlined everywhere.
    ///
    /// # Errors
    /// [`BtfError::Missing`]; [`BtfError::Ambiguous`] if several have this name and differ in more than names of
    /// parameters; [`BtfError::Malformed`].
    pub fn function(&self, name: &str) -> Result<Function, BtfError> {
        let types = &self.types;
        let index = self.functions.get_or_init(|| Index::new(types, types.named(&types.families().functions)));
        let steps = &mut Steps::new();
        let mut found: Option<(u32, Function)> = None;
        for id in index.candidates(name.as_bytes()) {
            steps.take()?;
            let function = types.header(id)?;
            let prototype = function.size_or_type;
            let known = found.as_ref().is_some_and(|(first, _)| *first == prototype);
            if known || !types.is_named(function.name, name.as_bytes()) {
                continue;
            }
            let signature = signature(types, &types.header(prototype)?, steps)?;
            match &mut found {
                None => found = Some((prototype, signature)),
                Some((_, first)) => {
                    if !first.agrees_with(&signature) {
                        return Err(BtfError::Ambiguous(name.to_owned()));
                    }
                }
            }
        }
        found.map(|(_, signature)| signature).ok_or_else(|| BtfError::Missing(Symbol::Function(name.to_owned())))
    }

    /// What a raw tracepoint passes, without the context that comes first (`typedef … (*btf_trace_NAME)(void *, …)`).
    /// Most kernels give these parameters no names.
    ///
    /// # Errors
    /// [`BtfError::Missing`] if the kernel has no such tracepoint; [`BtfError::Malformed`].
    pub fn tracepoint(&self, name: &str) -> Result<Function, BtfError> {
        let types = &self.types;
        let missing = || BtfError::Missing(Symbol::Tracepoint(name.to_owned()));
        let typedef = format!("btf_trace_{name}");
        let index = self.typedefs.get_or_init(|| Index::new(types, types.named(&types.families().typedefs)));
        let steps = &mut Steps::new();
        for id in index.candidates(typedef.as_bytes()) {
            steps.take()?;
            if !types.is_named(types.header(id)?.name, typedef.as_bytes()) {
                continue;
            }
            let pointer = types.strip(id, steps)?.1;
            let prototype = types.header(pointer.size_or_type)?;
            if pointer.kind != Kind::Pointer || prototype.kind != Kind::Prototype {
                return Err(missing());
            }
            let mut signature = signature(types, &prototype, steps)?;
            if signature.parameters.is_empty() {
                return Err(missing());
            }
            signature.parameters.remove(0);
            return Ok(signature);
        }
        Err(missing())
    }

    /// Number of arguments of a raw tracepoint, without the context that comes first.
    ///
    /// # Errors
    /// As [`KernelBtf::tracepoint`].
    pub fn tracepoint_arguments(&self, name: &str) -> Result<u32, BtfError> {
        Ok(self.tracepoint(name)?.parameters.len() as u32)
    }
}

/// What C compilers have to support (C11, 5.2.4.1); the kernel traces functions of up to 12.
const MAX_PARAMETERS: u32 = 127;

fn signature(types: &Types, prototype: &Header, steps: &mut Steps) -> Result<Function, BtfError> {
    if prototype.kind != Kind::Prototype {
        return Err(BtfError::Malformed("a function has no prototype"));
    }
    if prototype.vlen > MAX_PARAMETERS {
        return Err(BtfError::Malformed("a function has too many parameters"));
    }
    let mut parameters = Vec::new();
    let mut variadic = false;
    for index in 0..prototype.vlen {
        steps.take()?;
        let [name, kind] = [0, 1].map(|word| types.element(prototype, index, 2, word));
        let (name, kind) = (name?, kind?);
        if (name, kind, index) == (0, 0, prototype.vlen - 1) {
            variadic = true;
        } else {
            parameters.push(Parameter { name: types.name(name), value: value(types, kind, steps)? });
        }
    }
    Ok(Function { parameters, returns: value(types, prototype.size_or_type, steps)?, variadic })
}

fn value(types: &Types, id: u32, steps: &mut Steps) -> Result<Value, BtfError> {
    let (_, header) = types.strip(id, steps)?;
    let bytes = header.size_or_type;
    Ok(match header.kind {
        Kind::Void => Value::Void,
        Kind::Integer => Value::Integer { bytes, signed: types.element(&header, 0, 1, 0)? >> 24 & 1 == 1 },
        Kind::Enumeration | Kind::Enumeration64 => Value::Enumeration { name: types.name(header.name), bytes },
        Kind::Structure | Kind::Union => Value::Structure { name: types.name(header.name), bytes },
        Kind::Pointer => {
            let (_, target) = types.strip(header.size_or_type, steps)?;
            Value::Pointer(match target.kind {
                Kind::Void => Pointee::Void,
                Kind::Structure | Kind::Union | Kind::Forward => Pointee::Structure(types.name(target.name)),
                Kind::Integer | Kind::Enumeration | Kind::Enumeration64 => {
                    Pointee::Number(size_of_type(types, &target, steps)?)
                }
                _ => Pointee::Other,
            })
        }
        _ => Value::Other,
    })
}
