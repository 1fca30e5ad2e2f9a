//! Lessons whose load can also run against a real server that is installed on the machine (`--server`).

use crate::format::{Lesson, Program, Server};
use crate::programs::{ECHO_LOAD, PUSH_LOAD};
use std::path::PathBuf;

/// A server that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are theirs")]
pub enum Kind {
    Nginx,
    Haproxy,
    Redis,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Redis];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Redis => "redis",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// There is none. The message lists those that exist.
    pub fn parse(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("must be one of {}", known()))
    }

    /// Its program's file.
    ///
    /// # Errors
    /// It is not installed. The message names Debian's package.
    pub fn installed(self) -> Result<PathBuf, String> {
        let (file, package) = match self {
            Self::Nginx => ("nginx", "nginx-light"),
            Self::Haproxy => ("haproxy", "haproxy"),
            Self::Redis => ("redis-server", "redis-server"),
        };
        let directories = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin"];
        let place = directories.iter().map(|directory| PathBuf::from(directory).join(file)).find(|path| path.is_file());
        place.ok_or_else(|| format!("{} is not installed (Debian's package: {package})", self.name()))
    }
}

/// The program that starts a real server as the lab starts its own.
pub const REAL_SERVER: Program = Program { package: "demo-servers", binary: "real-server", options: "", seeded: false };

/// A real server in the place of one of a lesson's servers.
#[derive(Debug)]
pub struct Real {
    /// The lesson.
    pub lesson: &'static str,
    /// The server's kind.
    pub kind: Kind,
    /// Which server of the lesson it takes the place of.
    pub server: &'static str,
    /// Its configuration file. `{port}` is its port, `{port:NAME}` that of another server.
    pub configuration: &'static str,
    /// What loads it: a program and its options. `None`: the lesson's own load.
    pub load: Option<(Program, &'static str)>,
}

macro_rules! nginx {
    ($workers:literal, $response:literal) => {
        concat!(
            "daemon off; user root; pid /tmp/pid; error_log stderr; worker_processes ",
            $workers,
            ";\nevents { worker_connections 512; }\nhttp {\n    access_log off; keepalive_requests 1000000;\n",
            "    client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3;\n",
            "    uwsgi_temp_path /tmp/4; scgi_temp_path /tmp/5;\n",
            "    server { listen 127.0.0.1:{port}; location / { return 200 '",
            $response,
            "'; } }\n}\n"
        )
    };
}

/// 64 bytes, as the demo servers answer.
const NGINX: &str = nginx!("1", "................................................................");
const NGINX_OF_8: &str = nginx!("8", "................................................................");

const HAPROXY: &str = "global
    maxconn 2000
defaults
    mode tcp
    timeout connect 20s
    timeout client 60s
    timeout server 60s
listen lesson
    bind 127.0.0.1:{port} backlog 512
    server behind 127.0.0.1:{port:behind_l4}
";

const REDIS: &str = "port {port}
bind 127.0.0.1
save \"\"
appendonly no
dir /tmp
daemonize no
";

/// All of them.
pub const ALL: &[Real] = &[
    Real {
        lesson: "thundering-herd",
        kind: Kind::Nginx,
        server: "exclusive",
        configuration: NGINX_OF_8,
        load: Some((ECHO_LOAD, "--protocol http1 --rate 200 --arrivals poisson")),
    },
    Real {
        lesson: "request-response",
        kind: Kind::Nginx,
        server: "fresh",
        configuration: NGINX,
        load: Some((ECHO_LOAD, "--protocol http1 --rate 400")),
    },
    Real {
        lesson: "request-response",
        kind: Kind::Nginx,
        server: "kept",
        configuration: NGINX,
        load: Some((ECHO_LOAD, "--protocol http1 --rate 20 --requests 20 --think-ms 10")),
    },
    Real {
        lesson: "polling-long-polling-push",
        kind: Kind::Redis,
        server: "pubsub",
        configuration: REDIS,
        load: Some((PUSH_LOAD, "--method pubsub --subscribers 20 --every-ms 400")),
    },
    Real { lesson: "protocols", kind: Kind::Nginx, server: "http1", configuration: NGINX, load: None },
    Real { lesson: "proxy", kind: Kind::Haproxy, server: "l4", configuration: HAPROXY, load: None },
];

/// The servers of a lesson that this kind takes the place of.
///
/// # Errors
/// None of them, or it is not installed. The message is one line.
pub fn find(lesson: &Lesson, kind: Kind) -> Result<Vec<&'static Real>, String> {
    let found: Vec<_> = ALL.iter().filter(|real| real.lesson == lesson.name && real.kind == kind).collect();
    if found.is_empty() {
        let mut lessons: Vec<_> = ALL.iter().filter(|real| real.kind == kind).map(|real| real.lesson).collect();
        lessons.dedup();
        let (lesson, kind) = (lesson.name, kind.name());
        return Err(format!("lesson '{lesson}' has no place for {kind}: those that have are {}", lessons.join(", ")));
    }
    kind.installed().map(|_| found)
}

/// Fills in the ports of a configuration.
#[must_use]
pub fn configuration(real: &Real, servers: &[Server]) -> String {
    let port = |name: &str| servers.iter().find(|server| server.name == name).map_or(0, |server| server.port);
    let text = real.configuration.replace("{port}", &port(real.server).to_string());
    servers
        .iter()
        .fold(text, |text, server| text.replace(&format!("{{port:{}}}", server.name), &server.port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_real_server_has_its_place() {
        for real in ALL {
            let lesson = crate::find(real.lesson).unwrap();
            assert!(lesson.setup.servers.iter().any(|server| server.name == real.server), "{real:?}");
            let text = configuration(real, lesson.setup.servers);
            assert!(!text.contains("{port"), "{text}");
        }
    }

    #[test]
    fn what_has_no_place_is_one_line() {
        let error = find(crate::find("overflow").unwrap(), Kind::Redis).unwrap_err();
        assert!(error.contains("polling-long-polling-push") && error.lines().count() == 1, "{error}");
        assert!(Kind::parse("apache").unwrap_err().contains("nginx, haproxy, redis"));
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.name()) == Ok(*kind)));
    }
}
