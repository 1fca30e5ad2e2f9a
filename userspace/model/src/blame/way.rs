//! Which frame of a stack tells most, and the way to it.

use super::Frame;
use crate::words::functions::{is_interpreter, of_c_library, of_script, short};

impl Frame {
    /// The same, for where there is little room.
    fn short_label(&self) -> String {
        match &self.module {
            _ if self.is_remark || self.kernel || !self.named => self.label(),
            Some(module) if is_c_library(module) => of_c_library(&self.function).to_owned(),
            _ => self.script().unwrap_or_else(|| short(&self.function).into_owned()),
        }
    }

    /// As a function of a program whose language has a runtime.
    pub(super) fn script(&self) -> Option<String> {
        if self.named && !self.kernel { of_script(&self.function) } else { None }
    }

    /// V8's code for a function of JavaScript, which has a name only in a perf map, or for what leads to one.
    fn is_javascript(&self) -> bool {
        self.named && !self.kernel && self.function.starts_with("Builtins_")
    }

    /// Code that was made at run time, and has no name.
    fn is_nameless_code(&self) -> bool {
        !self.named && !self.kernel && self.module.as_deref() == Some("[anonymous memory]")
    }

    /// Whether it belongs to the C library, the loader, the allocator or the kernel's scheduler: it does what another
    /// frame asked for.
    fn is_plumbing(&self) -> bool {
        const OTHERS: [&str; 8] =
            ["ld-", "ld.so", "[vdso]", "libstdc++", "libgcc", "libjemalloc", "libtcmalloc", "libmimalloc"];
        let of_others = |module: &str| OTHERS.iter().any(|library| module.starts_with(library));
        self.kernel || self.module.as_deref().is_some_and(|module| is_c_library(module) || of_others(module))
    }
}

fn is_c_library(module: &str) -> bool {
    ["libc.", "libc-", "libpthread", "ld-musl"].iter().any(|library| module.starts_with(library))
}

/// The frame that tells most: the innermost of a script; else what a script without names has called; else the
/// innermost of the program's own that has a name; else of its libraries; else of the kernel, behind the scheduler.
#[must_use]
pub fn telling(frames: &[Frame]) -> Option<usize> {
    let scheduler = |frame: &Frame| {
        frame.function.starts_with("schedule")
            || frame.function.starts_with("__schedule")
            || frame.function.contains("schedule_")
    };
    let of = |wanted: &dyn Fn(&Frame) -> bool| frames.iter().position(wanted);
    of(&|frame| frame.script().is_some())
        .or_else(|| called_by(frames, of(&|frame| frame.is_javascript())?))
        .or_else(|| nameless_java(frames).map(|java| called_by(frames, java).unwrap_or(java)))
        .or_else(|| of(&|frame| !frame.is_remark && frame.named && !frame.is_plumbing()))
        .or_else(|| of(&|frame| frame.named && !frame.kernel))
        .or_else(|| of(&|frame| frame.named && !scheduler(frame)))
        .or(if frames.is_empty() { None } else { Some(0) })
}

/// The innermost method of Java whose name only a perf map would have. Its virtual machine enters such code in a
/// function of its own.
fn nameless_java(frames: &[Frame]) -> Option<usize> {
    let entered = frames.iter().rposition(|frame| frame.named && frame.function.starts_with("JavaCalls::"))?;
    frames[..entered].iter().position(Frame::is_nameless_code)
}

/// The function of a runtime that its script has called, of which this is the innermost frame.
fn called_by(frames: &[Frame], script: usize) -> Option<usize> {
    frames[..script].iter().rposition(|it| it.named && !it.is_plumbing() && !is_interpreter(&it.function))
}

/// Functions of the way behind the one that tells most, with that.
const CALLERS: usize = 3;

