//! What cargo-mutants found, from its outcomes.json.

use serde_json::Value;

/// Counts of mutants.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    /// A test failed, or the tests ran into a time limit: the mutant loops.
    pub(crate) caught: u64,
    /// All tests passed.
    pub(crate) missed: u64,
    /// The mutant did not compile.
    pub(crate) unviable: u64,
    /// Descriptions of the missed ones, with file and line.
    pub(crate) missed_names: Vec<String>,
}

impl Outcomes {
    /// Reads outcomes.json. `None` when it has another form, or a mutant with an unknown outcome.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let file: Value = serde_json::from_str(text).ok()?;
        let mut outcomes = Self::default();
        for outcome in file["outcomes"].as_array()? {
            // The other scenario is the baseline, without a mutant.
            let Some(mutant) = outcome["scenario"].get("Mutant") else { continue };
            match outcome["summary"].as_str()? {
                "CaughtMutant" | "Timeout" => outcomes.caught += 1,
                "Unviable" => outcomes.unviable += 1,
                "MissedMutant" => {
                    outcomes.missed += 1;
                    outcomes.missed_names.push(mutant["name"].as_str()?.to_owned());
                }
                _ => return None,
            }
        }
        Some(outcomes)
    }

    /// The mutants that compiled.
    pub(crate) fn viable(&self) -> u64 {
        self.caught + self.missed
    }

    /// The caught share of the viable mutants; `None` when there are none.
    pub(crate) fn share(&self) -> Option<f64> {
        (self.viable() > 0).then(|| self.caught as f64 / self.viable() as f64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Outcomes;

    fn file(summaries: &[&str]) -> String {
        let mut outcomes = vec![json!({ "scenario": "Baseline", "summary": "Success" })];
        for (number, summary) in summaries.iter().enumerate() {
            outcomes.push(json!({
                "scenario": { "Mutant": { "name": format!("a.rs:{number}: replace < with <="), "package": "a" } },
                "summary": summary,
            }));
        }
        json!({ "outcomes": outcomes, "total_mutants": summaries.len() }).to_string()
    }

    #[test]
    fn a_timeout_is_caught_and_an_unviable_mutant_does_not_count() {
        let text = file(&["CaughtMutant", "MissedMutant", "Timeout", "Unviable", "CaughtMutant"]);
        let outcomes = Outcomes::parse(&text).unwrap();
        assert_eq!((outcomes.caught, outcomes.missed, outcomes.unviable, outcomes.viable()), (3, 1, 1, 4));
        assert_eq!(outcomes.share(), Some(0.75));
        assert_eq!(outcomes.missed_names, ["a.rs:1: replace < with <="]);
    }

    #[test]
    fn without_viable_mutants_there_is_no_share() {
        assert_eq!(Outcomes::parse(&file(&["Unviable"])).unwrap().share(), None);
        assert_eq!(Outcomes::parse(&file(&[])).unwrap().share(), None);
    }

    #[test]
    fn another_form_is_refused() {
        assert_eq!(Outcomes::parse("{}"), None);
        assert_eq!(Outcomes::parse("no JSON"), None);
        assert_eq!(Outcomes::parse(&file(&["Success"])), None);
    }
}
