//! A value as serde describes it, laid out flat.
//!
//! What changed is found between two such values, and only the little that changed becomes a [`Value`]. A `Value` has
//! an allocation of its own for each name, list and pair: making two of each used listener, a second at a time, took a
//! third of the dashboard's CPU time. A tape is used again for the next value, and then allocates nothing.

use std::fmt;

use ciborium::Value;
use serde::{
    Serialize,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant, Serializer,
    },
};

/// Why something has no tape; nothing in a sample has none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoTape(String);

impl serde::ser::Error for NoTape {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A value, or the head of one that has parts: these follow.
#[derive(Debug, Clone, Copy)]
enum Token {
    Null,
    Bool(bool),
    /// Not negative.
    Natural(u64),
    Negative(i64),
    Float(f64),
    /// The name of a field or variant.
    Name(&'static str),
    /// Text from here to there in [`Tape::text`].
    Text(usize, usize),
    List(Parts),
    /// Its parts are names and values in turn.
    Map(Parts),
}

/// What follows the head of a list or map.
#[derive(Debug, Clone, Copy)]
struct Parts {
    /// Items of a list, pairs of a map.
    count: usize,
    /// Behind the last one.
    end: usize,
}

/// A value laid out flat.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    tokens: Vec<Token>,
    text: String,
}

impl Tape {
    /// Becomes the tape of this, instead of what it was.
    ///
    /// # Errors
    /// It has a part that no sample has, such as bytes.
    pub(crate) fn record(&mut self, content: &impl Serialize) -> Result<(), NoTape> {
        self.tokens.clear();
        self.text.clear();
        content.serialize(&mut *self)
    }

    /// The whole of it.
    pub(crate) fn whole(&self) -> At<'_> {
        At { tape: self, place: 0 }
    }

    fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    fn push_text(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.push(Token::Text(start, self.text.len()));
    }

    /// Begins a list or map. What is counted and where it ends is filled in behind it.
    fn open(&mut self, head: fn(Parts) -> Token) -> Open<'_> {
        let place = self.tokens.len();
        self.push(Token::Null);
        Open { tape: self, place, head, count: 0, outer: None }
    }

    /// Begins what a variant with parts has: a map of its name to them.
    fn open_variant(&mut self, name: &'static str, head: fn(Parts) -> Token) -> Open<'_> {
        let outer = self.tokens.len();
        self.push(Token::Null);
        self.push(Token::Name(name));
        Open { outer: Some(outer), ..self.open(head) }
    }
}

/// A value on a tape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    tape: &'a Tape,
    place: usize,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind<'a> {
    /// Neither a number nor made of parts.
    Other,
    /// A whole number.
    Integer(i128),
    /// A list.
    List(Items<'a>),
    /// A map: names and values in turn.
    Map(Items<'a>),
}

impl<'a> At<'a> {
    fn token(self) -> Token {
        self.tape.tokens.get(self.place).copied().unwrap_or(Token::Null)
    }

    fn text(self) -> Option<&'a str> {
        match self.token() {
            Token::Name(name) => Some(name),
            Token::Text(start, end) => Some(&self.tape.text[start..end]),
            _ => None,
        }
    }

    /// What it is.
    pub(crate) fn kind(self) -> Kind<'a> {
        let items = |left| Items { next: Self { place: self.place + 1, ..self }, left };
        match self.token() {
            Token::Natural(number) => Kind::Integer(number.into()),
            Token::Negative(number) => Kind::Integer(number.into()),
            Token::List(parts) => Kind::List(items(parts.count)),
            Token::Map(parts) => Kind::Map(items(2 * parts.count)),
            Token::Null | Token::Bool(_) | Token::Float(_) | Token::Name(_) | Token::Text(..) => Kind::Other,
        }
    }

    /// Whether both are the same value.
    pub(crate) fn is(self, other: Self) -> bool {
        match (self.token(), other.token()) {
            (Token::Null, Token::Null) => true,
            (Token::Bool(one), Token::Bool(two)) => one == two,
            (Token::Natural(one), Token::Natural(two)) => one == two,
            (Token::Negative(one), Token::Negative(two)) => one == two,
            // As serde's values compare them: what is no number equals nothing.
            #[expect(clippy::float_cmp, reason = "it is about whether it changed at all")]
            (Token::Float(one), Token::Float(two)) => one == two,
            (Token::Name(_) | Token::Text(..), Token::Name(_) | Token::Text(..)) => self.text() == other.text(),
            (Token::List(_), Token::List(_)) | (Token::Map(_), Token::Map(_)) => match (self.kind(), other.kind()) {
                (Kind::List(one), Kind::List(two)) | (Kind::Map(one), Kind::Map(two)) => {
                    one.left == two.left && one.zip(two).all(|(one, two)| one.is(two))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// As a value of its own.
    pub(crate) fn value(self) -> Value {
        match self.token() {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Natural(number) => number.into(),
            Token::Negative(number) => number.into(),
            Token::Float(number) => number.into(),
            Token::Name(_) | Token::Text(..) => self.text().unwrap_or_default().into(),
            Token::List(_) | Token::Map(_) => match self.kind() {
                Kind::Map(mut items) => {
                    let mut pairs = Vec::with_capacity(items.left / 2);
                    while let (Some(name), Some(value)) = (items.next(), items.next()) {
                        pairs.push((name.value(), value.value()));
                    }
                    Value::Map(pairs)
                }
                Kind::List(items) => Value::Array(items.map(Self::value).collect()),
                Kind::Other | Kind::Integer(_) => Value::Null,
            },
        }
    }
}

/// The parts of a list or map, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Items<'a> {
    next: At<'a>,
    left: usize,
}

impl Items<'_> {
    /// How many are left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = At<'a>;

    fn next(&mut self) -> Option<At<'a>> {
        self.left = self.left.checked_sub(1)?;
        let item = self.next;
        self.next.place = match item.token() {
            Token::List(parts) | Token::Map(parts) => parts.end,
            _ => item.place + 1,
        };
        Some(item)
    }
}

