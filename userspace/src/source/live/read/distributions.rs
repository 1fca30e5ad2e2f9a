//! Distributions of the listeners that were used: totals that do not wrap.

use std::{
    io,
    ops::Range,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use listentop_abi::{
    histogram::BUCKETS,
    listener::{Buckets, ListenerDistributions},
};
use listentop_model::{histogram::Histogram, sample::Distributions};

use super::shared::WindowedArray;

/// Number of distributions in [`ListenerDistributions`].
const DISTRIBUTIONS: usize = Distributions::N;

/// The distributions of one listener, with 64-bit buckets; the probes' wrap at 32.
#[derive(Default)]
pub(crate) struct Totals([Histogram; DISTRIBUTIONS]);

impl Totals {
    /// Adds what `records` (a listener's shards) counted since the last time, and returns the totals in the record's
    /// order.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub(crate) fn read(
        &mut self,
        array: &mut WindowedArray<ListenerDistributions>,
        records: Range<u32>,
    ) -> io::Result<[Histogram; DISTRIBUTIONS]> {
        let shards: Vec<[*mut Buckets; DISTRIBUTIONS]> =
            records.map(|index| array.pointer(index).map(places)).collect::<io::Result<_>>()?;
        for (which, totals) in self.0.iter_mut().enumerate() {
            let mut before = std::mem::take(&mut totals.buckets).into_iter().peekable();
            for index in 0..BUCKETS {
                let sum = shards.iter().fold(0_u32, |sum, places| {
                    // SAFETY: bucket `index` of the distribution, inside the mapping, added to atomically by the
                    // probes.
                    let bucket = unsafe { AtomicU32::from_ptr(places[which].cast::<u32>().add(index)) };
                    sum.wrapping_add(bucket.load(Ordering::Relaxed))
                });
                let bucket = index as u16;
                let total = before.next_if(|(of, _)| *of == bucket).map_or(0, |(_, total)| total);
                // The total's low half is the sum as it was read last.
                let total = total + u64::from(sum.wrapping_sub(total as u32));
                if total != 0 {
                    totals.buckets.push((bucket, total));
                }
            }
        }
        Ok(self.0.clone())
    }
}

/// Empties the records of a slot that no probe knows any more.
///
/// # Errors
/// What mmap(2) says.
pub(crate) fn clear(array: &mut WindowedArray<ListenerDistributions>, records: Range<u32>) -> io::Result<()> {
    for index in records {
        let record = array.pointer(index)?;
        // SAFETY: inside the mapping, all-zero is a valid record, and no probe writes it: its listener and connections
        // are gone from their tables.
        unsafe { ptr::write_bytes(record, 0, 1) };
    }
    Ok(())
}

fn places(record: *mut ListenerDistributions) -> [*mut Buckets; DISTRIBUTIONS] {
    // SAFETY: places inside the record; nothing is read here.
    unsafe {
        [
            &raw mut (*record).wait,
            &raw mut (*record).handshake,
            &raw mut (*record).client_gone_wait,
            &raw mut (*record).first_byte,
            &raw mut (*record).first_read,
            &raw mut (*record).answer,
            &raw mut (*record).residency,
            &raw mut (*record).bytes_per_read,
        ]
    }
}
