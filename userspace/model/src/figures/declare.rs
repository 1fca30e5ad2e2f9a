//! The macros behind the table of figures: from one list come the structs of samples and models, and the table itself.

/// Declares figures, in the order of the JSON report. See the table in the parent module.
macro_rules! figures {
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        counter $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)* $entry] [$($g)*] [$($p)*] [$($v)*] [$($d)*] [$($h)*] [$($all)* (counter $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        gauge $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)* $entry] [$($p)*] [$($v)*] [$($d)*] [$($h)*] [$($all)* (gauge $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        peak $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)* $entry] [$($v)*] [$($d)*] [$($h)*] [$($all)* (peak $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        derived $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)*] [$($v)* $entry] [$($d)*] [$($h)*] [$($all)* (derived $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        drops $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)*] [$($v)*] [$($d)* $entry] [$($h)*] [$($all)* (drops $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        distribution $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)*] [$($v)*] [$($d)*] [$($h)* $entry] [$($all)* (distribution $entry)];
            $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        rate $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)*] [$($v)*] [$($d)*] [$($h)*] [$($all)* (rate $entry)]; $($rest)*
        }
    };
    (
        @sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];
        share $entry:tt $($rest:tt)*
    ) => {
        figures! {
            @sort [$($c)*] [$($g)*] [$($p)*] [$($v)*] [$($d)*] [$($h)*] [$($all)* (share $entry)]; $($rest)*
        }
    };
    (@sort [$($c:tt)*] [$($g:tt)*] [$($p:tt)*] [$($v:tt)*] [$($d:tt)*] [$($h:tt)*] [$($all:tt)*];) => {
        counters! { $($c)* }
        gauges! { [$($g)*] [$($p)*] [$($v)*] }
        drops! { $($d)* }
        distributions! { $($h)* }

        /// Every figure of a listener or group, in the order of the JSON report.
        pub static FIGURES: &[Figure] = &[$(figure!($all),)*];
    };
    ($($kind:ident $entry:tt)*) => {
        figures! { @sort [] [] [] [] [] [] []; $($kind $entry)* }
    };
}

/// The entry of a figure in the table.
macro_rules! figure {
    ((counter { $id:ident, $path:literal, $measure:ident, $unit:ident, $null:literal, $help:literal, $($from:tt)* })) => {
        figure!(@ stringify!($id), $path, Counter, $unit, $measure, Add, $null, $help, |l, _| l.total.$id.into())
    };
    ((rate { $of:ident, $path:literal, $measure:ident, $null:literal, $help:literal })) => {
        figure!(
            @ concat!(stringify!($of), "_per_second"), $path, Rate, PerSecond, $measure, Add, $null, $help,
            |l, seconds| l.total.$of.filter(|_| seconds > 0.0).map(|count| count as f64 / seconds).into()
        )
    };
    ((share { $id:ident, $path:literal, $measure:ident, $null:literal, $help:literal, $total:ident => $share:expr })) => {
        figure!(@ stringify!($id), $path, Share, Share, $measure, OfSums, $null, $help, |l, _| {
            let $total = &l.total;
            $share.into()
        })
    };
    ((gauge {
        $id:ident: $type:ty, $path:literal, $measure:ident, $unit:ident, $sum:ident, $null:literal, $help:literal, $($from:tt)*
    })) => {
        figure!(@ stringify!($id), $path, Gauge, $unit, $measure, $sum, $null, $help, |l, _| l.now.$id.into())
    };
    ((derived {
        $id:ident: $type:ty, $path:literal, $measure:ident, $unit:ident, $sum:ident, $null:literal, $help:literal, $($from:tt)*
    })) => {
        figure!(@ stringify!($id), $path, Gauge, $unit, $measure, $sum, $null, $help, |l, _| l.now.$id.into())
    };
    ((peak { $id:ident: $type:ty, $path:literal, $measure:ident, $unit:ident, $null:literal, $help:literal, $($from:tt)* })) => {
        figure!(@ stringify!($id), $path, Peak, $unit, $measure, Largest, $null, $help, |l, _| l.now.$id.into())
    };
    ((drops {
        $id:ident, $path:literal, $measure:ident, $unit:ident, $sum:ident, $null:literal, $help:literal
    })) => {
        figure!(
            @ concat!("drops_", stringify!($id)), $path, Counter, $unit, $measure, $sum, $null, $help,
            |l, _| l.drops.$id.into()
        )
    };
    ((distribution { $id:ident, $path:literal, $measure:ident, $unit:ident, $null:literal, $help:literal })) => {
        figure!(
            @ stringify!($id), $path, Distribution, $unit, $measure, Merged, $null, $help,
            |l, _| l.distributions.$id.as_ref().into()
        )
    };
    (
        @ $id:expr, $path:literal, $kind:ident, $unit:ident, $measure:ident, $sum:ident, $null:literal, $help:literal,
        $read:expr
    ) => {
        Figure {
            id: $id,
            path: $path,
            kind: Kind::$kind,
            unit: Unit::$unit,
            measure: Measure::$measure,
            sum: Sum::$sum,
            null: $null,
            help: $help,
            read: $read,
        }
    };
}

