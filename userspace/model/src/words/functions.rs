//! Names of functions, as people write them.

use std::borrow::Cow;

/// Names that are longer lose what is around their last two parts.
const LONG: usize = 32;

/// A function of a program whose language has a runtime that compiles or interprets it, from its name in a perf map:
/// `JS:~load /srv/shop/orders.js:9:14` of V8 is `load (orders.js:9)`, `py::load:/srv/shop/orders.py` of CPython is
/// `load (orders.py)`, `void shop.Orders.load(int)` of Java's is `Orders.load`. `None` for all others, those of the
/// runtimes among them.
#[must_use]
pub fn of_script(function: &str) -> Option<String> {
    if let Some(method) = of_java(function) {
        return Some(method);
    }
    if let Some(python) = function.strip_prefix("py::") {
        let (name, file) = python.split_once(':')?;
        return Some(format!("{name} ({})", file_name(file)));
    }
    let (kind, rest) = function.split_once(':')?;
    if !["JS", "LazyCompile", "Function", "Script", "Eval"].contains(&kind) {
        return None;
    }
    // How it was compiled: `~` is interpreted, `*` is optimized.
    let (name, place) = rest.trim_start_matches(['~', '^', '+', '*', '\'', 's']).rsplit_once(' ')?;
    let name = if name.is_empty() { "anonymous" } else { name };
    // Line and column: the line is enough.
    let place = match place.rsplit_once(':') {
        Some((before, column)) if is_number(column) && before.rsplit_once(':').is_some_and(|(_, it)| is_number(it)) => {
            before
        }
        _ => place,
    };
    Some(format!("{name} ({})", file_name(place)))
}

/// A method of Java, as the virtual machine writes it, or an agent: `Lshop/Orders;::load`.
fn of_java(function: &str) -> Option<String> {
    let (class, method) = if let Some((class, method)) = function.split_once(";::") {
        (class.strip_prefix('L')?, method.split('(').next().unwrap_or(method))
    } else {
        let (before, parameters) = function.split_once('(')?;
        if before.contains("::") || !parameters.ends_with(')') {
            return None; // C++
        }
        before.rsplit_once(' ')?.1.rsplit_once('.')?
    };
    // A class that is made at run time has an address behind its name, a class of others their names before it.
    let class = class.split_once("/0x").map_or(class, |(class, _)| class);
    let class = class.rsplit(['.', '/']).next().unwrap_or(class);
    (!class.is_empty() && !method.is_empty()).then(|| format!("{class}.{method}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a function of a runtime only leads from one function of the program to the next.
#[must_use]
pub fn is_interpreter(function: &str) -> bool {
    const BEGINNINGS: [&str; 18] = [
        // Java's virtual machine.
        "I2C/C2I",
        "Interpreter",
        "JavaCalls::",
        "StubRoutines",
        // V8.
        "Builtins_",
        "v8::internal::Builtin_Impl",
        "v8::internal::(anonymous namespace)::Invoke",
        "v8::internal::Execution::Call",
        // CPython.
        "_PyEval",
        "PyEval",
        "_PyObject_",
        "PyObject_",
        "_PyVectorcall",
        "_PyFunction_Vectorcall",
        "cfunction_",
        "method_vectorcall",
        "py_trampoline",
        "_Py_trampoline",
    ];
    BEGINNINGS.iter().any(|beginning| function.starts_with(beginning))
}

/// A function's name for where there is little room: without parameters and types, and of a long one the last two
/// parts.
#[must_use]
pub fn short(function: &str) -> Cow<'_, str> {
    if function.contains("operator") || !function.contains("::") {
        return function.into();
    }
    // Rust: `<Type as Trait>::method`.
    let of_type = function.strip_prefix('<').and_then(|rest| {
        let end = closing(rest)?;
        let (inside, after) = (&rest[..end], &rest[end + 1..]);
        Some(format!("{}{after}", inside.split(" as ").next().unwrap_or(inside)))
    });
    let plain = of_type.as_deref().unwrap_or(function);
    let plain = plain.split(" [clone").next().unwrap_or(plain);
    let plain = without_brackets(plain.strip_suffix(" const").unwrap_or(plain));
    if plain.chars().count() <= LONG {
        return plain.into();
    }
    let mut parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty()).collect();
    parts.drain(..parts.len().saturating_sub(2));
    parts.join("::").into()
}

/// Where the bracket ends that is open at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        match character {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
        before = character;
    }
    None
}

