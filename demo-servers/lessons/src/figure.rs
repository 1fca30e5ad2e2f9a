//! The expressions that name figures.
//!
//! A figure is `SOURCE:NAME:PATH`, or `SOURCE:PATH` where a source has no names:
//!
//! | source | what the path is of |
//! |---|---|
//! | `listentop:SERVER` | the listener in listentop's JSON report (docs/schema.md). Of several shards: the group |
//! | `listentop` | the report as a whole: `own_cost.lost_events` |
//! | `blame:SERVER` | the listener in what `listentop blame` prints, if the lesson has it run |
//! | `blame` | the same as a whole: `total_wait_us` |
//! | `server:SERVER` | the counters that the server printed: `total.accepts` |
//! | `load:LOAD` | the summary that the client printed: `connect_us.p99` |
//! | `kernel` | a counter of the lab's namespace as nstat(8) names it: `TcpExtListenOverflows` |
//! | `queue:SERVER` | the accept queue as sock_diag(7) has it, read every 2 ms: `mean`, `max`, `samples`, `integral` |
//! | `process:NAME` | processes of a server or load in /proc: `cpu_ms`, `threads`, `processes`, `rss_kib`, `switches` |
//! | `run` | the run itself: `seconds`, `cpus`, and `late_us`: how late a thread that sleeps for 2 ms gets a CPU |
//!
//! The `shards[*]` of a group are the listeners themselves; `switches` has `voluntary` and `forced`;
//! `integral` is depth × seconds. A listener of `blame` also has `functions`: each `name` without its path, with the
//! `state`, and the `share` and `wait_us` of the stacks that it is in.
//!
//! A path consists of keys separated by dots. `[N]` behind a key picks an element, `[*]` all of them, `[word]` those
//! whose `id`, `name`, `role` or `comm` is this word or begins with it and `-`, or whose `roles` contain it. An object
//! or a word counts as a list of one: `pattern[sharded]`, `limit_set_by[somaxconn]`.
//!
//! `FIGURE@STEP` is the value at the end of that step instead of the end of the run. Numbers, `+ - * /` and parentheses
//! combine figures. `sum`, `min`, `max`, `mean` and `count` take the values of one path. `count` of what is not there
//! is 0; every other figure that is not there is unknown.

use std::fmt;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// One figure; it must have exactly one value.
    Figure(Figure),
    /// A function of all values of one figure.
    Function(Function, Figure),
    /// Two expressions.
    Pair(Box<Expression>, Operator, Box<Expression>),
}

impl Expression {
    /// Whether it compares what two of listentop, the programs and the kernel counted. While all go on, that is only
    /// true of counts that were read at one moment.
    #[must_use]
    pub fn compares(&self) -> bool {
        let mut sources = Vec::new();
        self.figures(&mut |figure| {
            let source = match figure.source {
                Source::Process | Source::Run => return,
                // Servers and loads print their counters when the same signal comes.
                Source::Load => Source::Server,
                other => other,
            };
            if figure.step.is_none() && !sources.contains(&source) {
                sources.push(source);
            }
        });
        // The lab reads the queues all the time: they are as of now, beside all but what is known at the end only.
        if !sources.contains(&Source::Blame) {
            sources.retain(|source| *source != Source::Queue);
        }
        sources.len() > 1
    }
}

/// What is done with the values of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are clear")]
pub enum Function {
    Sum,
    Min,
    Max,
    Mean,
    Count,
}

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are clear")]
pub enum Operator {
    Plus,
    Minus,
    Times,
    Over,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Where it comes from.
    pub source: Source,
    /// Whose it is, if the source has names.
    pub name: Option<String>,
    /// The keys.
    pub path: Vec<Key>,
    /// At the end of this step; otherwise at the end of the run.
    pub step: Option<String>,
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the module's documentation describes each")]
pub enum Source {
    Listentop,
    Blame,
    Server,
    Load,
    Kernel,
    Queue,
    Process,
    Run,
}

impl Source {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Listentop, "listentop"),
        (Self::Blame, "blame"),
        (Self::Server, "server"),
        (Self::Load, "load"),
        (Self::Kernel, "kernel"),
        (Self::Queue, "queue"),
        (Self::Process, "process"),
        (Self::Run, "run"),
    ];
}

/// A key of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The member of an object.
    pub member: String,
    /// Which elements of the list that it holds.
    pub pick: Option<Pick>,
}

