//! The filter that is typed: words, of which all must match; `OR` between alternatives; `NOT` or `-` before what must
//! not match.

/// What was typed, and what it means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    typed: String,
    /// One of these is enough.
    alternatives: Vec<Vec<Term>>,
}

/// A word, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Term {
    word: String,
    /// It must not match.
    not: bool,
}

impl Filter {
    /// Reads what was typed. Anything means something: an operator without its words is left out.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        let mut alternatives = vec![Vec::new()];
        let mut not = false;
        for word in typed.split_whitespace() {
            match word {
                "OR" | "|" => alternatives.push(Vec::new()),
                "AND" | "&" => {}
                "NOT" | "-" | "!" => not = !not,
                word => {
                    let plain = word.strip_prefix(['-', '!']);
                    let term = Term { word: plain.unwrap_or(word).to_lowercase(), not: not != plain.is_some() };
                    if let Some(last) = alternatives.last_mut() {
                        last.push(term);
                    }
                    not = false;
                }
            }
        }
        alternatives.retain(|terms| !terms.is_empty());
        Self { typed: typed.to_owned(), alternatives }
    }

    /// What was typed.
    #[must_use]
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// Whether a listener passes of which this is known, in lower case.
    #[must_use]
    pub fn passes(&self, text: &str) -> bool {
        let matches = |term: &Term| text.contains(&term.word) != term.not;
        self.is_empty() || self.alternatives.iter().any(|terms| terms.iter().all(matches))
    }

    /// The words that a row shows because they match.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.alternatives.iter().flatten().filter(|term| !term.not).map(|term| term.word.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_operators_and_alternatives() {
        let nginx = "127.0.0.1:80 nginx[7] host multi_acceptor accept queue overflow critical";
        for (typed, passes) in [
            ("", true),
            ("  ", true),
            ("nginx", true),
            ("NGINX 80", true),
            ("nginx 81", false),
            ("redis OR nginx", true),
            ("redis | nginx 81", false),
            ("nginx NOT critical", false),
            ("nginx -critical", false),
            ("nginx !warning overflow", true),
            ("NOT redis", true),
            ("NOT NOT nginx", true),
            ("NOT -nginx", true),
            // Half typed.
            ("nginx OR", true),
            ("OR", true),
            ("NOT", true),
            ("redis OR NOT", false),
            // Operators are in capitals: a process may be named so.
            ("or", true),
            ("not", false),
        ] {
            assert_eq!(Filter::new(typed).passes(nginx), passes, "{typed:?}");
        }
    }

    #[test]
    fn what_is_sought_is_known_for_its_marks() {
        let filter = Filter::new("Nginx OR :80 -closed");
        assert_eq!(filter.words().collect::<Vec<_>>(), ["nginx", ":80"]);
        assert_eq!(filter.typed(), "Nginx OR :80 -closed");
    }
}
