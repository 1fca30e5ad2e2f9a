//! TLS and passwords: Prometheus gets in with the right ones, and nobody without.

use listentop_model::coverage::Measure;
use test_support::{Lab, Test, sleep_ms};

use crate::support::{ADDRESS, Folder, Prometheus, exchange, get, installed, serve};

const NEEDS: &[Measure] = &[Measure::Enqueued];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "guarded::passwords", needs: NEEDS, run: passwords },
    Test { name: "guarded::tls_and_passwords_by_prometheus", needs: NEEDS, run: tls },
];

/// A bcrypt hash at the least cost.
fn hashed(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

/// `alice:secret`, `alice:wrong`, `bob:secret`.
const RIGHT: &str = "Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
const WRONG: &str = "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n";
const UNKNOWN: &str = "Authorization: Basic Ym9iOnNlY3JldA==\r\n";

fn passwords(_: &Lab) {
    let folder = Folder::new();
    let config = folder.file("web.yml", &format!("basic_auth_users:\n  alice: {}\n", hashed("secret")));
    let exporter = serve(&format!("--web.config.file {}", config.display()));
    for _ in 0..2 {
        assert_eq!(get(ADDRESS, "/metrics", RIGHT).status, 200);
        for headers in ["", WRONG, UNKNOWN, "Authorization: Basic ?\r\n", "Authorization: Bearer x\r\n"] {
            let answer = get(ADDRESS, "/metrics", headers);
            assert_eq!(answer.status, 401, "{headers}");
            assert!(answer.head.contains("www-authenticate: Basic") && !answer.text().contains("listentop_"));
        }
    }
    assert_eq!(get(ADDRESS, "/", "").status, 401);
    assert_eq!(get(ADDRESS, "/healthz", "").status, 200, "it says nothing that is secret");
    // With the next sample.
    sleep_ms(600);
    let text = get(ADDRESS, "/metrics", RIGHT);
    let refused = crate::support::value(text.text(), &["listentop_requests_refused_total", "unauthorized"]);
    assert!(refused.is_some_and(|refused| refused >= 10.0), "{refused:?}");
    assert!(exporter.end().success());
}

fn tls(_: &Lab) {
    installed("prometheus");
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let certificate = folder.file("cert.pem", &made.cert.pem());
    folder.file("key.pem", &made.signing_key.serialize_pem());
    let config = folder.file(
        "web.yml",
        &format!(
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  min_version: TLS13\n\
             basic_auth_users:\n  alice: {}\n",
            hashed("secret")
        ),
    );
    let exporter = serve(&format!("--web.config.file {}", config.display()));
    // Without TLS there is nothing to read.
    let plain = exchange(ADDRESS, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(plain.is_none(), "{plain:?}");
    let scrape = |password: &str| {
        format!(
            "    scheme: https\n    tls_config:\n      ca_file: {}\n    basic_auth:\n      username: alice\n      password: {password}\n",
            certificate.display()
        )
    };
    let admitted = Prometheus::start(9090, &[], &scrape("secret"));
    let refused = Prometheus::start(9091, &[], &scrape("wrong"));
    let strange = Prometheus::start(9092, &[], "    scheme: https\n");
    admitted.wait_for("up", 1.0);
    refused.wait_for("up", 0.0);
    strange.wait_for("up", 0.0);
    sleep_ms(1_500);
    assert_eq!(admitted.number("listentop_build_info"), Some(1.0));
    assert_eq!((refused.number("up"), refused.number("listentop_build_info")), (Some(0.0), None));
    assert_eq!(strange.number("up"), Some(0.0), "an unknown authority");
    assert!(exporter.end().success());
}
