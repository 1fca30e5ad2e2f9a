//! A collector that others made takes what listentop pushes, and passes it on unharmed: Rotel, a collector in Rust that
//! PyPI has as a package. It pushes to the tests' own collector, whose figures are compared with the server's.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use listentop_model::coverage::Measure;
use test_harness::pypi;
use test_support::{Lab, Test, command::listentop, lab::PORT, sockets::listen, wait_until};

use crate::{
    collector::{Collector, Speaks},
    prometheus::load,
    support::{Folder, Running, netns},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Drops];

pub(crate) const TESTS: &[Test] =
    &[Test { name: "relayed::a_collector_that_people_use_passes_everything_on", needs: NEEDS, run: relayed }];

/// The version: later ones may take other options.
const PACKAGE: &str = "rotel==0.0.1a15";
/// Where it listens for each protocol: the tests' own collector has the usual ports.
const GRPC: u16 = 5317;
const HTTP: u16 = 5318;

const AT: &[(&str, &str)] = &[("port", "7000")];

/// Its program, from the package.
fn program() -> PathBuf {
    let environment = pypi::environment(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("rotel-venv"), PACKAGE, "rotel");
    let script = "import pathlib, rotel; print(pathlib.Path(rotel.__file__).with_name('rotel-agent'))";
    let output = Command::new(environment.join("bin/python")).args(["-c", script]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path").trim().into()
}

fn relayed(_: &Lab) {
    let program = program();
    for (speaks, port) in [(Speaks::Grpc, GRPC), (Speaks::Http, HTTP)] {
        let collector = Collector::start(speaks);
        let (protocol, its) = if speaks == Speaks::Grpc { ("grpc", "grpc") } else { ("http/protobuf", "http") };
        let folder = Folder::new();
        let mut command = Command::new(&program);
        command
            .args(["start", "--exporter", "otlp", "--otlp-exporter-protocol", its, "--batch-timeout", "200ms"])
            .args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{}", speaks.port())])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{GRPC}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{HTTP}")])
            .current_dir(folder.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let relay = Running::start(command);
        wait_until("it listens", || TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok());
        let listener = listen(PORT, 4);
        let options = format!(
            "serve --every 100ms --port 7000 --netns {} --otlp-interval 200ms --otlp http://127.0.0.1:{port} \
             --otlp-protocol {protocol}",
            netns()
        );
        let mut command = listentop(&options);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let exporter = Running::start(command);
        wait_until("the listener is pushed", || collector.number("listentop.accepts", AT) == Some(0.0));
        let served = load(&listener);
        assert!(exporter.end().success());
        for (name, own) in [
            ("listentop.accepts", served.connections),
            ("listentop.accept_queue.enqueued", served.connections),
            ("listentop.reads.bytes", served.bytes),
            ("listentop.drops", served.refused),
        ] {
            collector.wait_for(name, AT, own as f64);
        }
        let wait = collector.last("listentop.accept_queue.wait", AT).expect("it is there");
        assert_eq!(wait.count(), served.connections, "the distribution is whole");
        assert_eq!(collector.resource()["service.name"], "listentop");
        collector.is_content();
        assert!(relay.end().success());
    }
}
