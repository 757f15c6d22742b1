//! Entry point: the hidden commands of the container runtime first, then [`orch::cli::run`].

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // They need a process with a single thread, and no more of it than they use.
    if let Some(code) = orch::container::run_hidden(&arguments) {
        return code;
    }
    orch::cli::run(arguments)
}
