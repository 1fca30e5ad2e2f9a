//! A collector of the tests' own, made from OpenTelemetry's messages: it takes points, or behaves as it is told.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, Response, body::Incoming, server::conn, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    common::v1::{KeyValue, any_value::Value as Any},
    metrics::v1::{Metric, metric::Data, number_data_point::Value},
};
use prost::Message as _;
use test_support::wait_until;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, codec::CompressionEncoding};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Grpc,
    Http,
}

impl Speaks {
    pub(crate) const BOTH: [Self; 2] = [Self::Grpc, Self::Http];

    pub(crate) fn port(self) -> u16 {
        if self == Self::Grpc { 4317 } else { 4318 }
    }

    /// The option that pushes there.
    pub(crate) fn option(self) -> String {
        format!("--otlp http://127.0.0.1:{}", self.port())
    }
}

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// It takes it, and answers much later.
    Slow,
    /// It asks to come again in a second.
    Busy,
    Refuses,
    /// It takes all but three points.
    Partly,
    /// Its answers are no messages.
    Garbage,
}

/// One value of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    /// Of a counter or a gauge; the sum of a distribution.
    pub(crate) number: Option<f64>,
    /// Of a distribution: upper bounds in seconds, and how many are in each bucket.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) ended: bool,
    start: u64,
    pub(crate) time: u64,
}

impl Said {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, held)| held).sum()
    }

    /// The upper bound of the bucket that holds this quantile.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut below = 0;
        let found = self.buckets.iter().find(|(_, held)| {
            below += held;
            below >= rank
        });
        found.expect("it has values").0
    }
}

pub(crate) type Labels = BTreeMap<String, String>;

/// What it was told.
#[derive(Default)]
struct Told {
    series: BTreeMap<(String, Labels), Vec<Said>>,
    resource: Labels,
    headers: HeaderMap,
    requests: Vec<Instant>,
    /// What no collector should be told.
    wrong: Vec<String>,
}

struct State {
    mood: Mutex<Mood>,
    told: Mutex<Told>,
}

/// The collector, until it is dropped.
pub(crate) struct Collector {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub(crate) fn start(speaks: Speaks) -> Self {
        Self::with_tls(speaks, None)
    }