/// Elements of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// All.
    All,
    /// The one at this place, from 0.
    At(usize),
    /// Those with this id, name, role or comm.
    Named(String),
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses an expression.
///
/// # Errors
/// It is none. The message says where.
pub fn parse(text: &str) -> Result<Expression, Mistake> {
    let mut parser = Parser { rest: text };
    let expression = parser.sum()?;
    if parser.peek().is_some() {
        return Err(Mistake(format!("unexpected '{}' in '{text}'", parser.rest)));
    }
    Ok(expression)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        found
    }

    fn sum(&mut self) -> Result<Expression, Mistake> {
        self.pairs(Self::product, &[('+', Operator::Plus), ('-', Operator::Minus)])
    }

    fn product(&mut self) -> Result<Expression, Mistake> {
        self.pairs(Self::factor, &[('*', Operator::Times), ('/', Operator::Over)])
    }

    fn pairs(
        &mut self,
        part: fn(&mut Self) -> Result<Expression, Mistake>,
        operators: &[(char, Operator)],
    ) -> Result<Expression, Mistake> {
        let mut left = part(self)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.take(*sign)) {
            left = Expression::Pair(Box::new(left), *operator, Box::new(part(self)?));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Expression, Mistake> {
        if self.take('(') {
            let inner = self.sum()?;
            return self.closed(inner);
        }
        let word = self.word();
        if word.is_empty() {
            return Err(Mistake(format!("a figure or number is expected before '{}'", self.rest)));
        }
        if let Ok(number) = word.parse() {
            return Ok(Expression::Number(number));
        }
        let function = match word {
            "sum" => Function::Sum,
            "min" => Function::Min,
            "max" => Function::Max,
            "mean" => Function::Mean,
            "count" => Function::Count,
            figure => return Self::figure(figure).map(Expression::Figure),
        };
        if !self.take('(') {
            return Err(Mistake(format!("'(' is expected after {word}")));
        }
        let figure = self.word();
        let figure = Self::figure(figure)?;
        self.closed(Expression::Function(function, figure))
    }

    fn closed(&mut self, inner: Expression) -> Result<Expression, Mistake> {
        if self.take(')') { Ok(inner) } else { Err(Mistake("')' is missing".to_owned())) }
    }

    /// A figure, number or function's name: all up to a space or operator. Within brackets everything belongs to it.
    fn word(&mut self) -> &'a str {
        self.peek();
        let mut inside = false;
        let end = self.rest.find(|c: char| {
            inside = c == '[' || inside && c != ']';
            !(inside || c.is_ascii_alphanumeric() || "_.:@[]".contains(c))
        });
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn figure(word: &str) -> Result<Figure, Mistake> {
        let (word, step) = match word.split_once('@') {
            Some((figure, step)) => (figure, Some(step.to_owned())),
            None => (word, None),
        };
        let parts: Vec<&str> = word.split(':').collect();
        let (source, name, path) = match parts[..] {
            [source, path] => (source, None, path),
            [source, name, path] => (source, Some(name.to_owned()), path),
            _ => return Err(Mistake(format!("'{word}' is neither SOURCE:PATH nor SOURCE:NAME:PATH"))),
        };
        let known = Source::ALL.iter().find(|(_, known)| *known == source);
        let (source, _) = known.ok_or_else(|| Mistake(format!("'{source}' in '{word}' is no source")))?;
        let named = match source {
            Source::Kernel | Source::Run => name.is_none(),
            Source::Listentop | Source::Blame => true,
            _ => name.is_some(),
        };
        if !named {
            return Err(Mistake(format!("'{word}' has a name too many or too few")));
        }
        let path = path.split('.').map(Self::key).collect::<Result<_, _>>()?;
        Ok(Figure { source: *source, name, path, step })
    }

    fn key(text: &str) -> Result<Key, Mistake> {
        let mistake = || Mistake(format!("'{text}' is no key"));
        let (member, pick) = match text.split_once('[') {
            None => (text, None),
            Some((member, pick)) => {
                let pick = pick.strip_suffix(']').filter(|pick| !pick.is_empty()).ok_or_else(mistake)?;
                let pick = match (pick, pick.parse()) {
                    ("*", _) => Pick::All,
                    (_, Ok(place)) => Pick::At(place),
                    _ => Pick::Named(pick.to_owned()),
                };
                (member, Some(pick))
            }
        };
        if member.is_empty() {
            return Err(mistake());
        }
        Ok(Key { member: member.to_owned(), pick })
    }
}

impl Expression {
    /// Calls `see` for each figure.
    pub fn figures(&self, see: &mut impl FnMut(&Figure)) {
        match self {
            Self::Number(_) => {}
            Self::Figure(figure) | Self::Function(_, figure) => see(figure),
            Self::Pair(left, _, right) => {
                left.figures(see);
                right.figures(see);
            }
        }
    }

