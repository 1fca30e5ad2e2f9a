//! An open-loop load generator for the demo servers.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("stress", |options| demo_servers::stress::run(&options))
}
