//! Runs a real server as one of a lesson's servers.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("real-server", |options| demo_servers::real::run(&options))
}
