//! Where things are: folders, repository, key. A flag beats a variable beats the default.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use lastgood::Home;
use zeroize::Zeroizing;

use crate::args::Global;
use crate::failure::{Code, Failure};
use crate::secret;

/// What opens the repository, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    PasswordFile(PathBuf),
    PasswordCommand(OsString),
    PasswordVariable,
    PasswordDescriptor(u32),
    KeyFile(PathBuf),
    RecoveryCodeFile(PathBuf),
}

/// The environment, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    pub(crate) fn all(&self) -> &[(OsString, OsString)] {
        &self.0
    }

    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.0.iter().find(|(key, _)| key == OsStr::new(name));
        found.map(|(_, value)| &**value)
    }

    /// A variable that must not be empty when it is set: an empty one is a script gone wrong.
    fn wanted(&self, name: &str) -> Result<Option<&OsStr>, Failure> {
        match self.get(name) {
            Some(value) if value.is_empty() => {
                Err(Failure::usage(format!("{name} is set but empty"))
                    .hint(format!("give it a value, or run: unset {name}")))
            }
            value => Ok(value),
        }
    }
}

/// The repository as the user named it; `None` means the default one.
pub(crate) fn repository(
    global: &Global,
    environment: &Environment,
) -> Result<Option<PathBuf>, Failure> {
    let file = |path: &Path| {
        let mut bytes = std::fs::read(path).map_err(|error| {
            Failure::io(Code::Failed, format!("cannot read {}", path.display()), &error)
        })?;
        bytes.truncate(bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len()));
        if bytes.trim_ascii().is_empty() {
            return Err(Failure::usage(format!("{} names no repository", path.display())));
        }
        Ok(PathBuf::from(OsString::from_vec(bytes.trim_ascii().to_vec())))
    };
    match (&global.repo, &global.repository_file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage("--repo and --repository-file are both given"));
        }
        (Some(repo), None) => return Ok(Some(repo.clone())),
        (None, Some(path)) => return file(path).map(Some),
        (None, None) => {}
    }
    let variable = environment.wanted("LASTGOOD_REPOSITORY")?;
    match (variable, environment.wanted("LASTGOOD_REPOSITORY_FILE")?) {
        (Some(_), Some(_)) => {
            Err(Failure::usage("LASTGOOD_REPOSITORY and LASTGOOD_REPOSITORY_FILE are both set"))
        }
        (Some(repo), None) => Ok(Some(repo.into())),
        (None, Some(path)) => file(Path::new(path)).map(Some),
        (None, None) => Ok(None),
    }
}

/// The key as the user named it; `None` when the user did not.
pub(crate) fn key(
    global: &Global,
    environment: &Environment,
) -> Result<Option<KeySource>, Failure> {
    let path = |value: &OsStr| PathBuf::from(value);
    let flags = [
        ("--password-file", global.password_file.clone().map(KeySource::PasswordFile)),
        ("--password-command", global.password_command.clone().map(KeySource::PasswordCommand)),
        ("--key-file", global.key_file.clone().map(KeySource::KeyFile)),
        (
            "--recovery-code-file",
            global.recovery_code_file.clone().map(KeySource::RecoveryCodeFile),
        ),
    ];
    if let Some(source) = only_one(flags)? {
        return Ok(Some(source));
    }
    let descriptor = match environment.wanted("LASTGOOD_PASSWORD_FD")? {
        None => None,
        Some(text) => Some(text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            Failure::usage(format!("LASTGOOD_PASSWORD_FD is {}: no number", text.display()))
        })?),
    };
    let file = environment.wanted("LASTGOOD_PASSWORD_FILE")?.map(path);
    let command = environment.wanted("LASTGOOD_PASSWORD_COMMAND")?.map(OsStr::to_owned);
    let key_file = environment.wanted("LASTGOOD_KEY_FILE")?.map(path);
    let password = environment.wanted("LASTGOOD_PASSWORD")?;
    only_one([
        ("LASTGOOD_PASSWORD", password.map(|_| KeySource::PasswordVariable)),
        ("LASTGOOD_PASSWORD_FILE", file.map(KeySource::PasswordFile)),
        ("LASTGOOD_PASSWORD_COMMAND", command.map(KeySource::PasswordCommand)),
        ("LASTGOOD_PASSWORD_FD", descriptor.map(KeySource::PasswordDescriptor)),
        ("LASTGOOD_KEY_FILE", key_file.map(KeySource::KeyFile)),
    ])
}

