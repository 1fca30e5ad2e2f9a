//! Requests, polling, push, sessions.

pub(crate) mod polling_long_polling_push;
pub(crate) mod request_response;
pub(crate) mod stateful_or_not;
