//! What a collector's answer means: taken, try again, or never. By the specification of OTLP, for both protocols.

use std::{fmt, time::Duration};

use listentop_model::words::clean;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;

/// What happened to a request.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// The collector took it, but for some points.
    Taken { rejected: u64, why: String },
    /// It may be tried again, after this time or the usual one.
    Later { after: Option<Duration>, failure: Failure, why: String },
    /// It must not be tried again.
    Never { failure: Failure, why: String },
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The collector asks to come again later.
    Busy,
    /// The collector does not want it.
    Refused,
    /// What answers does not speak this protocol.
    Garbage,
}

impl Failure {
    pub(super) const ALL: [Self; 5] = [Self::Unreachable, Self::Timeout, Self::Busy, Self::Refused, Self::Garbage];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
        }
    }
}

/// The longest part of a collector's own words that is shown.
const WORDS: usize = 200;

/// A collector's own words, fit for a line.
pub(super) fn words(text: &str) -> String {
    clean(text.lines().next().unwrap_or_default()).chars().take(WORDS).collect()
}

impl Outcome {
    /// What an answer says that was a success.
    pub(super) fn of(answer: ExportMetricsServiceResponse) -> Self {
        let (rejected, why) = answer.partial_success.map_or((0, String::new()), |partial| {
            (u64::try_from(partial.rejected_data_points).unwrap_or_default(), words(&partial.error_message))
        });
        Self::Taken { rejected, why }
    }

    pub(super) fn later(failure: Failure, why: impl fmt::Display) -> Self {
        Self::Later { after: None, failure, why: words(&why.to_string()) }
    }

    pub(super) fn never(failure: Failure, why: impl fmt::Display) -> Self {
        Self::Never { failure, why: words(&why.to_string()) }
    }
}
