//! The command line: what may be said, and which file answers. Messages for people go to stderr,
//! data to stdout. Exit status: 0 ok, 1 an account failed, 2 bad usage or configuration, 3
//! something is held and needs a decision.

mod check;
mod decide;
mod history;
mod kept;
mod log;
mod mail;
mod manual;
mod order;
mod progress;
mod run;
mod screen;
mod select;
mod status;
mod sync;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use check::describe;
pub use screen::Screen;
pub use sync::{on_this_thread, run_accounts};

use crate::account::PassOptions;
use crate::config;
use crate::error::{Kind, Result};
use crate::ledger::HoldState;
use crate::policy::FolderPattern;

/// Does what the arguments say (the first is the program's name).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // help and version too; a closed stdout is no failure
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let screen = Screen::new(cli.global.log_format, cli.global.quiet);
    log::start(&cli.global, &screen, matches!(cli.command, Command::Run));
    let exit = run(&cli, &screen).unwrap_or_else(|e| {
        screen.failed(None, &e);
        if e.kind == Kind::Config { Exit::Usage } else { Exit::Failed }
    });
    exit.into()
}

fn run(cli: &Cli, screen: &Screen) -> Result<Exit> {
    // what needs no configuration
    match &cli.command {
        Command::Completions { shell } => return manual::completions(*shell, screen),
        Command::Man { dir: Some(dir), .. } => return manual::pages(dir),
        Command::Man { command, dir: None } => return manual::page(command.as_deref(), screen),
        _ => {}
    }
    let config = config::load(cli.global.config.as_deref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match &cli.command {
        Command::Check { connect, accounts } => {
            check::run(&config, &select::accounts(&config, accounts)?, *connect, screen)
        }
        Command::Sync { accounts, folders, dry_run, take_over } => {
            let options = PassOptions {
                folders: folders.clone(),
                dry_run: *dry_run,
                take_over: *take_over,
                by_itself: false,
            };
            let accounts = select::accounts(&config, accounts)?;
            run_accounts(&config, &accounts, &options, screen, &sync::by_whoever_can)
        }
        Command::Run => run::run(config, cli.global.config.clone()),
        Command::Status { json: true, .. } => status::json(&config, &invocation(cli), screen),
        Command::Status { watch: true, .. } => status::watch(&config, &invocation(cli), screen),
        Command::Status { .. } => status::human(&config, &invocation(cli), screen),
        Command::Pause { account } => order::pause(&config, account, screen),
        Command::Resume { account } => order::resume(&config, account, screen),
        Command::Reload => order::reload(&config, screen),
        Command::Approve(d) => decide::run(&config, d, HoldState::Approved, screen),
        Command::Reject(d) => decide::run(&config, d, HoldState::Rejected, screen),
        Command::Kept { accounts } => {
            kept::run(&config, &select::accounts(&config, accounts)?, screen)
        }
        Command::History { message_id, accounts } => {
            let accounts = select::accounts(&config, accounts)?;
            history::run(&config, &accounts, message_id.as_deref(), screen)
        }
        // answered above
        Command::Completions { .. } | Command::Man { .. } => Ok(Exit::Ok),
    }
}

/// How to call this program again with the same configuration.
fn invocation(cli: &Cli) -> String {
    match &cli.global.config {
        Some(file) => format!("mailkeep --config {}", table::shell_word(&file.to_string_lossy())),
        None => "mailkeep".into(),
    }
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Ok,
    /// 1: an account failed; the others were done.
    Failed,
    /// 2: bad usage or configuration.
    Usage,
    /// 3: something is held and needs a decision.
    Held,
}

impl Exit {
    /// The one that outweighs the other: what failed, before what is held.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let weight = |e| match e {
            Self::Ok => 0,
            Self::Held => 1,
            Self::Failed => 2,
            Self::Usage => 3,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(e: Exit) -> Self {
        Self::from(match e {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Held => 3,
        })
    }
}

/// Mirrors remote mailboxes into a local Maildir, both ways, and keeps what the server deletes.
#[derive(Debug, Parser)]
#[command(name = "mailkeep", version, max_term_width = 100, propagate_version = false)]
#[command(
    after_help = "Exit status: 0 all is well; 1 an account failed, the others were done; 2 bad \
                  usage or configuration; 3 something is held and needs a decision (mailkeep status)."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration [default: $XDG_CONFIG_HOME/mailkeep/config.toml, else
    /// /etc/mailkeep/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more: -v what is done and why, -vv the protocol too (never a password)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// The form of messages on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// The form of messages on stderr: for people, or an object a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate the configuration and say what each account will do
    Check {
        /// Also log in, and show what the server can do
        #[arg(long)]
        connect: bool,
        /// Only these accounts
        #[arg(value_name = "ACCOUNT")]
        accounts: Vec<String>,
    },
    /// Keep all accounts in step until told to end (the daemon, in the foreground)
    Run,
    /// Mirror once, then exit; where a daemon runs, it is asked to
    Sync {
        /// Only these accounts
        #[arg(value_name = "ACCOUNT")]
        accounts: Vec<String>,
        /// Act only in folders that this pattern or special use (\Junk) names; may be repeated
        #[arg(long = "folder", value_name = "GLOB", value_parser = FolderPattern::parse)]
        folders: Vec<FolderPattern>,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Take the maildir over from the other host that its marker file names
        #[arg(long)]
        take_over: bool,
    },
    /// Show accounts, folders, the last pass, what is held and what failed
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
        /// Show it again and again, in place
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Have the daemon leave an account alone
    Pause {
        /// The account
        account: String,
    },
    /// Have the daemon go on with an account
    Resume {
        /// The account
        account: String,
    },
    /// Have the daemon read its configuration again
    Reload,
    /// Let what is held go on with the next sync
    Approve(Decision),
    /// Refuse what is held: deleted here is fetched again, everything else stays as kept
    Reject(Decision),
    /// List the messages whose remote copy is gone
    Kept {
        /// Only these accounts
        #[arg(value_name = "ACCOUNT")]
        accounts: Vec<String>,
    },
    /// List what was done to which message, when and why
    History {
        /// Only this message
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
        /// Only these accounts
        #[arg(value_name = "ACCOUNT")]
        accounts: Vec<String>,
    },
    /// Print what a shell needs to complete these commands
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of one command
    Man {
        /// Only of this command
        #[arg(value_name = "COMMAND", conflicts_with = "dir")]
        command: Option<String>,
        /// Write all pages into this directory, which is there
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// A decision about a hold.
#[derive(Debug, Args)]
pub struct Decision {
    /// The account
    pub account: String,
    /// The number that `mailkeep status` shows
    pub hold: i64,
}
