//! Removes files on a thread of its own: on some file systems that takes as
//! long as all the rest of a request, and nobody is to wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;

use tokio::sync::oneshot;

/// The way to the thread, which ends with the last of these. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Remover {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Remove(Vec<PathBuf>),
    TellWhenDone(oneshot::Sender<()>),
}

impl Remover {
    pub fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        std::thread::Builder::new().name("hookpool-remover".into()).spawn(move || obey(inbox))?;
        Ok(Self { orders })
    }

    /// Removes these files some time. One that cannot be removed is left to
    /// whoever removes their folder.
    pub fn remove(&self, files: Vec<PathBuf>) {
        if !files.is_empty() {
            // The thread lives as long as this.
            let _ = self.orders.send(Order::Remove(files));
        }
    }

    /// Waits until everything is removed that was to be until now.
    pub async fn finished(&self) {
        let (tell, told) = oneshot::channel();
        if self.orders.send(Order::TellWhenDone(tell)).is_ok() {
            let _ = told.await;
        }
    }
}

fn obey(inbox: mpsc::Receiver<Order>) {
    for order in inbox {
        match order {
            Order::Remove(files) => {
                for file in files {
                    let _ = std::fs::remove_file(file);
                }
            }
            Order::TellWhenDone(tell) => drop(tell.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_to_be_removed_is_gone_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..100).map(|number| folder.path().join(number.to_string())).collect();
        paths.iter().for_each(|path| std::fs::write(path, "").unwrap());
        let remover = Remover::start().unwrap();
        remover.remove(vec![folder.path().join("none"), folder.path().to_owned()]);
        paths.into_iter().for_each(|path| remover.remove(vec![path]));
        remover.finished().await;
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
