//! Entry point: parse arguments, call [`orch::cli::run`].

fn main() -> std::process::ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Shims and other helpers are this binary too; they must not meet a second thread.
    if let Some(code) = orch::container::run_hidden(&arguments) {
        return code;
    }
    orch::cli::run(arguments)
}
