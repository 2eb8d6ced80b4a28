//! Makes a data folder: by `initdb`, by copying one made earlier, or as a standby of a server.
//!
//! The folder grows under another name and is renamed when it is complete, so a half-made one is
//! never mistaken for data. The cached template belongs to one user of this machine, is readable by
//! nobody else, and is remade daily, because cleaners of temporary folders delete single files.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::unistd::geteuid;
use rand::Rng;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::{Folder, write_secret};
use crate::server::SUPERUSER;
use crate::settings::INCLUDE_LINE;
use crate::{Error, Options, Server};

const TEMPLATE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a new data folder must survive a power cut right after it was made. The server's own
/// fsync covers only what it writes later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Yes,
    No,
}

/// Makes the data folder and the superuser's password, if they are not there yet.
pub(crate) fn ensure(
    folder: &Folder,
    binaries: &Binaries,
    account: &Account,
    options: &Options,
) -> Result<(), Error> {
    if folder.data().is_dir() {
        return Ok(());
    }
    let unfinished = folder.unfinished_data();
    remove_if_there(&unfinished)?;
    if options.fresh_initdb {
        initdb(folder, binaries, account, Sync::Yes)?;
    } else {
        from_template(folder, binaries, account)?;
    }
    append_include(&unfinished)?;
    complete(folder)
}

/// Copies the data of a server that runs. What is copied follows that server when it starts, under
/// that name, by a slot of that name.
pub(crate) fn copy_server(
    folder: &Folder,
    binaries: &Binaries,
    account: &Account,
    (primary, name): (&Server, &str),
) -> Result<(), Error> {
    let data = folder.unfinished_data();
    DirBuilder::new()
        .mode(0o700)
        .create(&data)
        .map_err(Error::io("create", &data))?;
    account.take_over(&data)?;
    write_secret(&folder.password_file(), primary.password())?;
    let from = format!(
        "host=127.0.0.1 port={} user={SUPERUSER} application_name={name}",
        primary.port()
    );
    let mut command = account.command(&binaries.program("pg_basebackup"));
    command.env("PGPASSWORD", primary.password());
    command.arg("-D").arg(&data).args(["-d", &from]);
    command.args(["--create-slot", "--slot", name, "--write-recovery-conf"]);
    // Its owner may lose it in a power cut: it is only a copy.
    run(command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]))?;
    complete(folder)
}

/// The data folder appears, complete.
fn complete(folder: &Folder) -> Result<(), Error> {
    let unfinished = folder.unfinished_data();
    fs::rename(&unfinished, folder.data()).map_err(Error::io("rename", &unfinished))?;
    let synced = File::open(folder.root()).and_then(|root| root.sync_all());
    synced.map_err(Error::io("sync", folder.root()))
}

/// A random password without characters that would need quoting anywhere.
pub(crate) fn random_password() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

fn initdb(
    folder: &Folder,
    binaries: &Binaries,
    account: &Account,
    sync: Sync,
) -> Result<(), Error> {
    let data = folder.unfinished_data();
    let password = random_password();
    write_secret(&folder.password_file(), &password)?;
    DirBuilder::new()
        .mode(0o700)
        .create(&data)
        .map_err(Error::io("create", &data))?;
    account.take_over(&data)?;
    // PostgreSQL's account must read it, and must not be able to read ours.
    let handed_over = folder.root().join("initdb.password");
    write_secret(&handed_over, &password)?;
    account.take_over(&handed_over)?;
    let mut command = account.command(&binaries.program("initdb"));
    command
        .arg("-D")
        .arg(&data)
        .arg("--pwfile")
        .arg(&handed_over);
    command.args([
        "--username",
        SUPERUSER,
        "--auth",
        "scram-sha-256",
        "--encoding",
        "UTF8",
        "--locale",
        "C",
    ]);
    if sync == Sync::No {
        command.arg("--no-sync");
    }
    let made = run(command.arg("--no-instructions"));
    let removed = fs::remove_file(&handed_over).map_err(Error::io("remove", &handed_over));
    made.and(removed)
}

fn from_template(folder: &Folder, binaries: &Binaries, account: &Account) -> Result<(), Error> {
    let cache = template_cache(binaries, account)?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
    lock.lock().map_err(Error::io("lock", &lock_path))?;
    let template = cache.join("template");
    if is_usable(&template) {
        let password =
            fs::read_to_string(template.join("password")).map_err(Error::io("read", &template))?;
        write_secret(&folder.password_file(), password.trim())?;
        return copy(&template.join("data"), &folder.unfinished_data());
    }
    initdb(folder, binaries, account, Sync::No)?;
    let next = cache.join("next");
    remove_if_there(&next)?;
    remove_if_there(&template)?;
    fs::create_dir(&next).map_err(Error::io("create", &next))?;
    copy(&folder.unfinished_data(), &next.join("data"))?;
    write_secret(&next.join("password"), &folder.password()?)?;
    fs::rename(&next, &template).map_err(Error::io("rename", &next))
}

/// The cache's folder, proved to be ours: temporary folders are open to everybody.
fn template_cache(binaries: &Binaries, account: &Account) -> Result<PathBuf, Error> {
    let clean = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    let version: String = binaries.version().chars().map(clean).collect();
    let name = format!("local-postgres-{}-{version}-{}", geteuid(), account.name());
    let path = std::env::temp_dir().join(name);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", &path)(error));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(&path).map_err(Error::io("look at", &path))?;
    if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let stranger = std::io::Error::new(
            std::io::ErrorKind::PermissionDenied,
            "it belongs to somebody else",
        );
        return Err(Error::io("use", &path)(stranger));
    }
    Ok(path)
}

fn is_usable(template: &Path) -> bool {
    let made = fs::metadata(template.join("password")).and_then(|meta| meta.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < TEMPLATE_AGE_MAX))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut command = Command::new("cp");
    if cfg!(target_os = "linux") {
        command.args(["-a", "--reflink=auto"]);
    } else {
        command.arg("-Rp");
    }
    run(command.arg("--").arg(from).arg(to))?;
    fs::set_permissions(to, Permissions::from_mode(0o700))
        .map_err(Error::io("change the mode of", to))
}

fn append_include(data: &Path) -> Result<(), Error> {
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    fs::write(&path, format!("{text}\n{INCLUDE_LINE}\n")).map_err(Error::io("write", &path))
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> Result<(), Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(Error::io("run", Path::new(&program)))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Error::Program {
            program,
            output: both(&output),
        })
    }
}

fn both(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