/// The way to the frame that tells most, from the innermost frame of the program on: `read ← load_page ← handle`.
#[must_use]
pub fn way(frames: &[Frame]) -> String {
    let Some(telling) = telling(frames) else { return "-".to_owned() };
    // Frames between are the library's: the first of them is the call that was made.
    let first = frames.iter().position(|frame| !frame.kernel).unwrap_or(telling).min(telling);
    let innermost = &frames[first];
    let mut labels: Vec<String> = interruption(frames).into_iter().map(|said| format!("[{said}]")).collect();
    let is_script = frames[telling].script().is_some();
    // Of a runtime that has no name for its script: this frame is the script's.
    let nameless = if is_script {
        None
    } else if frames[telling + 1..].iter().any(Frame::is_javascript) {
        Some("[JavaScript]")
    } else {
        nameless_java(frames).filter(|java| *java >= telling).map(|_| "[Java]")
    };
    if is_script || nameless.is_some() {
        // What it called tells more, and the call of the system that was made; not what is between.
        labels.extend((innermost.named && innermost.is_plumbing() && first < telling).then(|| innermost.short_label()));
        labels.extend(called_by(frames, telling).filter(|_| is_script).map(|called| frames[called].short_label()));
    } else if first < telling && !innermost.named && !innermost.is_remark {
        // Each instruction of it has another address.
        labels.extend(innermost.module.as_ref().map(|module| format!("unnamed in {module}")));
    } else {
        labels.push(innermost.short_label());
    }
    let callers = frames[telling..].iter().filter(|frame| frame.named && (!is_script || frame.script().is_some()));
    let most = match nameless {
        None => CALLERS,
        Some(_) => usize::from(frames[telling].named),
    };
    for label in callers.take(most).map(Frame::short_label) {
        if labels.last() != Some(&label) {
            labels.push(label);
        }
    }
    labels.extend(nameless.map(str::to_owned));
    labels.join(" \u{2190} ")
}

