//! Names to types.

use crate::layout::Types;

/// No entry.
const NONE: u32 = u32::MAX;

/// A chained hash table that is filled once. It keeps hashes only; the caller compares names.
///
/// Names that collide on purpose make one query walk its whole chain, which is no longer than the data. Filling the
/// table costs the same for any names.
pub(crate) struct Index {
    /// Hash, number, and the next entry of the same chain.
    entries: Vec<(u32, u32, u32)>,
    /// The first entry of each chain; a power of two of them.
    chains: Vec<u32>,
}

impl Index {
    /// An index over pairs of name and number.
    pub(crate) fn new(types: &Types, entries: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut entries: Vec<_> = entries.map(|(name, number)| (hash(types.name_bytes(name)), number, NONE)).collect();
        let mut chains = vec![NONE; entries.len().next_power_of_two()];
        let mask = chains.len() - 1;
        // From the last to the first, so that a chain begins with its lowest number.
        for (index, entry) in entries.iter_mut().enumerate().rev() {
            let chain = &mut chains[entry.0 as usize & mask];
            entry.2 = std::mem::replace(chain, index as u32);
        }
        Self { entries, chains }
    }

    /// The numbers of the entries that may have this name, in the order in which they were given.
    pub(crate) fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let hash = hash(name);
        let mut next = self.chains[hash as usize & (self.chains.len() - 1)];
        std::iter::from_fn(move || {
            while let Some((other, number, after)) = self.entries.get(next as usize) {
                next = *after;
                if *other == hash {
                    return Some(*number);
                }
            }
            None
        })
    }
}

/// Eight bytes at a time: there are 10^5 names.
fn hash(name: &[u8]) -> u32 {
    let (words, rest) = name.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_ne_bytes(*word)));
    (mix(hash, u64::from_ne_bytes(last)) >> 32) as u32
}
