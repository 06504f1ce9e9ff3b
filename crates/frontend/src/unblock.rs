//! Work on files, off the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use hookpool_supervisor::unblock;

/// As [`unblock`], for work that looks at a flag all the time, which is set when
/// `stop` is done, or when this is dropped. `None` where it was stopped.
pub(crate) async fn unblock_until<T: Send + 'static>(
    stop: impl Future<Output = ()>,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Option<T> {
    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let cancel = Arc::new(AtomicBool::new(false));
    let set = SetOnDrop(cancel.clone());
    let mut working = std::pin::pin!(unblock(move || work(&cancel)));
    tokio::select! {
        biased;
        result = &mut working => Some(result),
        () = stop => {
            drop(set);
            // It cleans up behind itself.
            working.await;
            None
        }
    }
}