/// The counters: readings in a sample, counts of an interval, and recent rates.
macro_rules! counters {
    ($({
        $id:ident, $path:literal, $measure:ident, $unit:ident, $null:literal, $help:literal, $records:ident => $from:expr
    })*) => {
        /// Counts: in a sample as they were read, in a model those of the interval.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $(#[doc = $help] pub $id: Option<u64>,)*
        }

        impl Counts {
            /// How many there are.
            pub(crate) const N: usize = [$($path,)*].len();

            /// Their names, in the order of their declaration.
            pub const NAMES: [&str; Self::N] = [$(stringify!($id),)*];

            /// The measures that they belong to, likewise.
            pub(crate) const MEASURES: [Measure; Self::N] = [$(Measure::$measure,)*];

            /// Reads them from what the probes keep, those whose measure is `available`.
            pub fn read(records: &Records<'_>, available: impl Fn(Measure) -> bool) -> Self {
                Self {
                    $($id: {
                        let $records = records;
                        Some($from).filter(|_| available(Measure::$measure))
                    },)*
                }
            }

            /// All of them, in the order of their declaration.
            #[must_use]
            pub const fn values(&self) -> [Option<u64>; Self::N] {
                [$(self.$id,)*]
            }

            /// All of them, to be changed.
            pub fn values_mut(&mut self) -> [&mut Option<u64>; Self::N] {
                [$(&mut self.$id,)*]
            }

            pub(crate) const fn from_values(values: [Option<u64>; Self::N]) -> Self {
                let [$($id,)*] = values;
                Self { $($id,)* }
            }

            /// Adds those of another shard.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$id = self.$id.add(other.$id);)*
            }
        }

        /// Recent rates per second: of every counter, and of refused attempts.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct Rates {
            $(#[doc = $help] pub $id: Option<f64>,)*
            /// Refused attempts.
            pub drops: Option<f64>,
        }

        impl Rates {
            /// How many there are.
            pub(crate) const N: usize = Counts::N + 1;

            /// The growth since `before`, per second; likewise of refused attempts, of which `drops` are the counts now
            /// and before.
            pub(crate) fn between(
                now: &Counts,
                before: &Counts,
                drops: (Option<u64>, Option<u64>),
                seconds: f64,
            ) -> Self {
                let rate = |now: Option<u64>, before: Option<u64>| {
                    now.map(|now| now.saturating_sub(before.unwrap_or(0)) as f64 / seconds)
                };
                Self { $($id: rate(now.$id, before.$id),)* drops: rate(drops.0, drops.1) }
            }

            /// All of them, to be changed.
            pub fn values_mut(&mut self) -> [&mut Option<f64>; Self::N] {
                [$(&mut self.$id,)* &mut self.drops]
            }

            /// Adds those of another shard.
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$id = self.$id.add(other.$id);)*
                self.drops = self.drops.add(other.drops);
            }
        }
    };
}

/// Puts a figure of a group together, by its rule.
macro_rules! combine {
    (Add $sum:expr, $part:expr) => {
        $sum = $sum.add($part)
    };
    (AddKnown $sum:expr, $part:expr) => {
        $sum = $sum.add_known($part)
    };
    (Largest $sum:expr, $part:expr) => {
        $sum = $sum.largest($part)
    };
    (Any $sum:expr, $part:expr) => {
        $sum = $sum.largest($part)
    };
}

