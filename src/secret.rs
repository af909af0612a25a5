//! Secrets, and where they come from. A secret is in memory only while it is needed, and in no
//! log, error or argument list ever.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Kind, Result, Scope};

/// A password or token. Wiped when dropped; its `Debug` is `***`, and it has no `Display`.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves. Only for what sends them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text without this secret, plain or in base64: a server may echo what it was sent.
    pub fn scrub(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let encoded = Zeroizing::new(STANDARD.encode(self.expose()));
        let mut out = text.replace(encoded.as_str(), "***");
        if let Ok(plain) = std::str::from_utf8(self.expose()) {
            out = out.replace(plain, "***");
        }
        out
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

/// Where a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// `password_command`: the first line that the command prints.
    Command(String),
    /// `password_file`: the first line of the file.
    File(PathBuf),
    /// `password_env`: an environment variable.
    Env(String),
    /// `password_credential`: a systemd credential (LoadCredential=) of that name.
    SystemdCredential(String),
    /// `password`.
    Inline(Secret),
    /// `token_command`: like `Command`, for an OAuth access token.
    TokenCommand(String),
}

impl Credential {
    /// Whether the secret is an OAuth token, not a password.
    pub fn is_token(&self) -> bool {
        matches!(self, Self::TokenCommand(_))
    }

    /// The configuration's key for it.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Command(_) => "password_command",
            Self::File(_) => "password_file",
            Self::Env(_) => "password_env",
            Self::SystemdCredential(_) => "password_credential",
            Self::Inline(_) => "password",
            Self::TokenCommand(_) => "token_command",
        }
    }
}

// Commands too are kept out: people write passwords into them.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "password_file {path:?}"),
            Self::Env(name) => write!(f, "password_env {name:?}"),
            Self::SystemdCredential(name) => write!(f, "password_credential {name:?}"),
            other => write!(f, "{} ***", other.key()),
        }
    }
}

/// Gets the secret. A command that takes longer than `within` is killed with all it started.
pub async fn resolve(credential: &Credential, within: Duration) -> Result<Secret> {
    let secret = match credential {
        Credential::Inline(secret) => secret.clone(),
        Credential::Command(command) | Credential::TokenCommand(command) => {
            run(credential.key(), command, within).await?
        }
        Credential::File(path) => from_file(path, "password_file")?,
        Credential::Env(name) => from_env(name)?,
        Credential::SystemdCredential(name) => {
            from_systemd(name, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))?
        }
    };
    if secret.is_empty() {
        return Err(Error::account(Kind::Config, format!("{} gave nothing", credential.key()))
            .next("the secret has to be the first line of what it gives"));
    }
    Ok(secret)
}

/// The most that is read of a file's or a command's output.
const LONGEST: u64 = 64 * 1024;
/// How long output may come after the command itself has ended.
const AFTERMATH: Duration = Duration::from_millis(500);

fn from_file(path: &Path, key: &str) -> Result<Secret> {
    let doing = format!("read {key}");
    let fail = |e: &io::Error| Error::io(Scope::Account, &doing, path, e);
    let file = std::fs::File::open(path).map_err(|e| fail(&e))?;
    // Reserved at once: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    io::Read::read_to_end(&mut io::Read::take(file, LONGEST), &mut bytes).map_err(|e| fail(&e))?;
    Ok(first_line(&bytes))
}

fn from_env(name: &str) -> Result<Secret> {
    use std::os::unix::ffi::OsStringExt as _;
    std::env::var_os(name).map(|v| Secret::new(v.into_vec())).ok_or_else(|| {
        Error::account(Kind::Config, format!("the environment variable {name} is not set"))
            .next("set it where mailkeep is started, or use another password_… key")
    })
}

fn from_systemd(name: &str, directory: Option<PathBuf>) -> Result<Secret> {
    let plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    if !plain {
        return Err(Error::account(
            Kind::Config,
            format!("password_credential {name:?} is not the name of a credential"),
        )
        .next("use the name that the unit's LoadCredential= gives it"));
    }
    let directory = directory.ok_or_else(|| {
        Error::account(Kind::Config, format!("there is no systemd credential {name:?} to read"))
            .next("password_credential works in a systemd unit with LoadCredential= only")
    })?;
    from_file(&directory.join(name), "password_credential")
}

