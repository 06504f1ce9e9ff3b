//! The task of a template: its start, its event loop, its end.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};

use super::event_loop::EventLoop;
use super::protocol::TemplateOrder;
use super::selector::TemplateKey;
use super::socket::{PacketDescriptors, TemplateSocket};
use super::templates::Templates;
use super::{Template, TemplateCommand, Tempo};
use crate::event::Event;

/// What the task of a template needs.
pub(super) struct TemplateContext {
    pub templates: Arc<Templates>,
    pub template: Arc<Template>,
    pub key: TemplateKey,
    pub socket: TemplateSocket,
    /// A file with the variables that its interpreter is not started with.
    pub variables: Option<PacketDescriptors>,
    /// They are sent as soon as the process runs.
    pub orders: Vec<TemplateOrder>,
    pub inbox: mpsc::UnboundedReceiver<TemplateCommand>,
    pub tempo: watch::Receiver<Tempo>,
    /// When the start was requested. A file that changes later may have been
    /// imported before or after the change.
    pub asked_at: SystemTime,
}

impl TemplateContext {
    /// Whether the template is to import a backend.
    pub fn has_backend(&self) -> bool {
        self.orders.iter().any(|order| matches!(order, TemplateOrder::Backend { .. }))
    }
}

/// Runs a template until its process has ended.
pub(super) async fn run(context: TemplateContext, command: Command) {
    let template = context.template.clone();
    // The task sends all events of its template, so that they come in order.
    let started = Event::TemplateStarting {
        template: template.id,
        interpreter: context.key.executable.clone(),
        backend: context.key.backend.clone(),
    };
    context.templates.notify(started).await;
    let program = context.templates.settings.program.clone();
    let place = program.path().to_owned();
    // If hookd cannot be unpacked again, the template fails and reports why.
    let _ = context.templates.pool.run(&[&place], move |_| program.mend()).await;
    match context.templates.spawner.spawn(command).await {
        Ok(child) => EventLoop::new(context, child).run().await,
        Err(error) => {
            let reason = format!("cannot start {}: {error}", context.key.executable.display());
            fail(&context.templates, &context.key, &template, &reason).await;
        }
    }
    template.ended.store(true, Ordering::Release);
    template.is_learning.send_replace(false);
    // The inbox is dropped with the commands that were not read, and their
    // senders get no answer.
}

/// Reports a template that ended, or could not start, without having been told
/// to end.
pub(super) async fn fail(templates: &Templates, key: &TemplateKey, template: &Arc<Template>, reason: &str) {
    let fallback = templates.selector().failed(key, template, reason);
    templates.notify(Event::TemplateFailed { template: template.id, reason: reason.to_owned() }).await;
    if let Some(reason) = fallback {
        let (interpreter, backend) = (key.executable.clone(), key.backend.clone());
        templates.notify(Event::TemplateFallback { interpreter, backend, reason }).await;
    }
}
