//! The data directory of a PostgreSQL server that was stopped, before and after some work.
//!
//! The work is that of `pgbench`, the standard load of such servers: many small transactions that
//! change rows all over a large table. Its random numbers are fixed; what the server puts beside
//! them, such as times and its own identifier, is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Maker;
use crate::peers::install::{Suite, succeed};

pub(super) fn make(maker: &Maker) -> anyhow::Result<String> {
    maker.installed.debian(&Suite::Host, PACKAGES)?;
    let (scale, transactions) = if maker.is_quick { (8, 200) } else { (90, 1500) };
    let server = Server {
        programs: maker.installed.apt.join("usr/lib/postgresql/15/bin"),
        libraries: maker.installed.libraries(),
        data: maker.work.join("data"),
        sockets: maker.work.join("sockets"),
    };
    for folder in [&maker.work, &server.sockets] {
        std::fs::create_dir_all(folder)?;
        // The server refuses to run as root.
        succeed(Command::new("chown").arg(USER).arg(folder))?;
    }
    let data = server.data.as_os_str().as_encoded_bytes().to_vec();
    let data = String::from_utf8(data)?;
    server.call("initdb", &["--no-sync", "--auth=trust", "--username=bench", "-D", &data])?;
    server.work(&["--initialize", &format!("--scale={scale}")])?;
    server.copy(&maker.earlier)?;
    let transactions_each = format!("--transactions={transactions}");
    server.work(&["--client=4", "--random-seed=1", &transactions_each])?;
    server.copy(&maker.later)?;
    Ok(format!(
        "PostgreSQL 15, stopped, after `pgbench` of scale {scale}; later 4 clients have made \
         {transactions} transactions each"
    ))
}

/// Everything that the server needs beyond the C library.
const PACKAGES: &[&str] = &[
    "postgresql-15",
    "postgresql-client-15",
    "libpq5",
    "libxml2",
    "libicu72",
    "libldap-2.5-0",
    "libsasl2-2",
    "libgssapi-krb5-2",
    "libpam0g",
    "libsystemd0",
    "libuuid1",
];

/// Who owns the server's files.
const USER: &str = "nobody";

struct Server {
    programs: PathBuf,
    libraries: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

impl Server {
    /// Runs `pgbench` with the server, which is stopped afterwards.
    fn work(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let (data, sockets) = (self.data.to_string_lossy(), self.sockets.to_string_lossy());
        let log = self.sockets.join("log");
        let options =
            format!("-c listen_addresses= -c unix_socket_directories={sockets} -c jit=off");
        let start = ["-D", &data, "-l", &log.to_string_lossy(), "-o", &options, "--wait", "start"];
        self.call("pg_ctl", &start)?;
        let user = ["--host", &sockets, "--username=bench"];
        let done = self.call("pgbench", &[&user, arguments, &["postgres"]].concat());
        self.call("pg_ctl", &["-D", &data, "--mode=fast", "--wait", "stop"])?;
        done
    }

    fn call(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", "nogroup", "--clear-groups"]);
        command.arg(self.programs.join(program)).args(arguments).current_dir(&self.sockets);
        command.env("LD_LIBRARY_PATH", &self.libraries).env("LC_ALL", "C.UTF-8");
        // What a server goes on writing to must not be a pipe that somebody reads to its end.
        command.stderr(std::fs::File::create(self.sockets.join("errors"))?);
        succeed(&mut command).map(drop)
    }

    fn copy(&self, state: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(state)?;
        succeed(Command::new("cp").arg("-a").arg(&self.data).arg(state)).map(drop)
    }
}
