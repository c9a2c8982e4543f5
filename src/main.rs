//! The `snap` program: see the library's [`snap::cli`].

fn main() -> std::process::ExitCode {
    snap::cli::run().into()
}
