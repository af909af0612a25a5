//! Arguments in, exit status out.

use std::process::ExitCode;

/// A daemon of five accounts has a pass of each in memory once, and then waits for hours.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mailkeep::cli::main(std::env::args_os())
}