/// What keeps a thread from going on that has called nothing for it: only the kernel's part of the stack shows it.
fn interruption(frames: &[Frame]) -> Option<&'static str> {
    const BY: [(&str, &str); 6] = [
        ("do_signal_stop", "stopped by a signal"),
        ("ptrace_stop", "stopped by a debugger"),
        ("do_freezer_trap", "frozen by its cgroup"),
        ("__refrigerator", "frozen"),
        ("exc_page_fault", "page fault"),
        ("do_mem_abort", "page fault"),
    ];
    // Where only the kernel's part is known, its functions are the way.
    frames.iter().find(|frame| !frame.kernel && frame.named)?;
    let of_kernel = || frames.iter().take_while(|frame| frame.kernel);
    BY.into_iter().find(|(function, _)| of_kernel().any(|frame| frame.function == *function)).map(|(_, said)| said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames by their functions and files, the innermost first; `-` is the kernel's, and `?` has no name.
    fn stack(frames: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |(function, module): &(&str, &str)| match (*function, *module) {
            ("?", module) => Frame::unnamed(0x55b3_5a03_b753, Some(module.to_owned()), false),
            (function, "-") => Frame::named(function.to_owned(), None, true),
            (function, module) => Frame::named(function.to_owned(), Some(module.to_owned()), false),
        };
        frames.iter().map(frame).collect()
    }

    #[test]
    fn the_way_is_what_a_programmer_would_say() {
        let json = ("v8::internal::JsonParser<unsigned char>::ParseJsonValue()", "node");
        let script = |name| (name, "[anonymous memory]");
        let java = |method| {
            [
                script(method),
                script("Interpreter"),
                script("StubRoutines (1)"),
                ("JavaCalls::call_helper(JavaValue*, methodHandle const&)", "libjvm.so"),
                ("start_thread", "libc.so.6"),
            ]
        };
        let jitted = [
            ("__GI___memmove", "libc.so.6"),
            json,
            ("v8::internal::Builtin_JsonParse(int, unsigned long*, v8::internal::Isolate*)", "node"),
            ("Builtins_CEntry_Return1_ArgvOnStack_BuiltinExit", "node"),
            script("JS:~load /srv/orders.js:9:14"),
            ("Builtins_InterpreterEntryTrampoline", "node"),
            script("JS:~ /srv/orders.js:14:19"),
            ("node::Start", "node"),
        ];
        for (frames, expected) in [
            (
                &jitted[1..],
                "v8::internal::Builtin_JsonParse \u{2190} load (orders.js:9) \u{2190} anonymous (orders.js:14)",
            ),
            (&jitted[5..], "anonymous (orders.js:14)"),
            (
                &[
                    ("do_nanosleep", "-"),
                    ("__clock_nanosleep", "libc.so.6"),
                    ("?", "python3.12"),
                    ("_PyEval_EvalFrameDefault", "python3.12"),
                    script("py::wait_for_stock:/srv/server.py"),
                    ("_PyEval_EvalFrameDefault", "python3.12"),
                    script("py::Handler.do_GET:/srv/server.py"),
                ],
                "clock_nanosleep \u{2190} wait_for_stock (server.py) \u{2190} Handler.do_GET (server.py)",
            ),
            (
                &[
                    ("___pthread_cond_signal", "libc.so.6"),
                    ("uv_cond_signal", "node"),
                    ("v8::internal::Heap::Scavenge()", "node"),
                    ("v8::internal::Builtin_JsonParse(int, unsigned long*, v8::internal::Isolate*)", "node"),
                    ("Builtins_CEntry_Return1_ArgvOnStack_BuiltinExit", "node"),
                    ("Builtins_InterpreterEntryTrampoline", "node"),
                    ("node::Start", "node"),
                ],
                "pthread_cond_signal \u{2190} v8::internal::Builtin_JsonParse \u{2190} [JavaScript]",
            ),
            (&java("?"), "[Java]"),
            (&[&[("__ieee754_fmod", "libm.so.6")], &java("?")[..]].concat(), "__ieee754_fmod \u{2190} [Java]"),
            (
                &[&[("__GI___poll", "libc.so.6"), ("NET_Poll", "libnet.so")], &java("void shop.Orders.load(int)")[..]]
                    .concat(),
                "poll \u{2190} NET_Poll \u{2190} Orders.load",
            ),
            (&[&[("?", "[anonymous memory]")], &java("void shop.Orders.load(int)")[..]].concat(), "Orders.load"),
            (&[("?", "[anonymous memory]"), ("main", "luajit")], "unnamed in [anonymous memory] \u{2190} main"),
            (&[("Builtins_ArrayMap", "node"), ("main", "node")], "Builtins_ArrayMap \u{2190} main"),
            (&[("?", "postgres"), ("ServerLoop", "postgres")], "unnamed in postgres \u{2190} ServerLoop"),
            (
                &[("__libc_malloc", "libjemalloc.so.2"), ("zmalloc", "redis"), ("keysCommand", "redis")],
                "__libc_malloc \u{2190} zmalloc \u{2190} keysCommand",
            ),
            (
                &[("do_swap_page", "-"), ("exc_page_fault", "-"), ("keysCommand", "redis")],
                "[page fault] \u{2190} keysCommand",
            ),
            (
                &[("do_signal_stop", "-"), ("get_signal", "-"), ("epoll_wait", "libc.so.6"), ("main", "nginx")],
                "[stopped by a signal] \u{2190} epoll_wait \u{2190} main",
            ),
            (&[("do_signal_stop", "-"), ("get_signal", "-")], "do_signal_stop \u{2190} get_signal"),
        ] {
            assert_eq!(way(&stack(frames)), expected);
        }
    }

    #[test]
    fn a_remark_is_said_only_where_nothing_else_is() {
        let mut frames = stack(&[("__poll", "libc.so.6")]);
        frames.push(Frame::remark("the stack may go on"));
        assert_eq!(way(&frames), "poll");
        assert_eq!(way(&frames[1..]), "[the stack may go on]");
    }
}
