//! BTF that contradicts itself: an error, soon, and never a panic.

use std::time::{Duration, Instant};

use crate::{BtfError, KernelBtf};

use super::synthetic::{ARRAY, Builder, CONST, ENUM, FUNC, FUNC_PROTO, INT, PTR, STRUCT, TYPEDEF, UNION};

/// What a query takes at most, on a slow machine and without optimisation. Without a bound these would take years.
const SOON: Duration = Duration::from_secs(2);

fn assert_malformed<T: std::fmt::Debug>(what: &str, query: impl FnOnce() -> Result<T, BtfError>) {
    let start = Instant::now();
    let answer = query();
    let took = start.elapsed();
    assert!(matches!(answer, Err(BtfError::Malformed(_))), "{what}: {answer:?}");
    assert!(took < SOON, "{what}: {took:?}");
}

fn parsed(builder: &Builder) -> KernelBtf {
    KernelBtf::parse(builder.build()).expect("its layout is valid")
}

#[test]
fn nesting_that_fans_out_exponentially_ends() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    let mut inner = btf.structure("", UNION, 4, &[("x", int, 0)]);
    for _ in 0..30 {
        inner = btf.structure("", UNION, 4, &[("", inner, 0), ("", inner, 0)]);
    }
    btf.structure("sock", STRUCT, 4, &[("", inner, 0)]);
    let btf = parsed(&btf);
    assert_eq!(btf.member("sock", "x").expect("the first way leads to it").bits, 0);
    assert_malformed("2^30 ways", || btf.member("sock", "y"));
}

#[test]
fn types_that_contain_themselves_end() {
    let mut btf = Builder::new();
    let next = |btf: &mut Builder| btf.reserve();
    let (own, alias, array) = (next(&mut btf), next(&mut btf), next(&mut btf));
    let [name, anonymous, member] = [&b"own"[..], b"", b"alias"].map(|name| btf.name(name));
    btf.set(own, [name, STRUCT << 24 | 2, 4], &[anonymous, own, 0, member, alias, 0]);
    btf.set(alias, [0, CONST << 24, alias], &[]);
    btf.set(array, [0, ARRAY << 24, 0], &[array, array, 1]);
    btf.structure("outer", STRUCT, 4, &[("array", array, 0), ("alias", alias, 0)]);
    btf.function("returns_itself", alias, &[]);
    btf.add("btf_trace_alias", TYPEDEF, 0, alias, &[]);
    let btf = parsed(&btf);
    assert_malformed("a structure in itself", || btf.member("own", "none"));
    assert_malformed("a qualifier of itself", || btf.member("outer", "alias"));
    assert_malformed("an array of itself", || btf.member("outer", "array"));
    assert_malformed("a result of no type", || btf.function("returns_itself"));
    assert_malformed("a tracepoint of no type", || btf.tracepoint("alias"));
}

#[test]
fn structures_that_refer_to_each_other_end() {
    let mut btf = Builder::new();
    let (one, other) = (btf.reserve(), btf.reserve());
    let name = btf.name(b"one");
    btf.set(one, [name, STRUCT << 24 | 2, 4], &[0, other, 0, 0, other, 0]);
    btf.set(other, [0, UNION << 24 | 2, 4], &[0, one, 0, 0, one, 0]);
    let btf = parsed(&btf);
    assert_malformed("two structures, each in the other", || btf.member("one", "x"));
}

#[test]
fn deep_nesting_is_refused() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    let (mut nested, mut alias) = (btf.structure("", STRUCT, 4, &[("x", int, 0)]), int);
    for _ in 0..100_000 {
        nested = btf.structure("", STRUCT, 4, &[("", nested, 0)]);
        alias = btf.add("", CONST, 0, alias, &[]);
    }
    btf.structure("deep", STRUCT, 4, &[("", nested, 0), ("alias", alias, 0)]);
    btf.structure("long", STRUCT, 4, &[("alias", alias, 0)]);
    let btf = parsed(&btf);
    assert_malformed("a deep structure", || btf.member("deep", "x"));
    assert_malformed("a long chain", || btf.member("long", "alias"));
}

#[test]
fn offsets_that_overflow_are_refused() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    let inner = btf.structure("inner", STRUCT, 4, &[("x", int, u32::MAX)]);
    let huge = btf.add("", INT, 0, u32::MAX, &[8]);
    let array = btf.add("", ARRAY, 0, 0, &[int, int, u32::MAX]);
    let members = [("in", inner, u32::MAX), ("huge", huge, 0), ("array", array, 0)];
    btf.structure("outer", STRUCT, 4, &members);
    let btf = parsed(&btf);
    for path in ["in.x", "huge", "array"] {
        assert_malformed(path, || btf.member("outer", path));
    }
}

