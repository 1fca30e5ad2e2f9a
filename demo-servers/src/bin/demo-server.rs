//! A server with a known acceptor/reader pattern and exact counters.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("demo-server", demo_servers::server::run)
}
