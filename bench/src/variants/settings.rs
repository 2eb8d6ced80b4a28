//! Gavel's limits, where the measurements need others than the defaults; the same for all shapes.

use anyhow::Context as _;
use gavel_protocol::Limits;

/// As in `gavel.toml`. One lane takes ten thousand clients (`memory`), and as many interactive
/// transactions are open as clients ask for, on as many connections as `2pc-best` may have.
pub const LIMITS: &str = "\
lane_depth_max = 20000
interactive_max = 1024
interactive_connections = 64
";

/// The same for Gavel in this process.
pub fn limits() -> anyhow::Result<Limits> {
    let limits: Limits = toml::from_str(LIMITS).context("the limits are not limits")?;
    limits.validate()?;
    Ok(limits)
}
