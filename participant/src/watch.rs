//! Watches the shard for those who watch Gavel: sets the gauges that no event sets.
//!
//! Failure model: a database that is down leaves the gauges of its vitals as they were; that it is
//! down shows in the time of the last successful scan.

use std::sync::Arc;
use std::time::Duration;

use crate::attendance::Drivers;
use crate::metrics::Meters;
use crate::service_pool::{ServiceError, ServicePool};
use crate::shard::Shard;

/// How often the gauges of this process are set.
const EVERY: Duration = Duration::from_secs(1);

/// How many times as seldom the database is asked.
const VITALS_EVERY: u32 = 5;

/// The running watch. Dropping it stops it.
pub(crate) struct WatchTask(tokio::task::JoinHandle<()>);

impl Drop for WatchTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to watch.
pub(crate) fn start(shard: Arc<Shard>, pool: ServicePool, drivers: Drivers) -> WatchTask {
    WatchTask(tokio::spawn(async move {
        let mut interval = tokio::time::interval(EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in (0..VITALS_EVERY).cycle() {
            interval.tick().await;
            shard.meters.drivers.set(drivers.attending() as f64);
            shard.meter_pools();
            shard.meters.pool("service", pool.status());
            if tick == 0
                && let Err(error) = ask(&pool, &shard.meters).await
            {
                tracing::debug!(detail = error.detail(), "no vitals");
            }
        }
    }))
}

/// Asks the database, and sets the gauges.
pub(crate) async fn ask(pool: &ServicePool, meters: &Meters) -> Result<(), ServiceError> {
    let sql = "SELECT damage_open, slots_used, slots, foreign_oldest_seconds FROM gavel.vitals()";
    let rows = pool.session().await?.query(sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let vitals = &meters.vitals;
    vitals.damage_open.set(row.get::<_, i64>(0) as f64);
    vitals.slots_used.set(row.get::<_, i64>(1) as f64);
    vitals.slots.set(f64::from(row.get::<_, i32>(2)));
    vitals.foreign_oldest_seconds.set(row.get::<_, f64>(3));
    Ok(())
}
