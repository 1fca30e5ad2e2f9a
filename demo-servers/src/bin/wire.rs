//! Runs a client at the far end of a line with delay and loss.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("wire", |options| demo_servers::wire::run(&options))
}
