//! Passwords: from a file, a command, the terminal or a pipe. They are wiped from memory after use.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Code, Failure};
use crate::signals;

/// A password of whatever bytes.
pub(crate) type Password = Zeroizing<Vec<u8>>;

/// Reads a file, without the line end at its end.
pub(crate) fn from_file(path: &Path) -> Result<Password, Failure> {
    let failed = |error: &io::Error| {
        let message = format!("cannot read the password from {}", path.display());
        Failure::io(Code::WrongKey, message, error)
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    read_all(file).map_err(|error| failed(&error))
}

/// Runs a command in the shell and takes what it prints, without the line end at its end.
pub(crate) fn from_command(command: &OsStr) -> Result<Password, Failure> {
    let name = command.display();
    let failed = |error: &io::Error| {
        Failure::io(Code::WrongKey, format!("cannot run the password command {name}"), error)
    };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let stdout = child.stdout.take();
    let password = stdout.map_or(Ok(Password::default()), read_all);
    let status = child.wait().map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(Failure::new(
            Code::WrongKey,
            format!("the password command {name} failed with {status}"),
        ));
    }
    password.map_err(|error| failed(&error))
}

/// Whether a person can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && terminal().is_ok()
}

/// Asks at the terminal; anything but yes is no.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    let failed = |error: io::Error| Failure::io(Code::Failed, "cannot ask", &error);
    let mut terminal = terminal().map_err(failed)?;
    write!(terminal, "{question} [y/N] ").map_err(failed)?;
    let mut answer = String::new();
    io::BufReader::new(terminal).read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Asks at the terminal, without echo.
pub(crate) fn ask(prompt: &str) -> Result<Password, Failure> {
    let failed =
        |error: io::Error| Failure::io(Code::WrongKey, "cannot ask for the password", &error);
    let mut terminal = terminal().map_err(failed)?;
    let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    silent.local_modes |= LocalModes::ECHONL | LocalModes::ICANON;
    write!(terminal, "{prompt}: ").and_then(|()| terminal.flush()).map_err(failed)?;
    signals::remember_terminal(Some(before.clone()));
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let line = read_line(&terminal);
    let restored = tcsetattr(&terminal, OptionalActions::Now, &before);
    signals::remember_terminal(None);
    restored.map_err(|error| failed(error.into()))?;
    line.map_err(failed)?.ok_or_else(none_given)
}

/// The first line of standard input, for `echo PASSWORD | lastgood …`.
pub(crate) fn from_stdin() -> Result<Password, Failure> {
    let line = read_line(io::stdin().lock());
    line.map_err(|error| {
        Failure::io(Code::WrongKey, "cannot read the password from standard input", &error)
    })?
    .ok_or_else(none_given)
}

/// The failure of a command that needs a password and was given none.
pub(crate) fn none_given() -> Failure {
    Failure::new(Code::WrongKey, "a password is needed, and none was given").hint(
        "give one with --password-file, --password-command, LASTGOOD_PASSWORD or at a terminal; a \
         key file with --key-file",
    )
}

fn terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

/// A line without its end; `None` at the end of the input.
fn read_line(input: impl Read) -> io::Result<Option<Password>> {
    let mut input = io::BufReader::with_capacity(1, input).take(PASSWORD_BYTES_MAX);
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    cut_line_end(&mut line);
    Ok(Some(line))
}

fn read_all(input: impl Read) -> io::Result<Password> {
    let mut password = Zeroizing::new(Vec::with_capacity(4096));
    input.take(PASSWORD_BYTES_MAX).read_to_end(&mut password)?;
    cut_line_end(&mut password);
    Ok(password)
}

fn cut_line_end(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

const PASSWORD_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_end_is_cut() {
        let check = |bytes: &[u8], expected: &[u8]| {
            assert_eq!(read_all(bytes).unwrap().as_slice(), expected);
        };
        check(b"secret\n", b"secret");
        check(b"secret\r\n", b"secret");
        check(b" secret \n\n", b" secret \n");
        check(b"", b"");
    }

    #[test]
    fn commands_give_passwords_or_fail() {
        let run = |command: &str| from_command(OsStr::new(command));
        assert_eq!(run("printf 'a b\\n'").unwrap().as_slice(), b"a b");
        assert!(format!("{:?}", run("exit 3").unwrap_err()).contains("exit 3"));
    }
}
