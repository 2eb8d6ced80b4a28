//! What the fuzz targets share.

pub mod engine;
pub mod frames;
pub mod round_trip;

/// Runs a future to its end on this thread.
///
/// # Panics
/// If there is no runtime to be had.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
