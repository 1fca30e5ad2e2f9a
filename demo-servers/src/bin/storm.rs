//! A closed-loop load generator for benchmarks.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("storm", |options| demo_servers::storm::run(&options))
}
