//! An exporter for Prometheus: every figure of every listener, as OpenMetrics text or protobuf.
//!
//! A thread of its own samples at a fixed interval, whatever is scraped. A scrape is written from the last model, once
//! for all who ask before the next one.

mod exposition;
mod families;
mod histogram;
mod labels;
mod measuring;
mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod own;
mod page;
#[cfg(test)]
mod tests;
mod tls;
mod web;
mod web_config;

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use listentop_model::model::Model;

use crate::source::Source;

pub use web_config::ConfigError;

/// How the exporter is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub address: String,
    /// The path of the figures.
    pub path: String,
    /// A file that says who may ask, and how.
    pub config: Option<PathBuf>,
    /// The most series that a scrape has.
    pub max_series: u32,
    /// Time between two samples.
    pub every: Duration,
    /// Where to push, too.
    #[cfg(feature = "otlp")]
    pub otlp: Option<otlp::Settings>,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is none.
    #[error("--web.listen-address {0}: ADDRESS:PORT is expected, such as 127.0.0.1:9753 or :9753")]
    Address(String),
    /// The name of an address cannot be looked up.
    #[error("--web.listen-address {0}: {1}")]
    Lookup(String, String),
    /// The address is taken, or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The path of the figures.
    #[error("--web.telemetry-path {0}: it must begin with '/', and be neither '/' nor '/healthz'")]
    Path(String),
    /// The configuration.
    #[error("--web.config.file {}: {}", .0.display(), .1)]
    Config(PathBuf, #[source] ConfigError),
    /// The collector.
    #[cfg(feature = "otlp")]
    #[error("{0}")]
    Otlp(#[from] otlp::OtlpError),
    /// A thread.
    #[error("cannot start a thread that measures: {0}")]
    Thread(#[source] io::Error),
    /// The source failed while it served.
    #[error("reading the source failed: {0}")]
    Source(#[source] io::Error),
    /// The web server.
    #[error("the web server failed: {0}")]
    Web(#[source] io::Error),
}

impl ServeError {
    /// Whether the command line is at fault, whatever the machine is like.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Address(_) | Self::Path(_) => true,
            #[cfg(feature = "otlp")]
            Self::Otlp(error) => matches!(error, otlp::OtlpError::Url(..)),
            _ => false,
        }
    }
}

/// A socket that listens, before anything is measured: a mistake shows at once.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    guard: web_config::Guard,
    #[cfg(feature = "otlp")]
    otlp: Option<otlp::Config>,
    options: Options,
}

/// What is kept of a model: what the filters of the command line let pass.
pub type Keep = Box<dyn Fn(&mut Model) + Send>;

impl Bound {
    /// Reads the configuration and takes the address.
    ///
    /// # Errors
    /// [`ServeError`], one line each.
    pub fn new(options: Options) -> Result<Self, ServeError> {
        let plain = options.path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
        if !options.path.starts_with('/') || ["/", web::HEALTH].contains(&&*options.path) || !plain {
            return Err(ServeError::Path(options.path));
        }
        let guard = match &options.config {
            Some(file) => web_config::read(file).map_err(|error| ServeError::Config(file.clone(), error))?,
            None => web_config::Guard::default(),
        };
        #[cfg(feature = "otlp")]
        let otlp = options.otlp.as_ref().map(where_to_push).transpose()?;
        let address = resolve(&options.address)?;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| ServeError::Listen(address, error))?;
        Ok(Self {
            listener,
            guard,
            #[cfg(feature = "otlp")]
            otlp,
            options,
        })
    }

    /// Where the figures are.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.guard.tls.is_some() { "https" } else { "http" };
        let address = self.listener.local_addr().map_or_else(|_| self.options.address.clone(), |at| at.to_string());
        format!("{scheme}://{address}{}", self.options.path)
    }

    /// Where it pushes, and how, in a line.
    #[cfg(feature = "otlp")]
    #[must_use]
    pub fn pushes(&self) -> Option<String> {
        self.otlp.as_ref().map(ToString::to_string)
    }

    /// What its user should know, in a line: whoever reaches an open address reads everything.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        let local = self.listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let guarded = !self.guard.users.is_empty() || self.guard.asks_for_certificates;
        (!local && !guarded).then_some(
            "whoever reaches this address can read the figures: --web.config.file FILE adds TLS and passwords",
        )
    }

    /// Takes the first sample, from which all is counted.
    ///
    /// # Errors
    /// [`ServeError::Source`] if the source fails.
    pub fn measure(self, source: Box<dyn Source>, keep: Keep) -> Result<Measured, ServeError> {
        #[cfg(feature = "otlp")]
        let pushes = self.otlp.is_some();
        #[cfg(not(feature = "otlp"))]
        let pushes = false;
        let measuring = measuring::start(source, keep, self.options.every, pushes)?;
        Ok(Measured { bound: self, measuring })
    }
}

