//! Each query, on types made for it.

use crate::{BtfError, Function, KernelBtf, Member, Parameter, Pointee, Symbol, Value, layout::Kind};

use super::synthetic::{ARRAY, Builder, CONST, ENUM, ENUM64, FLAG, FUNC, FWD, INT, SIGNED, STRUCT, TYPEDEF, UNION};

fn parsed(builder: &Builder) -> KernelBtf {
    KernelBtf::parse(builder.build()).expect("valid")
}

/// `struct inner { int a; int b; }`, and `struct outer` with that in an anonymous union, behind a pointer, in an array,
/// and bit fields.
fn structures() -> KernelBtf {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, SIGNED);
    let inner = btf.structure("inner", STRUCT, 8, &[("a", int, 0), ("b", int, 32)]);
    let constant = btf.add("", CONST, 0, inner, &[]);
    let alias = btf.add("inner_t", TYPEDEF, 0, constant, &[]);
    let union = btf.structure("", UNION, 8, &[("in", alias, 0), ("raw", int, 0)]);
    let pointer = btf.pointer(inner);
    let array = btf.add("", ARRAY, 0, 0, &[inner, int, 3]);
    btf.structure("outer", STRUCT, 48, &[("x", int, 0), ("", union, 32), ("to", pointer, 128), ("many", array, 192)]);
    let members = [("state", int, 0), ("is_mptcp", int, (1 << 24) + 13), ("three", int, (3 << 24) + 14)];
    let body: Vec<u32> =
        members.iter().flat_map(|(name, of, place)| [btf.name(name.as_bytes()), *of, *place]).collect();
    btf.add("bits", STRUCT, FLAG | 3, 4, &body);
    // As compilers wrote them before Linux 5.0.
    let old = btf.add("int", INT, 0, 4, &[2 << 16 | 5]);
    btf.structure("old_bits", STRUCT, 4, &[("five", old, 8)]);
    btf.structure("outer", STRUCT, 4, &[("other", int, 0)]);
    parsed(&btf)
}

#[test]
fn members_are_found_through_anonymous_unions_and_typedefs() {
    let btf = structures();
    assert_eq!(btf.member("outer", "in.b").expect("there"), Member { bits: 64, width: 32 });
    assert_eq!(btf.member("outer", "raw").expect("there").byte(), 4);
    assert_eq!(btf.member("outer", "many").expect("there"), Member { bits: 192, width: 192 });
    assert_eq!((btf.size("outer").expect("there"), btf.size("inner").expect("there")), (48, 8));
    for (structure, path, missing) in
        [("outer", "in.c", "outer.in.c"), ("outer", "x.a", "outer.x.a"), ("none", "x", "struct none")]
    {
        assert!(
            matches!(btf.member(structure, path), Err(BtfError::Missing(what)) if what.to_string() == missing),
            "{path}"
        );
    }
}

#[test]
fn a_bit_field_has_a_byte_a_bit_and_a_width() {
    let btf = structures();
    let flag = btf.member("bits", "is_mptcp").expect("there");
    assert_eq!((flag.byte(), flag.bit(), flag.width), (1, 5, 1));
    assert_eq!(btf.member("bits", "three").expect("there"), Member { bits: 14, width: 3 });
    assert_eq!(btf.member("bits", "state").expect("there"), Member { bits: 0, width: 32 });
    assert_eq!(btf.member("old_bits", "five").expect("there"), Member { bits: 10, width: 5 });
}

#[test]
fn what_lies_behind_a_pointer_has_no_offset() {
    let btf = structures();
    assert_eq!(btf.member("outer", "to").expect("the pointer itself has one").width, 64);
    let error = btf.member("outer", "to.a").expect_err("behind a pointer");
    assert_eq!(error.to_string(), "outer.to.a: to is a pointer");
}

#[test]
fn enumerators_have_32_or_64_bits_and_a_sign() {
    let mut btf = Builder::new();
    let names = ["ONE", "MINUS", "WIDE", "NEGATIVE", "SMALL"].map(|name| btf.name(name.as_bytes()));
    btf.add("", ENUM, 1, 4, &[names[0], 1]);
    btf.add("", ENUM, FLAG | 1, 4, &[names[1], -2_i32 as u32]);
    btf.add("", ENUM64, 1, 8, &[names[2], 5, 7]);
    btf.add("", ENUM64, FLAG | 2, 8, &[names[3], -3_i32 as u32, u32::MAX, names[4], 9, 0]);
    let btf = parsed(&btf);
    assert_eq!((btf.enumerator("ONE").expect("there"), btf.enumerator("SMALL").expect("there")), (1, 9));
    assert_eq!(btf.enumerator("MINUS").expect("there") as i32, -2);
    assert_eq!(btf.enumerator64("WIDE").expect("there"), 7 << 32 | 5);
    assert_eq!(btf.enumerator64("NEGATIVE").expect("there") as i64, -3);
    assert!(matches!(btf.enumerator("WIDE"), Err(BtfError::TooWide(name)) if name == "WIDE"));
    assert!(matches!(btf.enumerator("TWO"), Err(BtfError::Missing(Symbol::Enumerator(name))) if name == "TWO"));
}