    pub(crate) fn with_tls(speaks: Speaks, tls: Option<rustls::ServerConfig>) -> Self {
        let state = Arc::new(State { mood: Mutex::new(Mood::Takes), told: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let of_thread = state.clone();
        // A thread of this one's is in the same network namespace.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], speaks.port()))).await;
                let listener = listener.expect("the port is free");
                ready.send(()).expect("we are waited for");
                tokio::select! {
                    () = serve(listener, speaks, of_thread, tls.map(Arc::new)) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("it listens");
        Self { state, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn is(&self, mood: Mood) {
        *self.state.mood.lock().expect("no panic") = mood;
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.state.told.lock().expect("no panic")
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> Vec<Instant> {
        self.told().requests.clone()
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        self.told().headers.clone()
    }

    pub(crate) fn resource(&self) -> Labels {
        self.told().resource.clone()
    }

    /// All values of the one series of this name whose labels contain all of these.
    pub(crate) fn history(&self, name: &str, labels: &[(&str, &str)]) -> Vec<Said> {
        let told = self.told();
        let fits = |of: &Labels| labels.iter().all(|(name, value)| of.get(*name).is_some_and(|of| of == value));
        let mut found = told.series.iter().filter(|((of, given), _)| of == name && fits(given));
        let series = found.next().map_or_else(Vec::new, |(_, history)| history.clone());
        assert!(found.next().is_none(), "more than one {name} {labels:?}");
        series
    }

    /// All series of this name, with their last values.
    pub(crate) fn all(&self, name: &str) -> Vec<(Labels, Said)> {
        let told = self.told();
        let of = told.series.iter().filter(|((of, _), _)| of == name);
        of.filter_map(|((_, labels), history)| Some((labels.clone(), history.last()?.clone()))).collect()
    }

    /// The last value.
    pub(crate) fn last(&self, name: &str, labels: &[(&str, &str)]) -> Option<Said> {
        self.history(name, labels).pop()
    }

    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.last(name, labels)?.number
    }

    pub(crate) fn wait_for(&self, name: &str, labels: &[(&str, &str)], wanted: f64) {
        wait_until(&format!("{name} {labels:?} is {wanted}"), || self.number(name, labels) == Some(wanted));
    }

    /// Nothing was wrong with what it was told.
    pub(crate) fn is_content(&self) {
        let told = self.told();
        assert!(told.wrong.is_empty(), "{:#?}", told.wrong);
        assert!(!told.series.is_empty(), "it was told nothing");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have panicked; then the test has failed already, or fails by what is missing.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, speaks: Speaks, state: Arc<State>, tls: Option<Arc<rustls::ServerConfig>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("it listens");
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(stream, speaks, state).await,
                Some(tls) => {
                    // A client that does not trust us goes.
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        converse(stream, speaks, state).await;
                    }
                }
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, speaks: Speaks, state: Arc<State>) {
    let io = TokioIo::new(stream);
    // How it ends is the client's choice.
    match speaks {
        Speaks::Grpc => {
            let service = MetricsServiceServer::new(Service(state)).accept_compressed(CompressionEncoding::Gzip);
            let service = TowerToHyperService::new(service);
            let _ = conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        }
        Speaks::Http => {
            let service = service_fn(move |request| post(state.clone(), request));
            let _ = conn::http1::Builder::new().serve_connection(io, service).await;
        }
    }
}

impl State {
    /// Takes note of a request; what it does with it.
    fn hear(&self, headers: &HeaderMap, request: &ExportMetricsServiceRequest) -> Mood {
        let mood = *self.mood.lock().expect("no panic");
        let mut told = self.told.lock().expect("no panic");
        told.requests.push(Instant::now());
        told.headers = headers.clone();
        if matches!(mood, Mood::Takes | Mood::Partly | Mood::Slow) {
            told.take(request);
        }
        mood
    }
}

fn partly() -> ExportMetricsServiceResponse {
    let partial_success =
        ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "too \u{1b}old\nfor us".to_owned() };
    ExportMetricsServiceResponse { partial_success: Some(partial_success) }
}

const SLOW: Duration = Duration::from_secs(3);

struct Service(Arc<State>);

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        match self.0.hear(&headers, request.get_ref()) {
            Mood::Takes => {}
            Mood::Slow => tokio::time::sleep(SLOW).await,
            Mood::Busy => {
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
                return Err(Status::with_error_details(tonic::Code::ResourceExhausted, "full", details));
            }
            Mood::Refuses => return Err(Status::permission_denied("not you")),
            Mood::Partly => return Ok(tonic::Response::new(partly())),
            Mood::Garbage => return Err(Status::unknown("\u{1b}[2Jgarbage")),
        }
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn post(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.expect("a body").to_bytes().to_vec();
    if head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut whole = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut whole).expect("gzip");
        body = whole;
    }
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/metrics"));
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    let request = ExportMetricsServiceRequest::decode(&*body).expect("a message");
    let mood = state.hear(&head.headers, &request);
    let mut answer = Response::builder().header("content-type", "application/x-protobuf");
    let mut content = ExportMetricsServiceResponse::default().encode_to_vec();
    match mood {
        Mood::Takes => {}
        Mood::Slow => tokio::time::sleep(SLOW).await,
        Mood::Busy => answer = answer.status(503).header("retry-after", "1"),
        Mood::Refuses => answer = answer.status(403),
        Mood::Partly => content = partly().encode_to_vec(),
        Mood::Garbage => {
            answer = Response::builder().header("content-type", "text/html");
            content = b"<p>\x1b[2JIt works!</p>".to_vec();
        }
    }
    Ok(answer.body(Full::new(content.into())).expect("an answer"))
}

fn labels(pairs: &[KeyValue]) -> Labels {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{}: {other:?}", pair.key),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

impl Told {
    fn take(&mut self, request: &ExportMetricsServiceRequest) {
        for of_resource in &request.resource_metrics {
            self.resource = labels(&of_resource.resource.as_ref().expect("a resource").attributes);
            for metric in of_resource.scope_metrics.iter().flat_map(|of_scope| &of_scope.metrics) {
                for (labels, said, is_counter) in points(metric) {
                    self.add(&metric.name, labels, said, is_counter);
                }
            }
        }
    }

    /// Adds a value, unless it came before: a request whose answer was late comes again.
    fn add(&mut self, name: &str, labels: Labels, said: Said, is_counter: bool) {
        let history = self.series.entry((name.to_owned(), labels)).or_default();
        if history.iter().any(|known| known.time == said.time) {
            return;
        }
        if let Some(before) = history.last() {
            let begins_anew = said.start != before.start;
            if said.time < before.time || begins_anew && said.start < before.time {
                self.wrong.push(format!("{name}: {said:?} after {before:?}"));
            }
            let goes_back = !begins_anew && !said.ended && !before.ended && said.number < before.number;
            if is_counter && goes_back {
                self.wrong.push(format!("{name} goes back: {said:?} after {before:?}"));
            }
        }
        history.push(said);
    }
}

/// The points of a metric; whether what they count only grows.
fn points(metric: &Metric) -> Vec<(Labels, Said, bool)> {
    let numbers = |points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint], is_counter| {
        let one = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            let number = point.value.map(|value| match value {
                Value::AsInt(number) => number as f64,
                Value::AsDouble(number) => number,
            });
            let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
            let said = Said { number, buckets: Vec::new(), ended: point.flags & 1 == 1, start, time };
            (labels(&point.attributes), said, is_counter)
        };
        points.iter().map(one).collect()
    };
    match metric.data.as_ref().expect("data") {
        Data::Sum(sum) => numbers(&sum.data_points, sum.is_monotonic),
        Data::Gauge(gauge) => numbers(&gauge.data_points, false),
        Data::Histogram(histogram) => {
            let points = histogram.data_points.iter().map(|point| {
                let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                let buckets = bounds.zip(point.bucket_counts.iter().copied()).collect();
                let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                let said = Said { number: point.sum, buckets, ended: point.flags & 1 == 1, start, time };
                (labels(&point.attributes), said, true)
            });
            points.collect()
        }
        Data::ExponentialHistogram(histogram) => {
            let points = histogram.data_points.iter().map(|point| {
                let base = (f64::from(-point.scale)).exp2().exp2();
                let positive = point.positive.clone().unwrap_or_default();
                let place = |at: usize| base.powi(positive.offset + at as i32 + 1);
                let counted = positive.bucket_counts.iter().enumerate().map(|(at, held)| (place(at), *held));
                let buckets = [(point.zero_threshold, point.zero_count)].into_iter().chain(counted).collect();
                let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                let said = Said { number: point.sum, buckets, ended: point.flags & 1 == 1, start, time };
                (labels(&point.attributes), said, true)
            });
            points.collect()
        }
        Data::Summary(_) => panic!("{}: summaries are of the past", metric.name),
    }
}
