//! The network interface that a socket is bound to.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

/// Longest name in bytes: `IFNAMSIZ` less the final 0.
const LONGEST: usize = 15;

/// A network interface of one namespace. Its index identifies it there; the name is for people, and may change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Device {
    name: [u8; LONGEST],
    index: u32,
}

/// A device in a recording.
#[derive(Serialize, Deserialize)]
struct Written {
    index: u32,
    name: String,
}

impl Device {
    /// The interface with this index and name. What no terminal should print becomes `?`.
    #[must_use]
    pub fn new(index: u32, name: &[u8]) -> Self {
        let shown = |c: char| if c.is_control() || !c.is_ascii() { '?' } else { c };
        let text: String = String::from_utf8_lossy(name).chars().map(shown).collect();
        let mut device = Self { name: [0; LONGEST], index };
        for (place, byte) in device.name.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        device
    }

    /// The interface with this index, whose name is not known: `if7`.
    #[must_use]
    pub fn unnamed(index: u32) -> Self {
        Self::new(index, format!("if{index}").as_bytes())
    }

    /// Its index in its namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let length = self.name.iter().position(|byte| *byte == 0).unwrap_or(LONGEST);
        // Only ASCII is put in.
        std::str::from_utf8(&self.name[..length]).unwrap_or("?")
    }
}

impl Deref for Device {
    type Target = str;

    fn deref(&self) -> &str {
        self.name()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name(), self.index)
    }
}

impl From<Written> for Device {
    fn from(written: Written) -> Self {
        Self::new(written.index, written.name.as_bytes())
    }
}

impl From<Device> for Written {
    fn from(device: Device) -> Self {
        Self { index: device.index, name: device.name().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_terminal_can_print() {
        assert_eq!(Device::new(1, b"lo").name(), "lo");
        assert_eq!(Device::new(4, b"a\x1b[31mb\xff").to_string(), "a?[31mb?");
        assert_eq!(Device::new(4, "büro".as_bytes()).name(), "b?ro");
        assert_eq!(Device::new(4, b"exactly-fifteen-and-more").name(), "exactly-fifteen");
        assert_eq!(&*Device::unnamed(u32::MAX), "if4294967295");
    }

    #[test]
    fn two_with_one_name_are_different() {
        assert_ne!(Device::new(1, b"a\xff"), Device::new(2, b"a\xfe"));
    }

    #[test]
    fn a_recording_holds_index_and_name() {
        let device = Device::new(7, b"vrf-red");
        let text = serde_json::to_string(&device).expect("JSON");
        assert_eq!(text, r#"{"index":7,"name":"vrf-red"}"#);
        assert_eq!(serde_json::from_str::<Device>(&text).expect("as written"), device);
    }
}
