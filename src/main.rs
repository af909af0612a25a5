//! Arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailkeep::cli::main(std::env::args_os())
}
