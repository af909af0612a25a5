//! `mailkeep completions` and `mailkeep man`, both from the command line's own definition.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit, Screen};
use crate::error::{Error, Kind, Result, Scope};

/// What the shell has to know, on stdout.
pub(super) fn completions(shell: Shell, screen: &Screen) -> Result<Exit> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mailkeep", &mut out);
    print(&out, screen)
}

/// A page on stdout: of the program, or of one command.
pub(super) fn page(of: Option<&str>, screen: &Screen) -> Result<Exit> {
    let mut command = built();
    if let Some(name) = of {
        let Some(found) = command.find_subcommand(name) else {
            let what = format!("there is no command {name:?}");
            return Err(Error::new(Scope::Fatal, Kind::Config, what).next("see `mailkeep --help`"));
        };
        command = found.clone();
    }
    let mut out = Vec::new();
    Man::new(command).render(&mut out).map_err(|e| internal(&e))?;
    print(&out, screen)
}

/// All pages, a file each: `mailkeep.1`, `mailkeep-sync.1`, …
pub(super) fn pages(dir: &Path) -> Result<Exit> {
    clap_mangen::generate_to(Cli::command(), dir)
        .map_err(|e| Error::io(Scope::Fatal, "write to", dir, &e))?;
    Ok(Exit::Ok)
}

/// With the names that its parts have in full.
fn built() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

fn print(text: &[u8], screen: &Screen) -> Result<Exit> {
    screen.data(String::from_utf8_lossy(text).trim_end())?;
    Ok(Exit::Ok)
}

fn internal(e: &std::io::Error) -> Error {
    Error::new(Scope::Fatal, Kind::Internal, format!("cannot make the page: {e}"))
}
