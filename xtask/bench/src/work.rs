//! The result of a load.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The operations of a load.
#[derive(Debug, PartialEq)]
pub(crate) struct Work {
    /// Connections, or requests answered.
    pub(crate) operations: u64,
    /// The same, per second.
    pub(crate) per_second: f64,
}

impl Work {
    /// Reads what `storm` prints.
    ///
    /// # Errors
    /// When it is something else, or there was no operation.
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json.trim()).context("storm's result is not JSON")?;
        let (operations, per_second) = (value["operations"].as_u64(), value["per_second"].as_f64());
        let (Some(operations), Some(per_second)) = (operations, per_second) else {
            return Err(anyhow::anyhow!("storm's result lacks operations or per_second: {value}"));
        };
        ensure!(operations > 0 && per_second > 0.0, "storm did no operation: {value}");
        Ok(Self { operations, per_second })
    }
}

#[cfg(test)]
mod tests {
    use super::Work;

    #[test]
    fn storms_result_is_read_or_refused() {
        let work = Work::parse("{\"operations\":10,\"seconds\":2.0,\"per_second\":5.0}\n").unwrap();
        assert_eq!(work, Work { operations: 10, per_second: 5.0 });
        assert!(Work::parse("{\"operations\":0,\"seconds\":2.0,\"per_second\":0.0}").is_err(), "nothing done");
        assert!(Work::parse("{\"operations\":1}").is_err() && Work::parse("no").is_err());
    }
}
