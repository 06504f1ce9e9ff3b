//! What a template says, and what follows.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::super::message::ForkFailure;
use super::super::process::ForkedProcess;
use super::super::socket::Packet;
use super::super::wire::{Imported, LoadedModule, Order, Preload, Refused, Report, Started, watched_folders};
use super::Actor;
use crate::event::Event;
use crate::interpreter::Watched;

impl Actor {
    pub(super) async fn report(&mut self, report: Report) {
        match report {
            Report::Started { started } => self.started(started).await,
            Report::Importing { importing } => self.importing = Some(importing),
            Report::Imported(imported) => self.imported(imported).await,
            Report::Refused(refused) => self.refused(refused).await,
            Report::Forked { forked, pid } => self.forked(forked, pid).await,
            Report::NotForked { not_forked, reason } => {
                if let Some(fork) = self.forks.remove(&not_forked) {
                    let _ = fork.reply.send(Err(ForkFailure { reason }));
                }
            }
            Report::Reaped { reaped, status } => {
                if let Some(reap) = self.reaps.remove(&reaped)
                    && reap.reply.send(status).is_err()
                {
                    // Whoever had the worker has dropped it.
                    self.life.templates.spawner().forget(reaped).await;
                }
            }
            Report::Killed { killed } => {
                for pid in killed {
                    self.notify(Event::OrphanKilled { pid }).await;
                }
            }
            Report::Idle { idle } => {
                // Only now, so that workers are replaced once for all of it.
                self.life.template.learned_version.store(self.learned, Ordering::Relaxed);
                self.life.template.is_learning.send_replace(false);
                self.life.templates.save().await;
                self.notify(Event::TemplateLearned { template: self.life.template.id, modules: idle }).await;
            }
        }
    }

    async fn started(&mut self, started: Started) {
        self.modules += started.modules.len();
        self.watch(&started.modules, &started.folders).await;
        if !self.life.has_backend() && !started.more {
            self.backend_is_done().await;
        }
    }

    async fn watch(&self, modules: &[LoadedModule], folders: &[(PathBuf, Option<i64>)]) {
        let (place, folders) = (&self.life.key.executable, folders.to_owned());
        let look = move |_: &_| watched_folders(&folders);
        let looked = self.life.templates.pool().run(&[place], look).await;
        // What does not answer now is asked again before the next hook.
        let (archives, folders): (Vec<_>, Vec<_>) = looked.unwrap_or_default().into_iter().partition(Watched::is_file);
        let freshness = &self.life.template.freshness;
        let files = modules.iter().map(LoadedModule::watched).chain(archives);
        freshness.watch(files.collect(), self.life.asked_at);
        // A folder's time changes with the bytecode that its first import
        // leaves in it, and says no more than that.
        freshness.watch_as_it_is(folders);
    }

    async fn imported(&mut self, imported: Imported) {
        self.modules += imported.modules.len();
        // What was there already is no reason to replace a worker.
        self.learned += u64::from(imported.imported == Preload::Learned && !imported.modules.is_empty());
        self.watch(&imported.modules, &imported.folders).await;
        if imported.more {
            return;
        }
        self.importing = None;
        if imported.imported == Preload::Backend {
            self.backend_is_done().await;
        }
    }

    async fn refused(&mut self, refused: Refused) {
        self.importing = None;
        let Refused { refused: what, reason, spoilt } = refused;
        if spoilt {
            // Its workers go on; the next are forked from another.
            self.retired = true;
            self.life.template.is_learning.send_replace(false);
            let mut book = self.life.templates.book();
            match what {
                Preload::Backend => book.refuse_backend(&self.life.key),
                Preload::Learned => book.refuse_learned(&self.life.key),
            }
            book.retire(&self.life.template);
        }
        self.refused_event(what, reason).await;
        if what == Preload::Backend {
            self.backend_is_done().await;
        }
    }

    async fn backend_is_done(&mut self) {
        if !self.ready {
            self.ready = true;
            let (template, modules) = (self.life.template.id, self.modules);
            let after = self.started_at.elapsed();
            self.notify(Event::TemplateReady { template, pid: self.pid.unwrap_or(0), modules, after }).await;
        }
    }

    async fn forked(&mut self, fork: u64, pid: u32) {
        let template = &self.life.template;
        // While the template lives, nobody else can have reaped the worker.
        let process = match self.child.try_wait() {
            Ok(None) => ForkedProcess::open(pid, template.clone(), self.learned)
                .map_err(|error| format!("its worker cannot be watched: pidfd_open: {error}")),
            _ => Err("it ended".to_owned()),
        };
        let Some(pending) = self.forks.remove(&fork) else { return };
        match process {
            Ok(process) => {
                // Or it would be taken for an orphan if its template died.
                self.life.templates.spawner().adopt(pid).await;
                // A caller that is gone drops it, which kills it.
                let _ = pending.reply.send(Ok(process));
            }
            Err(reason) => {
                // Its input has no other end: it ends by itself.
                self.waiting.push_back(Packet::new(&Order::Reap { reap: pid }));
                self.log_line(&reason).await;
                let _ = pending.reply.send(Err(ForkFailure { reason }));
            }
        }
    }
}
