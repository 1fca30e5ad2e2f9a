//! The architectures of the virtual machines, and what differs between them.

use std::fmt;

/// An architecture that kernels are tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`, which Debian calls amd64.
    X86,
    /// aarch64, which Debian calls arm64.
    Arm,
}

impl Architecture {
    /// Rust's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// Debian's name.
    #[must_use]
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// The emulator.
    #[must_use]
    pub fn emulator(self) -> &'static str {
        match self {
            Self::X86 => "qemu-system-x86_64",
            Self::Arm => "qemu-system-aarch64",
        }
    }

    /// Debian's package with the emulator.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::X86 => "qemu-system-x86",
            Self::Arm => "qemu-system-arm",
        }
    }

    /// Board and processor.
    ///
    /// - x86: all features of the emulator, because new kernels need many, except CMPXCHG16B. After that instruction
    ///   qemu 7.2 leaves wrong flags (trap, direction), and an interrupt at that moment crashes the kernel.
    /// - Arm: the board that qemu made for virtual machines. Its `max` processor emulates the authentication of
    ///   pointers, in every function of the kernel: this one has none.
    #[must_use]
    pub(crate) fn machine(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["-cpu", "max,cx16=off"],
            Self::Arm => &["-machine", "virt,gic-version=3", "-cpu", "cortex-a76"],
        }
    }

    /// The device behind which [`events_port`] is: the second serial port. Arm's board has only one by itself.
    #[must_use]
    pub(crate) fn events(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["-serial", "stdio"],
            Self::Arm => &["-chardev", "stdio,id=events", "-device", "pci-serial,chardev=events"],
        }
    }

    /// Kernel options for this architecture alone: the console, and what spares an emulated machine time.
    #[must_use]
    pub(crate) fn kernel_options(self) -> &'static str {
        match self {
            Self::X86 => "console=ttyS0 tsc=reliable no_timer_check",
            Self::Arm => "console=ttyAMA0",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
