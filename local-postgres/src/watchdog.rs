//! Stops a server whose owner has vanished.
//!
//! The watchdog is a shell that reads a pipe whose other end only the owner holds. The kernel closes
//! that end however the owner dies, so end of file means that nobody is left to stop the server.
//! (`PR_SET_PDEATHSIG` would need unsafe code and exists on Linux only.)
//!
//! It acts only if `postmaster.pid` still names the process it was told to watch: a new owner may
//! already have started the same folder again.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use crate::Error;
use crate::account::Account;

/// A stopped postmaster takes no SIGQUIT, hence SIGCONT first; it then ends stopped backends itself.
const SCRIPT: &str = r#"
pid=
while read -r word value; do
    case $word in
        watch) pid=$value ;;
        release) exit 0 ;;
    esac
done
[ -n "$pid" ] || exit 0
{ read -r current <"$1/postmaster.pid"; } 2>/dev/null || exit 0
[ "$current" = "$pid" ] || exit 0
kill -CONT "$pid"
kill -QUIT "$pid"
"#;

/// The watchdog process of one server; dropping it releases the server.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    pipe: ChildStdin,
}

impl Watchdog {
    /// Starts watching nothing yet.
    pub(crate) fn start(account: &Account, data: &Path) -> Result<Self, Error> {
        let shell = Path::new("/bin/sh");
        let mut command = account.command(shell);
        command.args(["-c", SCRIPT, "postgres-watchdog"]).arg(data);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = command.spawn().map_err(Error::io("run", shell))?;
        let pipe = process.stdin.take().expect("stdin was asked to be piped");
        Ok(Self { process, pipe })
    }

    /// From now on the owner's end also ends the postmaster `pid`.
    pub(crate) fn watch(&mut self, pid: i32) -> Result<(), Error> {
        self.tell(&format!("watch {pid}\n"))
    }

    fn tell(&mut self, line: &str) -> Result<(), Error> {
        self.pipe
            .write_all(line.as_bytes())
            .map_err(Error::io("write to", Path::new("the watchdog's pipe")))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // If it cannot be told, it is dead already, and either way it must not stay a zombie.
        let _dead_already = self.tell("release\n");
        let _reaped = self.process.wait();
    }
}
