//! Starts demo servers, clients that load them, and listentop, which shows what happens.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("lab", |options| demo_servers::lab::run(&options))
}
