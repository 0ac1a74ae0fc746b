//! The runtime of the targets: one thread, and time that passes at once where nothing else is left to do.

use std::cell::OnceCell;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| {
        let build = || Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.get_or_init(build).block_on(future)
    })
}
