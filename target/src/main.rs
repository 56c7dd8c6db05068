//! The binary `twinlun`.

fn main() -> std::process::ExitCode {
    target::cli::main()
}
