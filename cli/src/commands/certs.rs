//! `gavel certs`: an authority, and a certificate for every process and principal of the
//! configuration.
//!
//! For trials, development and small installations. The authority's key stays in the folder:
//! whoever has it can be anybody. A PKI of one's own signs the same identities; see
//! docs/security.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use gavel_tls::authority::{Authority, Issued, Request};
use gavel_tls::{Identity, Role};
use serde_json::json;

use crate::args::CertsArgs;
use crate::config::{Config, Role as PrincipalRole};
use crate::exit::Exit;
use crate::output::Output;
use crate::service::{participant_url, security};

/// Under these a service can be reached on its own machine.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The file names that principals cannot have.
const AUTHORITY: &str = "ca";
const METRICS: &str = "metrics";

/// Signs what is missing; with `--renew` everything but the authority.
pub(crate) fn run(config: &Config, args: &CertsArgs, output: Output) -> anyhow::Result<Exit> {
    let wanted = wanted(config, args)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    let _alone = lock(&args.out)?;
    let authority = authority(config, &args.out)?;
    let (mut written, mut kept) = (Vec::new(), Vec::new());
    for (name, request) in wanted {
        let files = (file(&args.out, &name, "pem"), file(&args.out, &name, "key"));
        if files.0.exists() && files.1.exists() && !args.renew {
            kept.push(name);
            continue;
        }
        let Issued { certificate, key } = authority
            .issue(&request)
            .with_context(|| format!("`{name}`: hosts {:?}", request.hosts))?;
        // The key first: a process that reads in between finds a pair that does not fit, keeps
        // the one before, and reads again.
        write(&files.1, &key, 0o600)?;
        write(&files.0, &certificate, 0o644)?;
        written.push(name);
    }
    output.result(
        describe(&args.out, &written, &kept),
        &json!({ "folder": args.out, "written": written, "kept": kept }),
    );
    Ok(Exit::Ok)
}

fn describe(folder: &Path, written: &[String], kept: &[String]) -> String {
    let mut lines = Vec::new();
    if !written.is_empty() {
        lines.push(format!("signed: {}", written.join(", ")));
    }
    if !kept.is_empty() {
        lines.push(format!(
            "kept, as they are there already (--renew signs them again): {}",
            kept.join(", ")
        ));
    }
    lines.push(format!(
        "in {}; ca.key makes anybody anybody: keep it off the servers",
        folder.display()
    ));
    lines.join("\n")
}

/// Every certificate, by the name of its files.
fn wanted(config: &Config, args: &CertsArgs) -> anyhow::Result<BTreeMap<String, Request>> {
    let mut all = BTreeMap::new();
    let identity = |role, name: &str| Identity {
        deployment: config.deployment.clone(),
        role,
        name: name.to_owned(),
    };
    let request = |identity, hosts| Request {
        identity: Some(identity),
        hosts,
        days: args.days,
    };
    let listen = config.coordinator.listen.ip();
    let listen = (!listen.is_unspecified()).then(|| listen.to_string());
    let coordinator = identity(Role::Coordinator, security::COORDINATOR);
    all.insert(
        security::COORDINATOR.to_owned(),
        request(coordinator, hosts(listen, &args.host)),
    );
    for shard in &config.shard {
        let host = match &shard.participant {
            // Names for wherever it may be come from --host.
            Some(_) if shard.is_announced() => None,
            Some(_) => participant_url(shard)?
                .parse::<http::Uri>()?
                .host()
                .map(|host| host.trim_matches(['[', ']']).to_owned()),
            None => None,
        };
        let participant = identity(Role::Participant, shard.name.as_str());
        let request = request(participant, hosts(host, &args.host));
        all.insert(security::participant(shard), request);
    }
    let metrics = identity(Role::Metrics, METRICS);
    all.insert(METRICS.to_owned(), request(metrics, Vec::new()));
    for principal in &config.principal {
        let name = principal.name.as_str();
        let is_file_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        ensure!(
            name.chars().all(is_file_name) && !name.starts_with('.') && name != AUTHORITY,
            "a principal called `{name}` cannot have files of that name: sign its certificate \
             elsewhere, or give it another name"
        );
        let role = match principal.role {
            PrincipalRole::Client => Role::Client,
            PrincipalRole::Operator => Role::Operator,
        };
        let request = request(identity(role, name), Vec::new());
        if all.insert(name.to_owned(), request).is_some() {
            bail!("a process is called `{name}` already: give that principal another name");
        }
    }
    for host in &args.postgres {
        ensure!(
            !host.contains('/'),
            "`{host}` is no host: give the name or IP address of a PostgreSQL server"
        );
        let request = Request {
            identity: None,
            hosts: vec![host.clone()],
            days: args.days,
        };
        all.insert(format!("postgres-{host}"), request);
    }
    Ok(all)
}

fn hosts(own: Option<String>, more: &[String]) -> Vec<String> {
    let loopback = LOOPBACK.map(str::to_owned);
    let all: BTreeSet<String> = own
        .into_iter()
        .chain(loopback)
        .chain(more.to_vec())
        .collect();
    all.into_iter().collect()
}

/// Two at once would make two authorities, and keep the key of one with the certificate of the
/// other.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// The authority in `folder`, or a new one. Half of one is a mistake that nothing mends: what the
/// other half signed would not be trusted any more.
fn authority(config: &Config, folder: &Path) -> anyhow::Result<Authority> {
    let files = (
        file(folder, AUTHORITY, "pem"),
        file(folder, AUTHORITY, "key"),
    );
    match (files.0.exists(), files.1.exists()) {
        (true, true) => {
            let issued = Issued {
                certificate: read(&files.0)?,
                key: read(&files.1)?,
            };
            Authority::open(&config.deployment, &issued)
                .with_context(|| format!("{} is no private key", files.1.display()))
        }
        (false, false) => {
            let (authority, issued) = Authority::new(&config.deployment)?;
            write(&files.1, &issued.key, 0o600)?;
            write(&files.0, &issued.certificate, 0o644)?;
            Ok(authority)
        }
        (true, false) => bail!(
            "{} is there without its key: sign where {} is, or give another folder with --out",
            files.0.display(),
            files.1.display()
        ),
        (false, true) => bail!(
            "{} is there without its certificate, {}: bring it back, or remove the key to begin \
             anew",
            files.1.display(),
            files.0.display()
        ),
    }
}

fn file(folder: &Path, name: &str, suffix: &str) -> PathBuf {
    folder.join(format!("{name}.{suffix}"))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Beside its place, then there: nobody reads half a file, and a key never was readable to others.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let written = || {
        let _gone = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
