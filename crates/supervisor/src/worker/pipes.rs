//! The pipes of a worker, and the end of its log.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// The worker's input. It is buffered in memory (one request at most, and a few
/// control lines), so that a worker that is slow to read does not keep this
/// process from reading its output.
pub(crate) struct Input {
    pipe: Option<pipe::Sender>,
    waiting: Vec<u8>,
    written: usize,
}

impl Input {
    pub fn new(pipe: pipe::Sender) -> Self {
        Self { pipe: Some(pipe), waiting: Vec::new(), written: 0 }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.pipe.is_some() {
            self.waiting.extend_from_slice(bytes);
        }
    }

    /// Whether everything is written.
    pub fn is_flushed(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn close(&mut self) {
        self.pipe = None;
        self.waiting = Vec::new();
        self.written = 0;
    }

    /// Writes a part of the buffer; pends while it is empty. Cancel-safe, as
    /// `write` is.
    pub async fn make_progress(&mut self) {
        let Some(pipe) = self.pipe.as_mut().filter(|_| self.written < self.waiting.len()) else {
            return std::future::pending().await;
        };
        match pipe.write(&self.waiting[self.written..]).await {
            Ok(count) => {
                self.written += count;
                if self.written == self.waiting.len() {
                    // Frees the memory of a large request.
                    self.waiting = Vec::new();
                    self.written = 0;
                }
            }
            // The worker has closed its end. Its output and its exit will tell why.
            Err(_) => self.close(),
        }
    }
}

/// One of the worker's outputs.
pub(crate) struct Output<R> {
    pipe: Option<R>,
    buffer: Box<[u8]>,
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub fn new(pipe: R, buffer: usize) -> Self {
        Self { pipe: Some(pipe), buffer: vec![0; buffer].into_boxed_slice() }
    }

    /// Returns the next bytes; none at the end; pends after the end. Cancel-safe,
    /// as `read` is.
    pub async fn next(&mut self) -> &[u8] {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let count = loop {
            match pipe.read(&mut self.buffer).await {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break 0,
            }
        };
        if count == 0 {
            self.pipe = None;
        }
        &self.buffer[..count]
    }
}

impl<R: AsFd> Output<R> {
    /// The default capacity of a pipe, in bytes.
    const PIPE_CAPACITY: usize = 64 * 1024;

    /// Reads what the pipe contains now.
    ///
    /// Reads the descriptor itself: the runtime may not yet know of bytes that a
    /// process wrote just before it ended. Bounded, because a descendant that
    /// holds the pipe might write for ever.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let Some(pipe) = &self.pipe else { return rest };
        while rest.len() < Self::PIPE_CAPACITY {
            match nix::unistd::read(pipe.as_fd(), &mut self.buffer) {
                Ok(0) => break,
                Ok(count) => rest.extend_from_slice(&self.buffer[..count]),
                Err(nix::errno::Errno::EINTR) => {}
                // It is empty (`EAGAIN`): tokio's pipes do not block.
                Err(_) => break,
            }
        }
        rest
    }
}

/// The end of what a worker writes beside the protocol, such as the messages of
/// an interpreter that cannot start.
#[derive(Default)]
pub(super) struct LogTail {
    text: Vec<u8>,
}

impl LogTail {
    const LIMIT: usize = 4 * 1024;

    /// Adds bytes, and returns their lines.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.text.extend_from_slice(bytes);
        let excess = self.text.len().saturating_sub(Self::LIMIT);
        self.text.drain(..excess);
        let text = String::from_utf8_lossy(bytes);
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    }

    /// Adds a line that came on the protocol's pipe before the worker was ready.
    pub fn push_noise(&mut self, line: &[u8]) -> Vec<String> {
        if line.is_empty() || line.starts_with(b"EXPECT ") || line.starts_with(b"DEBUG ") {
            return Vec::new();
        }
        self.push(&[line, b"\n"].concat())
    }

    /// The reason of an end, with the worker's last words where there are any.
    pub fn explain(&self, reason: String) -> String {
        match String::from_utf8_lossy(&self.text).trim() {
            "" => reason,
            log => format!("{reason}; its last output: {log}"),
        }
    }
}
