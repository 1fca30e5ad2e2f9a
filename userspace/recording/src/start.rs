//! The first frame of each file: what is recorded, by whom, and the figures that it has.

use listentop_model::figures::FIGURES;
use serde::{Deserialize, Serialize};

/// Version of the format. It goes up when older programs can no longer read what is written; fields are added without.
pub const VERSION: u32 = 1;

/// About a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version of the format: see [`VERSION`].
    pub format: u32,
    /// The program that wrote it, and its version.
    pub program: String,
    /// Identifies the measurement: the segments of one have the same. Another measurement counts from 0 again.
    pub run: u64,
    /// Name of the machine.
    #[serde(default)]
    pub machine: Option<String>,
    /// The source of the samples, such as `live`.
    #[serde(default)]
    pub source: Option<String>,
    /// Milliseconds between two samples.
    #[serde(default)]
    pub interval_ms: u64,
    /// The figures that samples lead to, for those who read the file without listentop.
    #[serde(default)]
    pub figures: Vec<FigureSchema>,
}

/// A figure, as it was declared when the recording was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureSchema {
    /// Its name.
    pub id: String,
    /// Where it is in the JSON report.
    pub path: String,
    /// counter, rate, share, gauge, peak or distribution.
    pub kind: String,
    /// What it counts or measures.
    pub unit: String,
    /// What it means.
    pub help: String,
}

impl Start {
    /// That of a recording that begins now. `run` is to be unlike any other's.
    #[must_use]
    pub fn new(program: String, run: u64) -> Self {
        let figures = FIGURES.iter().map(|figure| FigureSchema {
            id: figure.id.to_owned(),
            path: figure.path.to_owned(),
            kind: figure.kind.to_string(),
            unit: figure.unit.to_string(),
            help: figure.help.to_owned(),
        });
        let figures = figures.collect();
        Self { format: VERSION, program, run, machine: None, source: None, interval_ms: 0, figures }
    }
}
