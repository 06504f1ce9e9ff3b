//! Work on files, off the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use hookpool_supervisor::unblock;

/// As [`unblock`], for work that looks at a flag all the time, which is set when this
/// is dropped.
pub(crate) async fn unblock_until_dropped<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> T {
    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let cancel = Arc::new(AtomicBool::new(false));
    let _set = SetOnDrop(cancel.clone());
    unblock(move || work(&cancel)).await
}
