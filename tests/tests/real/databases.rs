//! Databases, by their own clients: bytes that are no HTTP, either side first.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tokio::process::Command;
use weft_tests::program::{Server, free_port, installed, succeed};

use super::{Pair, local};

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli() {
    if !installed("redis", "redis-server") || !installed("redis", "redis-cli") {
        return;
    }
    let port = free_port();
    let mut command = Command::new("redis-server");
    let _server = Server::at(port, command.args(["--save", "", "--port", &port.to_string()])).await;
    for protocol in [", protocol: tcp", ""] {
        let pair = Pair::start(protocol, local(port)).await;
        let bound = pair.bound().port().to_string();
        let cli = |arguments: &[&str]| {
            let mut command = Command::new("redis-cli");
            command.args(["-p", &bound]).args(arguments);
            command
        };
        assert_eq!(succeed(&mut cli(&["SET", "key", "value"])).await.trim(), "OK");
        assert_eq!(succeed(&mut cli(&["GET", "key"])).await.trim(), "value");
        assert!(succeed(&mut cli(&["INFO", "server"])).await.contains("redis_version"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql() {
    if !installed("psql", "psql") {
        return;
    }
    let Some(postgres) = Postgres::start().await else { return };
    for protocol in [", protocol: tcp", ""] {
        let pair = Pair::start(protocol, local(postgres.port)).await;
        let url = format!("postgresql://weft@127.0.0.1:{}/postgres", pair.bound().port());
        let query = "select sum(n), repeat('x', 100000) from generate_series(1, 1000) n";
        let out = succeed(Command::new("psql").args([&url, "-tAc", query])).await;
        assert!(out.starts_with("500500|xxx") && out.len() > 100_000, "{}", out.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb() {
    if !installed("mariadb", "mariadb") {
        return;
    }
    let Some(maria) = Maria::start().await else { return };
    // The server speaks first.
    for protocol in [", protocol: tcp", ""] {
        let pair = Pair::start(protocol, local(maria.port)).await;
        let port = format!("--port={}", pair.bound().port());
        for _ in 0..3 {
            let query = "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 1000)
                         select sum(n), repeat('x', 100000) from numbers";
            let mut client = Command::new("mariadb");
            client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=weft"]);
            let out =
                succeed(client.args([&port, "--skip-column-names", "--execute", query])).await;
            assert!(out.starts_with("500500\txxx") && out.len() > 100_000, "{}", out.len());
        }
    }
}

/// A PostgreSQL server in a temporary folder; it refuses to run as root, so it runs as `postgres` there.
struct Postgres {
    port: u16,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Postgres {
    async fn start() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok();
        let programs =
            versions.and_then(|mut all| all.next()?.ok()).map(|version| version.path().join("bin"));
        let Some(programs) = programs else {
            weft_tests::skip("psql", "no PostgreSQL server is installed");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let data = folder.path().join("data");
        let port = free_port();
        let mut initdb = as_user(&programs.join("initdb"));
        succeed(initdb.args(["-U", "weft", "-A", "trust", "-D"]).arg(&data)).await;
        let mut command = as_user(&programs.join("postgres"));
        command.args([
            "-p",
            &port.to_string(),
            "-c",
            "fsync=off",
            "-c",
            "unix_socket_directories=",
        ]);
        let server = Server::at(port, command.arg("-D").arg(&data)).await;
        Some(Self { port, _server: server, _folder: folder })
    }
}

/// A command that does not run as root.
fn as_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

/// A MariaDB server in a temporary folder, whose user `weft` needs no password.
struct Maria {
    port: u16,
    _server: Server,
    _folder: tempfile::TempDir,
}

impl Maria {
    async fn start() -> Option<Self> {
        let server = Path::new("/usr/sbin/mariadbd");
        if !server.is_file() {
            weft_tests::skip("mariadb", "no MariaDB server is installed");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let user =
            if rustix::process::geteuid().is_root() { "--user=root" } else { "--no-defaults" };
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", user]);
        succeed(install.arg(format!("--datadir={}", data.display()))).await;
        let init = folder.path().join("init.sql");
        fs::write(&init, "create user weft@'%';\n").expect("it is ours");
        let port = free_port();
        let mut command = Command::new(server);
        command.args(["--no-defaults", user, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.arg(format!("--port={port}")).arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", folder.path().join("socket").display()));
        command.arg(format!("--init-file={}", init.display()));
        let server = Server::at(port, &mut command).await;
        Some(Self { port, _server: server, _folder: folder })
    }
}
