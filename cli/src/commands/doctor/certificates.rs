//! What is wrong with the files of this machine: certificates, keys, the configuration.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use gavel_tls::Tls;

use super::finding::{Finding, Severity};
use crate::commands::check::with_causes;
use crate::config::Config;
use crate::service::security;

/// Days that a certificate is still good for.
const DAYS_LEFT: [u64; 2] = [30, 7];
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Looks at the files of every process of the configuration; only some may be on this machine.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let Some(tls) = &config.tls else {
        return Vec::new();
    };
    let shards = config.shard.iter().map(security::participant);
    let own = [security::COORDINATOR, security::OPERATOR].map(str::to_owned);
    let mut findings = Vec::new();
    for name in own.into_iter().chain(shards) {
        let files = tls.files(&name);
        if !files.certificate.exists() {
            continue;
        }
        let place = files.certificate.display().to_string();
        findings.extend(key(&files.key));
        match Tls::load(files, config.deployment.clone()) {
            Err(error) => findings.push(Finding {
                severity: Severity::Critical,
                place,
                code: "certificate_unusable",
                what: with_causes(&error),
                why: "the process with it does not start; one that runs keeps what it has",
                fix: "gavel certs --renew, or sign it again".to_owned(),
            }),
            Ok(tls) => {
                let left = tls.not_after().map(|end| {
                    let left = end.duration_since(SystemTime::now());
                    left.map_or(0, |left| left.as_secs() / DAY_SECONDS)
                });
                findings.extend(left.and_then(|days| expiry(place, days)));
            }
        }
    }
    findings
}

fn expiry(place: String, days: u64) -> Option<Finding> {
    let severity = match days {
        _ if days <= DAYS_LEFT[1] => Severity::Critical,
        _ if days <= DAYS_LEFT[0] => Severity::Warning,
        _ => return None,
    };
    Some(Finding {
        severity,
        place,
        code: "certificate_ends",
        what: format!("the certificate is good for {days} more days"),
        why: "then nobody connects to its process any more",
        fix: "gavel certs --renew, or sign it again; processes read it by themselves".to_owned(),
    })
}

fn key(path: &Path) -> Option<Finding> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| Finding {
        severity: Severity::Warning,
        place: path.display().to_string(),
        code: "key_readable",
        what: format!("others may read this private key (mode {mode:03o})"),
        why: "whoever reads it can be that process",
        fix: format!("chmod 600 {}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        let severity = |days| expiry(String::new(), days).map(|finding| finding.severity);
        assert_eq!(severity(31), None);
        assert_eq!(severity(30), Some(Severity::Warning));
        assert_eq!(severity(7), Some(Severity::Critical));
        assert_eq!(severity(0), Some(Severity::Critical));
    }
}
