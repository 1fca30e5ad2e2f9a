use std::{fs::File, os::unix::fs::FileExt as _};

use super::{process::Mapping, *};
use crate::blame::Symbols;

/// The registers and the stack of this thread as they are now, as the kernel would copy them.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the stack is to be that of the function that calls")]
fn here() -> Copy {
    let mut registers = [0; REGISTERS];
    let (address, pointer, frame): (u64, u64, u64);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads registers.
    unsafe {
        std::arch::asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) address, out(reg) pointer, out(reg) frame);
        let [rbx, r12, r13, r14, r15]: [u64; 5];
        std::arch::asm!("mov {}, rbx", "mov {}, r12", "mov {}, r13", "mov {}, r14", "mov {}, r15",
            out(reg) rbx, out(reg) r12, out(reg) r13, out(reg) r14, out(reg) r15);
        [registers[0], registers[1], registers[2], registers[3], registers[5]] = [r15, r14, r13, r12, rbx];
    }
    #[cfg(target_arch = "x86_64")]
    {
        [registers[4], registers[16], registers[17], registers[19]] = [frame, address, 0x33, pointer];
    }
    #[cfg(target_arch = "aarch64")]
    {
        let link: u64;
        // SAFETY: reads registers.
        unsafe {
            std::arch::asm!("adr {}, .", "mov {}, sp", "mov {}, x29", "mov {}, x30",
                out(reg) address, out(reg) pointer, out(reg) frame, out(reg) link);
        }
        [registers[29], registers[30], registers[31], registers[32]] = [frame, link, pointer, address];
    }
    copy(&registers, pointer & !(PAGE as u64 - 1))
}

#[inline(never)]
fn copy(registers: &[u64; REGISTERS], address: u64) -> Copy {
    let memory = File::open("/proc/self/mem").expect("it is ours");
    let mut bytes = Vec::new();
    for page in 0..PAGES {
        let mut part = [0; PAGE];
        if memory.read_exact_at(&mut part, address + (page * PAGE) as u64).is_err() {
            break;
        }
        bytes.extend(part);
    }
    Copy {
        thread: ThreadId::default(),
        number: 0,
        process: std::process::id(),
        kernel_number: -1,
        pid: std::process::id(),
        by_frame_pointers: None,
        registers: *registers,
        address,
        bytes,
    }
}

#[inline(never)]
fn inner() -> Copy {
    std::hint::black_box(here())
}

#[inline(never)]
fn middle() -> Copy {
    std::hint::black_box(inner())
}

#[inline(never)]
fn outer() -> Copy {
    std::hint::black_box(middle())
}

fn names(unwound: &Unwound) -> Vec<String> {
    let mut symbols = Symbols::start().expect("a thread starts");
    let addresses = super::super::parts::for_lookup(unwound.addresses.clone());
    symbols.process(std::process::id(), &addresses);
    let names = symbols.names();
    let of = |address| {
        names.of_user(std::process::id(), address).into_iter().map(|frame| frame.function).collect::<Vec<_>>()
    };
    addresses.into_iter().flat_map(of).collect()
}

#[test]
fn functions_that_called_each_other_are_found() {
    let done = Worker::default().unwind(outer());
    let names = names(&done.unwound);
    // Line tables have no modules: functions that are known from them alone have no path.
    let position = |name: &str| names.iter().position(|found| found.rsplit("::").next() == Some(name));
    let found = ["inner", "middle", "outer", "functions_that_called_each_other_are_found"].map(position);
    assert!(found.iter().all(Option::is_some) && found.is_sorted(), "{names:?}");
    // To the function that a thread begins with.
    assert_eq!(done.unwound.cut, None, "{names:?}");
}

#[inline(never)]
fn descend(left: u32) -> Copy {
    let frame = std::hint::black_box([left; 256]);
    let copy = if left == 0 { here() } else { descend(left - 1) };
    std::hint::black_box(frame);
    copy
}

#[test]
fn a_stack_that_is_longer_than_the_copy_is_cut() {
    let done = Worker::default().unwind(descend(100));
    assert_eq!(done.unwound.cut, Some(Cut::Copy));
    assert!(done.unwound.addresses.len() > 2, "{:?}", done.unwound);
}

#[test]
fn registers_that_are_no_programs_show_nothing() {
    let mut copy = outer();
    copy.registers = [0x1f; REGISTERS];
    assert_eq!(Worker::default().unwind(copy).unwound, Unwound::none());
}

#[test]
fn a_process_that_is_gone_shows_nothing() {
    let mut copy = outer();
    copy.pid = u32::MAX >> 1;
    assert_eq!(Worker::default().unwind(copy).unwound.addresses.len(), 0);
}

/// Whatever is on a stack, unwinding ends, and shows code only.
#[test]
fn any_bytes_end_somewhere() {
    let mut worker = Worker::default();
    let code = std::fs::read_to_string("/proc/self/maps").expect("it is ours");
    let code: Vec<Mapping> = code.lines().filter_map(Mapping::line).collect();
    let mut seed = 1_u64;
    for round in 0..200 {
        let mut copy = outer();
        for word in copy.bytes.as_chunks_mut::<8>().0 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Some are addresses of the stack or of code, as real ones are.
            let value = match seed >> 61 {
                0 | 1 => copy.address + (seed >> 32) % 0x6000,
                2 => code[0].addresses.start + (seed >> 32) % 0x10_0000,
                3 => u64::MAX - (seed >> 40),
                _ => seed,
            };
            *word = value.to_ne_bytes();
        }
        copy.bytes.truncate(copy.bytes.len() - round * 7);
        let unwound = worker.unwind(copy).unwound;
        assert!(unwound.addresses.len() <= 256);
        assert!(unwound.addresses.iter().all(|address| code.iter().any(|code| code.addresses.contains(address))));
    }
}

#[test]
fn a_line_of_maps_is_read() {
    let line = "7f00a000-7f00c000 r-xp 00002000 08:01 1234                       /usr/lib/a b.so (deleted)";
    let mapping = Mapping::line(line).expect("code");
    assert_eq!((mapping.addresses, mapping.offset), (0x7f00_a000..0x7f00_c000, 0x2000));
    assert_eq!(mapping.path, "/usr/lib/a b.so (deleted)");
    assert_eq!(Mapping::line(&line.replace("r-xp", "rw-p")), None);
    assert_eq!(Mapping::line("7f00a000-7f00c000 r-xp 00000000 00:00 0").map(|it| it.path), Some(String::new()));
    assert_eq!(Mapping::line("nonsense"), None);
}

#[test]
fn a_copy_of_another_size_is_refused() {
    assert!(Copy::read(&[0; 100]).is_none());
    assert!(Copy::read(&vec![0; size_of::<StackCopy>()]).is_some_and(|copy| copy.bytes.is_empty()));
    assert!(Copy::read(&vec![0xff; size_of::<StackCopy>()]).is_some_and(|copy| copy.bytes.len() == PAGE * PAGES));
}

#[test]
fn the_kernels_own_library_has_tables() {
    assert!(vdso::tables().is_some());
}