    /// Its value, if `values` knows all values of a figure's path: an error is the reason why it does not. What is
    /// there but is no number is NaN, and can only be counted.
    ///
    /// # Errors
    /// The reason why the value is unknown.
    pub fn value(&self, values: &mut impl FnMut(&Figure) -> Result<Vec<f64>, String>) -> Result<f64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Figure(figure) => match values(figure)?[..] {
                [value] if value.is_nan() => Err("no number".to_owned()),
                [value] => Ok(value),
                ref several => Err(format!("{} values instead of one", several.len())),
            },
            Self::Function(function, figure) => apply(*function, &values(figure)?),
            Self::Pair(left, operator, right) => {
                let (left, right) = (left.value(values)?, right.value(values)?);
                match operator {
                    Operator::Plus => Ok(left + right),
                    Operator::Minus => Ok(left - right),
                    Operator::Times => Ok(left * right),
                    Operator::Over if right == 0.0 => Err("a division by 0".to_owned()),
                    Operator::Over => Ok(left / right),
                }
            }
        }
    }
}

fn apply(function: Function, values: &[f64]) -> Result<f64, String> {
    let sum: f64 = values.iter().sum();
    match function {
        Function::Count => Ok(values.len() as f64),
        _ if values.iter().any(|value| value.is_nan()) => Err("no number".to_owned()),
        Function::Sum => Ok(sum),
        _ if values.is_empty() => Err("no values".to_owned()),
        Function::Mean => Ok(sum / values.len() as f64),
        Function::Min => Ok(values.iter().copied().fold(f64::INFINITY, f64::min)),
        Function::Max => Ok(values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<f64, String> {
        let mut values = |figure: &Figure| match figure.path[0].member.as_str() {
            "several" => Ok(vec![1.0, 2.0, 6.0]),
            "none" => Ok(Vec::new()),
            "text" => Ok(vec![f64::NAN]),
            "unknown" => Err("not measured".to_owned()),
            _ => Ok(vec![8.0]),
        };
        parse(text).map_err(|mistake| mistake.to_string())?.value(&mut values)
    }

    #[test]
    fn operators_bind_as_in_school() {
        for (text, expected) in [
            ("2", 2.0),
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3 - 4 / 2", 7.0),
            ("10 - 2 - 3", 5.0),
            ("kernel:A / 2", 4.0),
            ("kernel:A-run:seconds", 0.0),
            ("sum(kernel:several)", 9.0),
            ("min(kernel:several) + max( kernel:several )", 7.0),
            ("mean(kernel:several)", 3.0),
            ("count(kernel:several)", 3.0),
            ("count(kernel:none)", 0.0),
            ("count(kernel:text)", 1.0),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_not_0() {
        for text in [
            "kernel:none",
            "kernel:several",
            "max(kernel:none)",
            "kernel:unknown + 1",
            "1 / 0",
            "1/(2-2)",
            "kernel:text",
            "sum(kernel:text)",
        ] {
            assert!(value(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_figure_has_source_name_path_and_step() {
        let Expression::Figure(figure) = parse("listentop:slow:threads[*].accepts@overload").unwrap() else {
            panic!("it is one figure")
        };
        assert_eq!(figure.source, Source::Listentop);
        assert_eq!((figure.name.as_deref(), figure.step.as_deref()), (Some("slow"), Some("overload")));
        assert_eq!(figure.path[0], Key { member: "threads".to_owned(), pick: Some(Pick::All) });
        assert_eq!(figure.path[1], Key { member: "accepts".to_owned(), pick: None });
        let Expression::Function(Function::Count, figure) = parse("count(listentop:a:findings[dead-shard])").unwrap()
        else {
            panic!("it is a function")
        };
        assert_eq!(figure.path[0].pick, Some(Pick::Named("dead-shard".to_owned())));
    }

    #[test]
    fn a_comparison_is_of_counts_that_go_on() {
        for (text, compares) in [
            ("listentop:a:drops.total - kernel:TcpExtListenDrops", true),
            ("100 * (sum(listentop:a:threads[*].reads) + 1) / server:a:total.reads", true),
            ("listentop:a:drops.total@x - kernel:TcpExtListenDrops@x", false),
            ("listentop:a:drops.total - listentop:b:drops.total", false),
            ("server:a:total.reads / load:a:requests", false),
            ("load:a:established - kernel:TcpExtTCPFastOpenPassive", true),
            ("listentop:a:wait_us.count / queue:a:integral", false),
            ("listentop:a:drops.total / run:seconds", false),
            ("blame:a:total_wait_us - queue:a:integral", true),
            ("blame:a:states.asleep.share - server:a:shop.asleep_us / server:a:shop.total_us", true),
            ("blame:a:states.asleep.share / run:seconds", false),
        ] {
            assert_eq!(parse(text).unwrap().compares(), compares, "{text}");
        }
    }

    #[test]
    fn mistakes_are_found() {
        for text in [
            "",
            "1 +",
            "nowhere:a:b",
            "kernel:a:b",
            "server:b",
            "server:a:b.",
            "server:a:b[",
            "server:a:b[]",
            "sum(server:a:b",
            "sum server:a:b",
            "(1",
            "1 2",
            "a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