/// What measures, and serves when it is told to. Until then, scrapes wait.
pub struct Measured {
    bound: Bound,
    measuring: measuring::Measuring,
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Measured").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Measured {
    /// Serves until `stop` ends. It runs on a runtime with I/O and time.
    ///
    /// # Errors
    /// [`ServeError::Source`] if the source fails; a scraper cannot make it fail.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { bound, mut measuring } = self;
        let listener = tokio::net::TcpListener::from_std(bound.listener).map_err(ServeError::Web)?;
        let (counters, floors) = (Arc::<own::Counters>::default(), Arc::<page::Floors>::default());
        #[cfg(feature = "otlp")]
        let pusher = bound.otlp.map(|config| {
            let from = otlp::From {
                reader: measuring.reader(),
                floors: floors.clone(),
                counters: counters.clone(),
                max_series: bound.options.max_series as usize,
            };
            otlp::Pusher::start(config, from)
        });
        let site = web::Site::new(&bound.options, bound.guard, measuring.reader(), counters, floors);
        tokio::select! {
            () = web::serve(listener, Arc::new(site)) => {}
            () = stop => {}
            () = measuring.ended() => {}
        }
        let ended = measuring.end();
        #[cfg(feature = "otlp")]
        if let Some(pusher) = pusher {
            pusher.finish().await;
        }
        ended
    }
}

/// Reads where to push. What a file of headers has is sent away, and who may run listentop with capabilities of its
/// file may not read every file: so a thread that has none reads it.
#[cfg(feature = "otlp")]
fn where_to_push(settings: &otlp::Settings) -> Result<otlp::Config, ServeError> {
    let read = || Ok(otlp::Config::new(settings, &|name| std::env::var(name).ok())?);
    // root without capabilities could not even read the files of who called sudo.
    if nix::unistd::geteuid().is_root() {
        return read();
    }
    let restricted = || {
        crate::rights::restrict_to_nothing().map_err(|error| ServeError::Thread(io::Error::other(error)))?;
        read()
    };
    let read = std::thread::scope(|scope| Ok(std::thread::Builder::new().spawn_scoped(scope, restricted)?.join()));
    match read.map_err(ServeError::Thread)? {
        Ok(config) => config,
        Err(_) => Err(ServeError::Thread(io::Error::other("the configuration's reader panicked"))),
    }
}

/// An address as the exporters write it: `:9753` is every address.
fn resolve(text: &str) -> Result<SocketAddr, ServeError> {
    let refused = |why: String| ServeError::Lookup(text.to_owned(), why);
    let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    if let Ok(address) = full.parse() {
        return Ok(address);
    }
    if !full.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Err(ServeError::Address(text.to_owned()));
    }
    let mut found = full.to_socket_addrs().map_err(|error| refused(error.to_string()))?;
    found.next().ok_or_else(|| refused("it has no address".to_owned()))
}

#[cfg(test)]
mod address_tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_exporters() {
        let resolved = |text| resolve(text).map(|address| address.to_string()).map_err(|error| error.to_string());
        assert_eq!(resolved("127.0.0.1:9753").as_deref(), Ok("127.0.0.1:9753"));
        assert_eq!(resolved(":9753").as_deref(), Ok("[::]:9753"));
        assert_eq!(resolved("[::1]:80").as_deref(), Ok("[::1]:80"));
        for wrong in ["", "9753", "127.0.0.1", "::1:x", "[::1]", "127.0.0.1:70000"] {
            let error = resolved(wrong).expect_err(wrong);
            assert!(error.contains("ADDRESS:PORT is expected"), "{error}");
        }
    }

    fn options(address: &str, path: &str) -> Options {
        Options {
            address: address.to_owned(),
            path: path.to_owned(),
            config: None,
            max_series: 1000,
            every: Duration::from_secs(1),
            #[cfg(feature = "otlp")]
            otlp: None,
        }
    }

    #[test]
    fn mistakes_show_before_anything_is_measured() {
        for path in ["", "metrics", "/", "/healthz", "/a b", "/m?x"] {
            let error = Bound::new(options("127.0.0.1:0", path)).expect_err(path).to_string();
            assert!(error.contains("must begin with '/'"), "{error}");
        }
        let first = Bound::new(options("127.0.0.1:0", "/metrics")).expect("a free port");
        let taken = first.listener.local_addr().expect("it has one").to_string();
        let error = Bound::new(options(&taken, "/metrics")).expect_err("it is taken").to_string();
        assert!(error.starts_with(&format!("cannot listen on {taken}: Address already in use")), "{error}");
        assert_eq!(first.warning(), None);
        assert_eq!(first.url(), format!("http://{taken}/metrics"));
    }
}
