//! The command line: what may be said, and which file answers. Messages for people go to stderr,
//! data to stdout. Exit status: 0 ok, 1 an account failed, 2 bad usage or configuration, 3
//! something is held and needs a decision.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
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
    /// Mirror once, then exit
    Sync {
        /// Only these accounts
        #[arg(value_name = "ACCOUNT")]
        accounts: Vec<String>,
        /// Act only in folders that this pattern or special use (\Junk) names; may be repeated
        #[arg(long = "folder", value_name = "GLOB")]
        folders: Vec<String>,
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
    },
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
}

/// A decision about a hold.
#[derive(Debug, Args)]
pub struct Decision {
    /// The account
    pub account: String,
    /// The number that `mailkeep status` shows
    pub hold: i64,
}