/// A list or map whose parts are coming.
pub(crate) struct Open<'a> {
    tape: &'a mut Tape,
    /// Of its head.
    place: usize,
    head: fn(Parts) -> Token,
    /// Parts so far: items, or pairs.
    count: usize,
    /// The head of the map around it, if it is a variant's.
    outer: Option<usize>,
}

impl Open<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), NoTape> {
        self.count += 1;
        item.serialize(&mut *self.tape)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NoTape> {
        self.tape.push(Token::Name(name));
        self.item(value)
    }

    fn close(self) {
        let end = self.tape.tokens.len();
        self.tape.tokens[self.place] = (self.head)(Parts { count: self.count, end });
        if let Some(outer) = self.outer {
            self.tape.tokens[outer] = Token::Map(Parts { count: 1, end });
        }
    }
}

/// Numbers that fit without loss.
macro_rules! numbers {
    ($($method:ident($of:ty) $token:ident)*) => {
        $(fn $method(self, number: $of) -> Result<(), NoTape> {
            self.push(Token::$token(number.into()));
            Ok(())
        })*
    };
}

/// Likewise those that may be negative.
macro_rules! signed {
    ($($method:ident($of:ty))*) => {
        $(fn $method(self, number: $of) -> Result<(), NoTape> {
            let number = i64::from(number);
            self.push(u64::try_from(number).map_or(Token::Negative(number), Token::Natural));
            Ok(())
        })*
    };
}

impl<'a> Serializer for &'a mut Tape {
    type Ok = ();
    type Error = NoTape;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    numbers! {
        serialize_u8(u8) Natural
        serialize_u16(u16) Natural
        serialize_u32(u32) Natural
        serialize_u64(u64) Natural
        serialize_bool(bool) Bool
        serialize_f32(f32) Float
        serialize_f64(f64) Float
    }

    signed! {
        serialize_i8(i8)
        serialize_i16(i16)
        serialize_i32(i32)
        serialize_i64(i64)
    }

    fn serialize_char(self, value: char) -> Result<(), NoTape> {
        self.push_text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), NoTape> {
        self.push_text(text);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), NoTape> {
        Err(NoTape::custom("bytes"))
    }

    fn serialize_none(self) -> Result<(), NoTape> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NoTape> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NoTape> {
        self.push(Token::Null);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NoTape> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), NoTape> {
        self.push(Token::Name(variant));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NoTape> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), NoTape> {
        let mut open = self.open(Token::Map);
        open.field(variant, value)?;
        open.close();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>, NoTape> {
        Ok(self.open(Token::List))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'a>, NoTape> {
        Ok(self.open(Token::List))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, NoTape> {
        Ok(self.open(Token::List))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'a>, NoTape> {
        Ok(self.open_variant(variant, Token::List))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'a>, NoTape> {
        Ok(self.open(Token::Map))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, NoTape> {
        Ok(self.open(Token::Map))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Open<'a>, NoTape> {
        Ok(self.open_variant(variant, Token::Map))
    }

    /// As for CBOR: addresses are numbers.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Parts without names.
macro_rules! items {
    ($($kind:ident $method:ident)*) => {
        $(impl $kind for Open<'_> {
            type Ok = ();
            type Error = NoTape;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), NoTape> {
                self.item(item)
            }

            fn end(self) -> Result<(), NoTape> {
                self.close();
                Ok(())
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

/// Parts with names.
macro_rules! fields {
    ($($kind:ident)*) => {
        $(impl $kind for Open<'_> {
            type Ok = ();
            type Error = NoTape;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), NoTape> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), NoTape> {
                self.close();
                Ok(())
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = NoTape;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NoTape> {
        key.serialize(&mut *self.tape)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NoTape> {
        self.item(value)
    }

    fn end(self) -> Result<(), NoTape> {
        self.close();
        Ok(())
    }
}