#[test]
fn a_function_has_parameters_by_name_and_a_result() {
    let mut btf = Builder::new();
    let (int, size_t) = (btf.int("int", 4, SIGNED), btf.int("unsigned long", 8, 0));
    let long = btf.add("size_t", TYPEDEF, 0, size_t, &[]);
    let sock = btf.structure("sock", STRUCT, 8, &[("x", int, 0)]);
    let (constant, forward) = (btf.add("", CONST, 0, sock, &[]), btf.add("msghdr", FWD, 0, 0, &[]));
    let (sk, message, void) = (btf.pointer(constant), btf.pointer(forward), btf.pointer(0));
    let (number, wide) = (btf.pointer(int), btf.structure("sockptr_t", STRUCT, 16, &[("x", int, 0)]));
    let reason = btf.add("reason", ENUM, 0, 4, &[]);
    let parameters = [("sk", sk), ("msg", message), ("ptr", wide), ("len", long), ("flags", int), ("data", void)];
    btf.function("receive", int, &parameters);
    btf.function("accept", sk, &[("err", number)]);
    btf.function("print", 0, &[("flags", reason), ("", 0)]);
    let btf = parsed(&btf);

    let receive = btf.function("receive").expect("there");
    assert_eq!(receive.parameters(), 6);
    assert_eq!(receive.returns, Value::Integer { bytes: 4, signed: true });
    assert_eq!(receive.parameters[0].value, Value::Pointer(Pointee::Structure("sock".to_owned())));
    assert_eq!(receive.parameters[1].value, Value::Pointer(Pointee::Structure("msghdr".to_owned())));
    assert_eq!(receive.parameters[3].value, Value::Integer { bytes: 8, signed: false });
    assert_eq!(receive.parameters[5].value, Value::Pointer(Pointee::Void));
    // The structure that is passed whole takes two words.
    assert_eq!(
        ["sk", "ptr", "len", "flags", "none"].map(|name| receive.position(name)),
        [Some(0), Some(2), Some(4), Some(5), None]
    );
    assert_eq!(receive.return_position(), 7);

    let accept = btf.function("accept").expect("there");
    assert_eq!(accept.returns, Value::Pointer(Pointee::Structure("sock".to_owned())));
    assert_eq!(accept.parameters[0].value, Value::Pointer(Pointee::Number(4)));
    let flags =
        Parameter { name: "flags".to_owned(), value: Value::Enumeration { name: "reason".to_owned(), bytes: 4 } };
    assert_eq!(
        btf.function("print").expect("there"),
        Function { parameters: vec![flags], returns: Value::Void, variadic: true }
    );
    assert!(matches!(btf.function("gone"), Err(BtfError::Missing(Symbol::Function(name))) if name == "gone"));
}

#[test]
fn functions_of_one_name_are_told_apart_only_if_they_differ() {
    let mut btf = Builder::new();
    let (int, long) = (btf.int("int", 4, SIGNED), btf.int("long", 8, SIGNED));
    btf.function("twice", int, &[("a", int)]);
    btf.function("twice", int, &[("a", int)]);
    let prototype = btf.prototype(0, &[]);
    btf.add("shared", FUNC, 0, prototype, &[]);
    btf.add("shared", FUNC, 0, prototype, &[]);
    btf.function("renamed", int, &[("a", int), ("b", int)]);
    btf.function("renamed", int, &[("a", int), ("unused", int)]);
    btf.function("differs", int, &[("a", int)]);
    btf.function("differs", int, &[("a", long)]);
    let btf = parsed(&btf);
    assert_eq!(btf.function("twice").expect("the same").parameters(), 1);
    assert_eq!(btf.function("shared").expect("the same").parameters(), 0);
    let renamed = btf.function("renamed").expect("the same but for a name");
    assert_eq!(["a", "b", "unused"].map(|name| renamed.position(name)), [Some(0), None, None]);
    assert_eq!(renamed.return_position(), 2);
    assert!(matches!(btf.function("differs"), Err(BtfError::Ambiguous(name)) if name == "differs"));
}

#[test]
fn a_tracepoint_passes_what_follows_its_context() {
    let mut btf = Builder::new();
    let (int, void) = (btf.int("int", 4, SIGNED), btf.pointer(0));
    let prototype = btf.prototype(0, &[("", void), ("", int), ("", int)]);
    let pointer = btf.pointer(prototype);
    btf.add("btf_trace_two", TYPEDEF, 0, pointer, &[]);
    btf.add("btf_trace_no_pointer", TYPEDEF, 0, int, &[]);
    let btf = parsed(&btf);
    assert_eq!(btf.tracepoint_arguments("two").expect("there"), 2);
    assert_eq!(btf.tracepoint("two").expect("there").parameters[1].value, Value::Integer { bytes: 4, signed: true });
    for name in ["no_pointer", "none"] {
        assert!(matches!(btf.tracepoint_arguments(name), Err(BtfError::Missing(_))), "{name}");
    }
}

#[test]
fn an_excerpt_has_the_wanted_names_at_their_numbers_and_no_others() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, SIGNED);
    let wanted = btf.function("wanted", int, &[("x", int)]);
    btf.function("other", 0, &[]);
    // Of the same name, but neither a function nor a typedef.
    btf.structure("btf_trace_it", STRUCT, 8, &[("wanted", int, 0)]);
    let typedef = btf.add("btf_trace_it", TYPEDEF, 0, int, &[]);
    let again = btf.function("wanted", 0, &[]);
    btf.function("last", 0, &[]);
    let whole = parsed(&btf);
    let names: [&[u8]; 3] = [b"wanted", b"btf_trace_it", b"int"];
    let excerpt = KernelBtf::parse(whole.excerpt(names)).expect("valid");
    assert_eq!(excerpt.types.count(), again + 1);
    assert!(whole.types.count() > excerpt.types.count());
    for id in 1..excerpt.types.count() {
        let of = |btf: &KernelBtf| btf.types.header(id).map(|it| (it.kind, btf.types.name(it.name))).expect("there");
        if [wanted, typedef, again].contains(&id) {
            assert_eq!(of(&excerpt), of(&whole), "{id}");
        } else {
            assert_eq!(of(&excerpt), (Kind::Forward, String::new()), "{id}");
        }
    }
}