fn only_one<const N: usize>(
    sources: [(&str, Option<KeySource>); N],
) -> Result<Option<KeySource>, Failure> {
    let mut given = sources.into_iter().filter_map(|(name, source)| Some((name, source?)));
    let first = given.next();
    if let (Some((one, _)), Some((other, _))) = (&first, given.next()) {
        return Err(Failure::usage(format!("{one} and {other} are both given: keep one of them")));
    }
    Ok(first.map(|(_, source)| source))
}

impl KeySource {
    /// Reads the password that is named; `None` when what is named is no password.
    pub(crate) fn password(
        &self,
        environment: &Environment,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let password = match self {
            Self::PasswordFile(path) => secret::from_file(path)?,
            Self::PasswordCommand(command) => secret::from_command(command)?,
            Self::PasswordVariable => {
                let value = environment.get("LASTGOOD_PASSWORD").unwrap_or_default();
                Zeroizing::new(value.to_owned().into_vec())
            }
            Self::PasswordDescriptor(number) => {
                secret::from_file(Path::new(&format!("/proc/self/fd/{number}")))?
            }
            Self::KeyFile(_) | Self::RecoveryCodeFile(_) => return Ok(None),
        };
        Ok(Some(password))
    }
}

/// The user's folders, by the XDG base directory specification.
pub(crate) fn home(global: &Global, environment: &Environment) -> Result<Home, Failure> {
    let folder = |variable: &str, below_home: &str| -> Result<PathBuf, Failure> {
        // The specification has relative paths ignored.
        let given = environment.get(variable).map(PathBuf::from);
        let base = match given.filter(|path| path.is_absolute()) {
            Some(base) => base,
            None => user_home(environment)
                .ok_or_else(|| Failure::usage(format!("neither HOME nor {variable} is set")))?
                .join(below_home),
        };
        Ok(base.join("lastgood"))
    };
    let cache = match &global.cache_dir {
        Some(path) => std::path::absolute(path).map_err(|error| {
            Failure::io(Code::Failed, "cannot find the working directory", &error)
        })?,
        None => folder("XDG_CACHE_HOME", ".cache")?,
    };
    Ok(Home {
        data: folder("XDG_DATA_HOME", ".local/share")?,
        cache,
        state: folder("XDG_STATE_HOME", ".local/state")?,
    })
}

/// `HOME`; for root without one, as system services run, what it would be.
fn user_home(environment: &Environment) -> Option<PathBuf> {
    let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.or_else(|| rustix::process::geteuid().is_root().then(|| PathBuf::from("/root")))
}

/// How often progress is shown, where the user said so.
pub(crate) fn progress_fps(environment: &Environment) -> Result<Option<f64>, Failure> {
    let Some(text) = environment.wanted("LASTGOOD_PROGRESS_FPS")? else {
        return Ok(None);
    };
    let fps = text.to_str().and_then(|text| text.parse::<f64>().ok());
    match fps.filter(|fps| fps.is_finite() && *fps > 0.0) {
        Some(fps) => Ok(Some(fps)),
        None => Err(Failure::usage(format!(
            "LASTGOOD_PROGRESS_FPS is {}: no number above zero",
            text.display()
        ))),
    }
}

/// Makes a path absolute without resolving links.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error: io::Error| {
        Failure::io(Code::Failed, format!("cannot make {} absolute", path.display()), &error)
    })
}

#[cfg(test)]
mod tests;
