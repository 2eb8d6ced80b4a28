//! Named crash points: places where a test kills this process with SIGKILL.
//!
//! They exist only with the feature `crash-points`; without it [`crash_point!`] compiles to
//! nothing. `GAVEL_CRASH_POINT=name` kills at the first hit of `name`, `name@3` at the third.
//! `GAVEL_CRASH_LOG=path` gets a line for every hit of every point, so that a test can say how
//! often its fault struck at the intended step.
//!
//! [`crash_point!`]: crate::crash_point

/// Marks a place at which a test may kill this process.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::hit($name);
    };
}

/// Counts a hit, and dies if this is the one.
#[cfg(feature = "crash-points")]
pub fn hit(name: &str) {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    static HITS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
    let count = {
        let mut hits = HITS.lock().expect("nothing panics while holding this lock");
        let count = hits.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    };
    let armed = std::env::var("GAVEL_CRASH_POINT").unwrap_or_default();
    let (armed_name, armed_count) = armed.split_once('@').unwrap_or((&armed, "1"));
    let dies = armed_name == name && armed_count.parse() == Ok(count);
    log(name, dies);
    if dies {
        let myself = nix::unistd::Pid::this();
        let _ = nix::sys::signal::kill(myself, nix::sys::signal::Signal::SIGKILL);
        // The signal is delivered before this returns; if it were not, going on would lie.
        std::process::abort();
    }
}

#[cfg(feature = "crash-points")]
fn log(name: &str, dies: bool) {
    use std::io::Write;
    let Ok(path) = std::env::var("GAVEL_CRASH_LOG") else {
        return;
    };
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    if let Ok(mut file) = opened {
        // One write: threads and processes append to the same file.
        let line = format!("{} {name}\n", if dies { "killed" } else { "hit" });
        let _ = file.write_all(line.as_bytes());
    }
}