#[test]
fn types_that_do_not_exist_are_refused() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    btf.structure("sock", STRUCT, 4, &[("gone", 4711, 0), ("x", int, 0)]);
    btf.add("no_prototype", FUNC, 0, int, &[]);
    btf.add("gone", FUNC, 0, 4711, &[]);
    btf.function("of_gone", 0, &[("x", 4711)]);
    let btf = parsed(&btf);
    assert_malformed("a member of no type", || btf.member("sock", "gone"));
    assert_eq!(btf.member("sock", "x").expect("another is not in its way").bits, 0);
    for name in ["no_prototype", "gone", "of_gone"] {
        assert_malformed(name, || btf.function(name));
    }
}

#[test]
fn a_type_longer_than_the_section_is_refused() {
    for kind in [STRUCT, UNION, ENUM, FUNC_PROTO, 15, 19] {
        let mut btf = Builder::new();
        btf.add("x", kind, 0xffff, 4, &[0; 12]);
        assert_malformed("vlen", || KernelBtf::parse(btf.build()).map(drop));
    }
}

#[test]
fn a_kind_that_is_not_known_is_passed_over_if_its_length_is() {
    let mut btf = Builder::new();
    btf.add("new", 20, 2, 0, &[1, 2, 3, 4, 5]);
    let pointee = btf.int("int", 4, 0);
    btf.add("", PTR, 0, pointee, &[]);
    btf.structure("sock", STRUCT, 4, &[("x", pointee, 0)]);
    let old = btf.build();
    assert_malformed("an unknown kind", || KernelBtf::parse(old.clone()).map(drop));
    // Four bytes once, and eight for each of two; the other kinds' lengths are not looked at.
    let mut layout = vec![0; 4 * 20];
    layout.extend([4, 8, 0, 0]);
    let word = |at: usize| u32::from_ne_bytes(old[at..at + 4].try_into().expect("four bytes"));
    let (length, rest) = (layout.len() as u32, old.len() as u32 - 24);
    let mut new = old.clone();
    new[4..8].copy_from_slice(&32_u32.to_ne_bytes());
    new.splice(24..24, [rest, length].iter().flat_map(|word| word.to_ne_bytes()));
    new.extend(layout);
    assert_eq!(word(8), 0);
    let btf = KernelBtf::parse(new.clone()).expect("its length is given");
    assert_eq!(btf.size("sock").expect("behind it"), 4);
    new[28] = 0xff;
    assert_malformed("a layout outside", || KernelBtf::parse(new).map(drop));
}

#[test]
fn names_outside_the_strings_are_refused() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    btf.structure("sock", STRUCT, 4, &[("x", int, 0)]);
    let mut data = btf.build();
    data[24..28].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert_malformed("a type's name", || KernelBtf::parse(data).map(drop));

    btf.add("", STRUCT, 1, 4, &[u32::MAX, int, 0]);
    let id = btf.add("request_sock", STRUCT, 2, 4, &[u32::MAX, int, 0, 1, int, 32]);
    assert!(id > 0);
    let btf = parsed(&btf);
    assert_eq!(btf.member("request_sock", "int").expect("by the name at 1").bits, 32);
}

#[test]
fn what_is_no_btf_is_told_from_what_is_cut_off() {
    let whole = Builder::new().build();
    assert!(KernelBtf::parse(whole.clone()).is_ok());
    let text = |data: &[u8]| KernelBtf::parse(data.to_vec()).map(drop).expect_err("refused").to_string();
    assert_eq!(text(&[]), "not valid BTF: the file is empty");
    assert_eq!(text(b"\x7fELF and so on, for more than a header"), "not valid BTF: the magic number is wrong");
    assert_eq!(text(&whole[..10]), "not valid BTF: the header is cut off");
    let mut swapped = whole.clone();
    swapped.swap(0, 1);
    assert_eq!(text(&swapped), "not valid BTF: it is of a machine with another byte order");
    let mut strings = whole;
    strings[24] = b'x';
    assert_eq!(text(&strings), "not valid BTF: the strings do not begin and end with a zero");
}

/// A million names that all hash alike, or are all the same, cost no more than others.
#[test]
fn many_types_of_one_name_are_searched_in_bounded_time() {
    let mut btf = Builder::new();
    let int = btf.int("int", 4, 0);
    let prototype = btf.prototype(int, &[]);
    for _ in 0..100_000 {
        btf.add("same", FUNC, 0, prototype, &[]);
    }
    let btf = parsed(&btf);
    let start = Instant::now();
    assert_eq!(btf.function("same").expect("they agree").parameters(), 0);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
