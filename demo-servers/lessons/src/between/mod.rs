//! What stands between clients and a server: proxies, pools, retries.

pub(crate) mod pool;
pub(crate) mod proxy;
pub(crate) mod retry_storm;