/// Runs the command by the shell, and takes the first line of its output.
async fn run(key: &str, command: &str, within: Duration) -> Result<Secret> {
    let failed = |what: String| Error::account(Kind::Io, format!("{key} {what}"));
    let mut child = tokio::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: a time-out has to end what the shell started as well.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(format!("could not be started: {e}")).next("is there a shell?"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut out = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    let mut err = Vec::new();
    let ended = timeout(within, async {
        let read =
            async { tokio::join!(collect(stdout, &mut out), collect_tail(stderr, &mut err)) };
        tokio::pin!(read);
        // Something left in the background may hold the pipes open for long; the command's own
        // end is what counts.
        tokio::select! {
            _ = &mut read => child.wait().await,
            ended = child.wait() => {
                let _ = timeout(AFTERMATH, read).await;
                ended
            }
        }
    })
    .await;
    let status = match ended {
        Ok(status) => status.map_err(|e| failed(format!("could not be waited for: {e}")))?,
        Err(_) => {
            drop(group);
            let _ = child.wait().await;
            return Err(failed(format!("did not finish within {} s", within.as_secs_f32()))
                .next("run it by hand; it may be waiting for a passphrase"));
        }
    };
    // What it left running on purpose (an agent) stays.
    group.0 = None;
    let secret = first_line(&out);
    if !status.success() {
        let said = secret.scrub(&last_line(&err));
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        return Err(failed(format!("{}{said}", how_it_ended(status)))
            .next("run it by hand, as the user and with the environment that mailkeep has"));
    }
    Ok(secret)
}

/// Kills the process group when dropped: also when the future that runs it is.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads to the end, keeping the beginning.
async fn collect(pipe: Option<impl AsyncRead + Unpin>, out: &mut Zeroizing<Vec<u8>>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = Zeroizing::new([0; 4096]);
    while let Ok(n @ 1..) = pipe.read(piece.as_mut_slice()).await {
        let room = (LONGEST as usize).saturating_sub(out.len());
        out.extend_from_slice(piece.get(..n.min(room)).unwrap_or_default());
    }
}

/// Reads to the end, keeping the end.
async fn collect_tail(pipe: Option<impl AsyncRead + Unpin>, out: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        out.extend_from_slice(piece.get(..n).unwrap_or_default());
        let excess = out.len().saturating_sub(4096);
        out.drain(..excess);
    }
    piece.zeroize();
}

fn first_line(bytes: &[u8]) -> Secret {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    Secret::new(line.strip_suffix(b"\r").unwrap_or(line))
}

/// The last line with anything in it, made fit for a terminal.
fn last_line(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\n').rfind(|l| !l.trim_ascii().is_empty());
    printable(line.unwrap_or_default())
}

/// Fresh randomness for a SASL exchange: 24 characters of base64.
pub fn nonce() -> Result<String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::account(Kind::Internal, format!("the system gives no randomness: {e}"))
    })?;
    Ok(STANDARD.encode(bytes))
}

