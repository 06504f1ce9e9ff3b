//! Takes and returns tokens as hooks start and end.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hookpool_supervisor::{Event, Events, RequestId};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::Notify;

use super::account::{Account, Settlement};
use super::fifo::{CAPACITY, Fifo};

/// Shared by the counters and the task that collects owed tokens. The lock is held
/// only for system calls that do not block.
#[derive(Debug)]
pub(super) struct Server {
    fifo: Fifo,
    account: Mutex<Account>,
    /// Notified when a token is owed.
    debt: Notify,
}

impl Server {
    /// Puts `tokens` into the fifo.
    pub fn new(fifo: Fifo, tokens: usize) -> Self {
        fifo.put(tokens);
        Self { fifo, account: Mutex::new(Account::new(tokens)), debt: Notify::new() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hook_started(&self) {
        let mut account = self.account();
        account.hook_started();
        // One is enough: if tokens were owed before, none is free.
        account.took(self.fifo.take(1));
        if account.owed() > 0 {
            self.debt.notify_one();
        }
    }

    fn hook_ended(&self) {
        let mut account = self.account();
        match account.hook_ended() {
            Settlement::DebtPaid => {}
            Settlement::GiveBack => self.fifo.put(1),
            Settlement::Refill(tokens) => self.refill(tokens),
        }
    }

    fn set_tokens(&self, tokens: usize) {
        let mut account = self.account();
        let more = account.set_tokens(tokens.min(CAPACITY));
        self.fifo.put(more);
        let owed = account.owed();
        account.took(self.fifo.take(owed));
        if account.owed() > 0 {
            self.debt.notify_one();
        }
    }

    fn refill(&self, tokens: usize) {
        let found = self.fifo.refill(tokens);
        tracing::trace!(found, tokens, "no hook runs: the jobserver's tokens were counted and completed");
    }

    /// Takes owed tokens as they come back; returns only with an error. When the
    /// receiver is readable, a client may still be faster to take the token.
    pub async fn collect_debts(&self, receiver: Receiver) -> io::Result<Infallible> {
        loop {
            self.debt.notified().await;
            while self.account().owed() > 0 {
                receiver.readable().await?;
                self.collect(&receiver)?;
            }
        }
    }

    fn collect(&self, receiver: &Receiver) -> io::Result<()> {
        let mut account = self.account();
        let mut tokens = vec![0; account.owed()];
        match receiver.try_read(&mut tokens) {
            Ok(taken) => account.took(taken),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Counts the running hooks of one supervisor. The numbers of requests are unique in
/// that supervisor only.
#[derive(Debug)]
pub(super) struct HookCounter {
    server: Arc<Server>,
    running: HashSet<RequestId>,
}

impl HookCounter {
    pub fn new(server: Arc<Server>) -> Self {
        Self { server, running: HashSet::new() }
    }

    pub fn wants(event: &Event) -> bool {
        matches!(event, Event::RequestAccepted { .. } | Event::RequestFinished { .. } | Event::LimitsChanged { .. })
    }

    /// Counts until the supervisor ends.
    pub async fn run(mut self, mut events: Events) {
        while let Some(event) = events.next().await {
            self.count(&event.event);
        }
        self.forget_all();
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::RequestAccepted { request, .. } if self.running.insert(*request) => self.server.hook_started(),
            // Requests may finish before their hook has started.
            Event::RequestFinished { request, .. } if self.running.remove(request) => self.server.hook_ended(),
            Event::LimitsChanged { limits } => self.server.set_tokens(limits.jobs.get()),
            // Which hooks run is not known. Those that start from now on are counted.
            Event::EventsLost { .. } => self.forget_all(),
            _ => {}
        }
    }

    fn forget_all(&mut self) {
        for _ in self.running.drain() {
            self.server.hook_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Bench {
        server: Arc<Server>,
        receiver: Option<Receiver>,
        /// The client's end of the fifo.
        client: std::fs::File,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(tokens: usize) -> Self {
            let parent = tempfile::tempdir().unwrap();
            let (fifo, folder, path) = Fifo::make(parent.path()).unwrap();
            drop(folder.keep());
            let receiver = Some(Fifo::receiver(&path).unwrap());
            let client = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            Self { server: Arc::new(Server::new(fifo, tokens)), receiver, client, _folder: parent }
        }

        fn take_as_client(&self) {
            use std::io::Read;
            (&self.client).read_exact(&mut [0]).unwrap();
        }

        fn put_as_client(&self) {
            use std::io::Write;
            (&self.client).write_all(b"+").unwrap();
        }

        fn free(&self) -> usize {
            let fifo = &self.server.fifo;
            let free = fifo.take(100);
            if free > 0 {
                fifo.put(free);
            }
            free
        }
    }

    #[tokio::test]
    async fn a_debt_is_paid_as_soon_as_a_token_comes_back() {
        let mut bench = Bench::new(2);
        let (server, receiver) = (bench.server.clone(), bench.receiver.take().unwrap());
        let collector = tokio::spawn(async move { server.collect_debts(receiver).await });
        bench.server.hook_started();
        bench.take_as_client();
        bench.server.hook_started();
        bench.server.hook_started();
        assert_eq!(bench.server.account().owed(), 2);
        for owed in [1, 0] {
            bench.put_as_client();
            let paid = async {
                while bench.server.account().owed() > owed {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), paid).await.expect("the debt is paid");
            assert_eq!(bench.free(), 0);
        }
        // Without debts, the next token is left to the clients.
        bench.put_as_client();
        tokio::task::yield_now().await;
        assert_eq!(bench.free(), 1);
        collector.abort();
    }

    #[tokio::test]
    async fn the_number_of_tokens_changes() {
        let bench = Bench::new(1);
        bench.server.hook_started();
        bench.server.set_tokens(3);
        assert_eq!(bench.free(), 2);
        bench.take_as_client();
        bench.server.set_tokens(1);
        assert_eq!((bench.free(), bench.server.account().owed()), (0, 1));
        bench.server.hook_ended();
        assert_eq!(bench.free(), 1);
        bench.server.set_tokens(2);
        assert_eq!(bench.free(), 2);
        bench.server.set_tokens(1);
        assert_eq!((bench.free(), bench.server.account().owed()), (1, 0));
    }

    #[tokio::test]
    async fn the_end_of_the_last_hook_completes_the_tokens() {
        let bench = Bench::new(3);
        bench.server.hook_started();
        bench.take_as_client();
        bench.server.hook_started();
        assert_eq!(bench.free(), 0);
        bench.server.hook_ended();
        assert_eq!(bench.free(), 1);
        // The client was killed.
        bench.server.hook_ended();
        assert_eq!(bench.free(), 3);
    }
}
