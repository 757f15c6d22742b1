//! Entry point: parse arguments, call [`orch::cli::run`].

fn main() -> std::process::ExitCode {
    orch::cli::run(std::env::args_os())
}
