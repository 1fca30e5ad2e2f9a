//! What those do who probably should accept, in a few words.

use super::{
    super::{
        prose::{counted, grouped},
        text::clean,
    },
    cause::{doing, named},
};
use crate::{
    model::ListenerModel,
    sample::{LikelyBy, ThreadState},
};

/// What the thread does that probably should accept, as the end of a sentence about its listener; `None` where an
/// acceptor was seen, or none can be inferred.
pub(super) fn likely(listener: &ListenerModel) -> Option<String> {
    let likely = listener.likely_acceptors.as_deref()?;
    let certain = likely.iter().all(|one| one.by == LikelyBy::Accepted);
    let [one] = likely else {
        let sort = if certain { "acceptors" } else { "probable acceptors" };
        let most = most_common(likely.iter().filter_map(|one| one.state.as_ref()));
        let most = most.map(|(place, count)| format!(" ({} in {place})", grouped(count)));
        let count = grouped(likely.len() as u64);
        return (likely.len() > 1).then(|| format!("none of its {count} {sort} accepts{}", most.unwrap_or_default()));
    };
    let does = one.state.as_ref().map_or_else(|| "accepts nothing".to_owned(), doing);
    let name = named(&one.comm, one.tid, listener);
    Some(match (certain, name.is_empty()) {
        (true, _) => format!("its acceptor{name} {does}"),
        (false, true) => format!("its acceptor probably {does}"),
        (false, false) => format!("its acceptor, probably{name}, {does}"),
    })
}

/// Where most of these sleep, and how many do; `None` if that is not known of any.
fn most_common<'a>(states: impl Iterator<Item = &'a ThreadState>) -> Option<(String, u64)> {
    let places = states.filter_map(|state| state.wchan.as_deref().or(state.syscall.as_deref()));
    let (place, count) = counted(places).into_iter().next()?;
    Some((clean(place), count))
}
