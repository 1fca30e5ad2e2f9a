//! SYNs from addresses that do not answer, for the lab.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("flood", |options| demo_servers::flood::run(&options))
}