/// Without what is in round and angle brackets, and what is behind them.
fn without_brackets(name: &str) -> String {
    let (mut depth, mut before) = (0_usize, ' ');
    let mut text = String::new();
    for character in name.chars() {
        match character {
            '<' | '(' => depth += 1,
            '>' | ')' if before != '-' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => text.clear(),
            _ if depth == 0 => text.push(character),
            _ => {}
        }
        before = character;
    }
    // An anonymous namespace, and types without names, leave nothing between colons.
    let parts: Vec<&str> = text.split("::").filter(|part| !part.is_empty()).collect();
    parts.join("::")
}

/// A function of the C library as programmers call it: `nanosleep`, not `__GI___nanosleep`.
#[must_use]
pub fn of_c_library(function: &str) -> &str {
    ["__GI_", "__libc_", "___", "__"]
        .iter()
        .fold(function, |name, beginning| name.strip_prefix(beginning).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        for (name, expected) in [
            ("JS:~load /srv/shop/orders.js:9:14", Some("load (orders.js:9)")),
            ("LazyCompile:*load /srv/shop/orders.js:9:14", Some("load (orders.js:9)")),
            ("JS:^ /srv/shop/orders.js:15:19", Some("anonymous (orders.js:15)")),
            ("JS:*'emit node:events:465:44", Some("emit (node:events:465)")),
            ("Script:~ /srv/shop/orders.js:1:1", Some("anonymous (orders.js:1)")),
            ("py::Handler.do_GET:/srv/shop/orders.py", Some("Handler.do_GET (orders.py)")),
            ("py::<module>:/srv/shop/orders.py", Some("<module> (orders.py)")),
            ("void shop.Orders.load(java.lang.String, int)", Some("Orders.load")),
            ("void Orders.<init>()", Some("Orders.<init>")),
            ("void shop.Orders$$Lambda$12/0x00000008.handle(Exchange)", Some("Orders$$Lambda$12.handle")),
            ("Lshop/Orders;::load", Some("Orders.load")),
            ("Lshop/Orders;::load(I)V", Some("Orders.load")),
            ("Interpreter", None),
            ("StubRoutines (1)", None),
            ("void shop::Orders::load(int)", None),
            ("load(int) [clone .isra.0]", None),
            ("operator()(int)", None),
            ("Builtin:JsonParse", None),
            ("BytecodeHandler:LdaZero", None),
            ("v8::internal::Builtin_JsonParse(int, unsigned long*)", None),
            ("keysCommand", None),
            ("JS:", None),
            ("py::", None),
        ] {
            assert_eq!(of_script(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn short_names() {
        for (name, expected) in [
            ("keysCommand", "keysCommand"),
            ("std::thread::sleep", "std::thread::sleep"),
            (
                "v8::internal::Builtin_JsonParse(int, unsigned long*, v8::internal::Isolate*)",
                "v8::internal::Builtin_JsonParse",
            ),
            ("v8::internal::JsonParser<unsigned char>::ParseJsonValue()", "JsonParser::ParseJsonValue"),
            ("v8::internal::(anonymous namespace)::Invoke(v8::internal::Isolate*)", "v8::internal::Invoke"),
            ("void std::__shared_ptr<int (*)(long)>::reset(int)", "std::__shared_ptr::reset"),
            ("<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop", "alloc::vec::Vec::drop"),
            ("<shop::orders::Journal as std::io::Write>::write_everything", "Journal::write_everything"),
            ("<shop as Fn() -> u8>::call", "shop::call"),
            ("bool operator< <int>(a::b, a::b)", "bool operator< <int>(a::b, a::b)"),
            ("shop::orders::handle_order::{closure#0}", "handle_order::{closure#0}"),
            ("shop::Order::total() const [clone .cold]", "shop::Order::total"),
            ("::", ""),
            ("<::", ""),
        ] {
            assert_eq!(short(name), expected, "{name}");
        }
    }

    #[test]
    fn the_c_library() {
        for (name, expected) in [
            ("__GI___clock_nanosleep", "clock_nanosleep"),
            ("__libc_recv", "recv"),
            ("__poll", "poll"),
            ("___pthread_cond_signal", "pthread_cond_signal"),
            ("_Fork", "_Fork"),
            ("fsync", "fsync"),
        ] {
            assert_eq!(of_c_library(name), expected);
        }
    }
}