/// The gauges: in a sample, and in a model.
macro_rules! gauges {
    (
        [$({
            $id:ident: $type:ty, $path:literal, $measure:ident, $unit:ident, $sum:ident, $null:literal, $help:literal,
            $records:ident => $from:expr
        })*]
        [$({
            $peak:ident: $peak_type:ty, $peak_path:literal, $peak_measure:ident, $peak_unit:ident, $peak_null:literal,
            $peak_help:literal, $peak_records:ident => $peak_from:expr, $peak_sample:ident => $peak_now:expr
        })*]
        [$({
            $derived:ident: $derived_type:ty, $derived_path:literal, $derived_measure:ident, $derived_unit:ident,
            $derived_sum:ident, $derived_null:literal, $derived_help:literal, $derived_sample:ident => $derived_from:expr
        })*]
    ) => {
        /// Gauges as a source reads them. Peaks are those since the sample before.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct GaugeSample {
            $(#[doc = $help] pub $id: $type,)*
            $(#[doc = $peak_help] pub $peak: $peak_type,)*
        }

        impl GaugeSample {
            /// Gauges with a number for each name.
            #[cfg(any(test, feature = "fixtures"))]
            pub fn of_numbers(number: impl Fn(&str) -> u16) -> Self {
                Self {
                    $($id: FromNumber::from_number(number(stringify!($id))),)*
                    $($peak: FromNumber::from_number(number(stringify!($peak))),)*
                }
            }

            /// How many peaks there are.
            pub const PEAKS: usize = [$($peak_path,)*].len();

            /// The peaks since the sample before, in the order of their declaration.
            #[must_use]
            pub fn peaks(&self) -> [Value<'static>; Self::PEAKS] {
                [$({
                    let $peak_sample = self;
                    ($peak_now).into()
                },)*]
            }

            /// Takes over the peaks of a sample that is left out: of the two, the larger.
            pub fn take_peaks(&mut self, left_out: &Self) {
                $(self.$peak = self.$peak.largest(left_out.$peak);)*
            }

            /// Reads them from what the probes keep, those whose measure is `available`.
            pub fn read(records: &Records<'_>, available: impl Fn(Measure) -> bool) -> Self {
                Self {
                    $($id: {
                        let $records = records;
                        let value: $type = $from;
                        value.where_available(available(Measure::$measure))
                    },)*
                    $($peak: {
                        let $peak_records = records;
                        let value: $peak_type = $peak_from;
                        value.where_available(available(Measure::$peak_measure))
                    },)*
                }
            }
        }

        /// Values at the last sample, and peaks of the interval.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Gauges {
            $(#[doc = $help] pub $id: $type,)*
            $(#[doc = $peak_help] pub $peak: $peak_type,)*
            $(#[doc = $derived_help] pub $derived: $derived_type,)*
            /// Largest depth of the accept queue in the recent span.
            pub recent_accept_peak: Option<u32>,
        }

        impl Gauges {
            /// Takes a sample in.
            pub(crate) fn take(&mut self, sample: &GaugeSample) {
                $(self.$id = sample.$id;)*
                $(self.$peak = self.$peak.largest({ let $peak_sample = sample; $peak_now });)*
                $(self.$derived = { let $derived_sample = sample; $derived_from };)*
            }

            /// Adds the values of another shard, without its peaks.
            pub(crate) fn add_values(&mut self, other: &Self) {
                $(combine!($sum self.$id, other.$id);)*
                $(combine!($derived_sum self.$derived, other.$derived);)*
            }

            /// Adds the peaks of another shard. The shards may have peaked at different times, so only the largest peak
            /// is certain.
            pub(crate) fn add_peaks(&mut self, other: &Self) {
                $(self.$peak = self.$peak.largest(other.$peak);)*
                self.recent_accept_peak = self.recent_accept_peak.largest(other.recent_accept_peak);
            }
        }
    };
}

/// Refused attempts.
macro_rules! drops {
    ($({
        $id:ident, $path:literal, $measure:ident, $unit:ident, $sum:ident, $null:literal, $help:literal
    })*) => {
        /// Refused attempts by cause. The causes add up to `total`. A cause that is not known is `None`, and its share
        /// is in `unexplained`.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Drops {
            $(#[doc = $help] pub $id: Option<u64>,)*
        }

        impl Drops {
            /// What came since `before`.
            pub(crate) fn since(&self, before: &Self) -> Self {
                let since = |now: Option<u64>, before: Option<u64>| {
                    now.map(|now| now.saturating_sub(before.unwrap_or(0)))
                };
                Self { $($id: since(self.$id, before.$id),)* }
            }

            /// Adds those of another shard.
            pub(crate) fn add(&mut self, other: &Self) {
                $(combine!($sum self.$id, other.$id);)*
            }

            /// All of them, to be changed.
            #[cfg(any(test, feature = "fixtures"))]
            pub fn values_mut(&mut self) -> [&mut Option<u64>; [$($path,)*].len()] {
                [$(&mut self.$id,)*]
            }
        }
    };
}

/// The distributions.
macro_rules! distributions {
    ($({ $id:ident, $path:literal, $measure:ident, $unit:ident, $null:literal, $help:literal })*) => {
        /// The distributions of one listener; each `None` where it cannot be measured.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Distributions {
            $(#[doc = $help] pub $id: Option<Histogram>,)*
        }

        impl Distributions {
            /// How many there are.
            pub const N: usize = [$($path,)*].len();

            /// The measures that they belong to, in the order of their declaration.
            pub(crate) const MEASURES: [Measure; Self::N] = [$(Measure::$measure,)*];

            /// Those that the probes keep, in the order of their declaration: those whose measure is `available`.
            pub fn read(histograms: [Histogram; Self::N], available: impl Fn(Measure) -> bool) -> Self {
                let [$($id,)*] = histograms;
                Self { $($id: Some($id).filter(|_| available(Measure::$measure)),)* }
            }

            /// All of them, in the order of their declaration.
            #[must_use]
            pub const fn each(&self) -> [&Option<Histogram>; Self::N] {
                [$(&self.$id,)*]
            }

            /// All of them, to be changed.
            pub fn each_mut(&mut self) -> [&mut Option<Histogram>; Self::N] {
                [$(&mut self.$id,)*]
            }
        }
    };
}
