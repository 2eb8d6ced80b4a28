//! `gavel doctor` over real servers: each finding comes with its fault, and goes with its fix.

mod temporary;

use std::process::Command;
use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options, Role};
use local_postgres::Mode;
use serde_json::Value;
use temporary::folder;

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(120);

struct Patient {
    dev: Dev,
    _folder: tempfile::TempDir,
}

impl Patient {
    fn start() -> Self {
        let folder = folder();
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        let dev = Dev::start(&options).expect("a deployment");
        let _folder = folder;
        Self { dev, _folder }
    }

    fn sql(&self, sql: &str) {
        let done = self.dev.servers()[0].sql("app", sql);
        done.expect("it is done");
    }

    /// Exit code, and findings as `severity place code`.
    fn look(&self) -> (i32, Vec<String>) {
        let output = Command::new(GAVEL)
            .arg("--config")
            .arg(self.dev.config_path())
            .args(["--json", "doctor", "--deadline-ms", "3000"])
            .output()
            .expect("gavel runs");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = document["findings"].as_array().expect("a list").iter();
        let findings = findings.map(|one| {
            for key in ["what", "fix"] {
                assert!(
                    one[key].as_str().is_some_and(|text| !text.is_empty()),
                    "{one}"
                );
            }
            let word = |key: &str| one[key].as_str().expect("a word").to_owned();
            format!("{} {} {}", word("severity"), word("place"), word("code"))
        });
        let code = output.status.code().expect("it ended");
        assert_eq!(document["healthy"], code == 0, "{document}");
        (code, findings.collect())
    }

    /// Waits until these are all the findings: some faults take a moment to be seen.
    fn finds(&self, expected: &[&str]) {
        let begun = Instant::now();
        loop {
            let (code, found) = self.look();
            if found == expected {
                let is_critical = expected.iter().any(|one| one.starts_with("critical"));
                assert_eq!(code, i32::from(is_critical), "{found:?}");
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{expected:?}, not {found:?}");
        }
    }
}

#[test]
fn each_finding_comes_with_its_fault_and_goes_with_its_fix() {
    let patient = Patient::start();
    let blind = ["note alpha sees_little", "note beta sees_little"];
    patient.finds(&blind);
    for server in patient.dev.servers() {
        let role = "GRANT pg_read_all_stats TO gavel_participant";
        server.sql("app", role).expect("it is done");
    }
    patient.finds(&[]);

    patient.sql("ALTER DATABASE app SET default_transaction_read_only = on");
    patient.finds(&["critical alpha read_only_by_default"]);
    patient.sql("BEGIN READ WRITE; ALTER DATABASE app RESET default_transaction_read_only; COMMIT");
    patient.finds(&[]);

    patient.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    patient.sql("SELECT pg_reload_conf()");
    patient.finds(&["critical alpha no_synchronous_standby"]);
    patient.sql("ALTER SYSTEM RESET synchronous_standby_names");
    patient.sql("SELECT pg_reload_conf()");
    patient.finds(&[]);

    patient.sql(
        "DO $$ BEGIN EXECUTE 'DROP TABLE gavel.decision_' \
         || to_char((now() AT TIME ZONE 'UTC') + interval '1 day', 'YYYYMMDD'); END $$",
    );
    patient.finds(&["warning alpha partitions_missing"]);
    patient
        .dev
        .restart(Role::Participant(0))
        .expect("it starts");
    patient.finds(&[]);

    patient.sql("BEGIN; CREATE TABLE left_over (); PREPARE TRANSACTION 'it''s'");
    patient.finds(&[]);

    patient.dev.terminate(Role::Participant(1));
    patient.finds(&["critical beta participant_out_of_sight"]);
    patient.dev.servers()[1].stop(Mode::Fast).expect("stopped");
    patient.finds(&[
        "critical beta participant_out_of_sight",
        "critical beta shard_unreachable",
    ]);
    patient.dev.terminate(Role::Coordinator(0));
    let endpoint = patient.dev.coordinator_url();
    patient.finds(&[
        &format!("critical {endpoint} coordinator_unreachable"),
        "critical beta shard_unreachable",
    ]);
}

#[test]
fn a_certificate_that_ends_soon_is_found() {
    let folder = folder();
    let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
    options.shards = Some(1);
    options.tls = true;
    let dev = Dev::start(&options).expect("a deployment");
    let certificates = dev.certificates().expect("it has some").to_owned();
    let patient = Patient {
        dev,
        _folder: folder,
    };
    patient.finds(&["note alpha sees_little"]);
    let out = certificates.to_string_lossy().into_owned();
    let signed = Command::new(GAVEL)
        .arg("--config")
        .arg(patient.dev.config_path())
        .args(["certs", "--out", &out, "--days", "20", "--renew"])
        .status();
    assert!(signed.expect("gavel runs").success());
    let key = certificates.join("operator.key");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&key, open).expect("changed");
    let pem = |name: &str| certificates.join(name).display().to_string();
    patient.finds(&[
        &format!("warning {} certificate_ends", pem("coordinator.pem")),
        &format!("warning {} key_readable", key.display()),
        &format!("warning {} certificate_ends", pem("operator.pem")),
        &format!("warning {} certificate_ends", pem("participant-alpha.pem")),
        "note alpha sees_little",
    ]);
}