/// What others wrote, for an error: one line, no control characters, not too long.
pub fn printable(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = String::from_utf8_lossy(bytes);
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = clean.take(LONGEST + 1).collect();
    if out.chars().count() > LONGEST {
        out.pop();
        out.push('…');
    }
    out
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn resolved(credential: &Credential, within: Duration) -> Result<Secret> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(resolve(credential, within))
    }

    fn command(text: &str) -> Credential {
        Credential::Command(text.to_owned())
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        let all = [
            Credential::Inline(secret.clone()),
            command("echo hunter2"),
            Credential::TokenCommand("echo hunter2".into()),
        ];
        for credential in all {
            assert!(!format!("{credential:?}").contains("hunter2"), "{}", credential.key());
        }
    }

    #[test]
    fn scrubs_plain_and_base64() {
        let secret = Secret::from("hunter2");
        assert_eq!(secret.scrub("a hunter2 b aHVudGVyMg== c"), "a *** b *** c");
        assert_eq!(Secret::default().scrub("abc"), "abc");
    }

    #[test]
    fn takes_the_first_line_of_a_command() {
        let secret = resolved(&command("printf 'pass word \\r\\nsecond\\n'"), LONG).unwrap();
        assert_eq!(secret.expose(), b"pass word ");
        let secret = resolved(&command("printf nonewline"), LONG).unwrap();
        assert_eq!(secret.expose(), b"nonewline");
        let token = Credential::TokenCommand("echo t".into());
        assert_eq!(resolved(&token, LONG).unwrap().expose(), b"t");
    }

    #[test]
    fn a_command_has_no_input() {
        assert_eq!(resolved(&command("cat; echo x"), LONG).unwrap().expose(), b"x");
    }

    #[test]
    fn a_failed_command_shows_the_last_line_of_stderr_and_no_output() {
        let e = resolved(
            &command("echo hunter2; echo first >&2; echo 'gpg: hunter2 no key' >&2; exit 3"),
            LONG,
        )
        .unwrap_err();
        assert_eq!(e.what, "password_command failed with exit status 3: gpg: *** no key");
        assert!(!e.to_string().contains("hunter2"));
    }

    #[test]
    fn a_signal_is_named() {
        let e = resolved(&command("kill -9 $$"), LONG).unwrap_err();
        assert_eq!(e.what, "password_command was killed by signal 9");
    }

    #[test]
    fn empty_output_is_an_error() {
        let e = resolved(&command("true"), LONG).unwrap_err();
        assert_eq!((e.kind, e.what.as_str()), (Kind::Config, "password_command gave nothing"));
        assert!(resolved(&command("echo; echo second"), LONG).is_err());
    }

    #[test]
    fn a_time_out_kills_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let (pids, gate) = (dir.path().join("pids"), dir.path().join("gate"));
        assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
        // The grandchild holds no pipe of ours, so that only the group's end can end it.
        let text = format!(
            "sh -c 'echo $$ > {pids}; read x < {gate}' >/dev/null 2>&1 & wait",
            pids = pids.display(),
            gate = gate.display()
        );
        let e = resolved(&command(&text), Duration::from_millis(2500)).unwrap_err();
        assert_eq!(e.kind, Kind::Io);
        assert!(e.what.contains("did not finish within 2.5 s"), "{e}");
        let pid = std::fs::read_to_string(&pids).unwrap().trim().to_owned();
        // Gone, or a zombie that its new parent has not reaped yet; the kernel may take a moment.
        let dead = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let begun = std::time::Instant::now();
        while !dead() {
            assert!(begun.elapsed() < LONG, "process {pid} lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_command_leaves_running_does_not_delay_it() {
        let begun = std::time::Instant::now();
        let secret = resolved(&command("sleep 15 & echo x"), LONG).unwrap();
        assert_eq!(secret.expose(), b"x");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn endless_output_is_bounded() {
        let e = resolved(&command("yes hunter2"), Duration::from_millis(300)).unwrap_err();
        assert!(e.what.contains("did not finish"));
        let long = resolved(&command("head -c 1000000 /dev/zero | tr '\\0' a"), LONG).unwrap();
        assert_eq!(long.expose().len() as u64, LONGEST);
    }

    #[test]
    fn files_and_credentials() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("imap"), "pa ss\n\nnote\n").unwrap();
        let file = Credential::File(dir.path().join("imap"));
        assert_eq!(resolved(&file, LONG).unwrap().expose(), b"pa ss");
        let missing = resolved(&Credential::File(dir.path().join("no")), LONG).unwrap_err();
        assert_eq!((missing.scope, missing.kind), (Scope::Account, Kind::Io));

        let here = Some(dir.path().to_owned());
        assert_eq!(from_systemd("imap", here.clone()).unwrap().expose(), b"pa ss");
        for bad in ["../imap", "", ".", "..", "a/b"] {
            assert_eq!(from_systemd(bad, here.clone()).unwrap_err().kind, Kind::Config, "{bad}");
        }
        assert_eq!(from_systemd("imap", None).unwrap_err().kind, Kind::Config);
    }

    #[test]
    fn an_unset_variable_is_a_configuration_error() {
        let e = resolved(&Credential::Env("MAILKEEP_NO_SUCH_VARIABLE".into()), LONG).unwrap_err();
        assert_eq!(e.kind, Kind::Config);
        assert!(!resolved(&Credential::Env("PATH".into()), LONG).unwrap().is_empty());
    }
}
