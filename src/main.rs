//! The `herdgate` command.

fn main() -> std::process::ExitCode {
    herdgate::cli::run(std::env::args_os())
}
