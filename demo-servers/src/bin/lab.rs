//! Servers under load in a network namespace of their own, with listentop watching them.

fn main() -> std::process::ExitCode {
    demo_servers::cli::main("lab", demo_servers::lab::run)
}
