//! The socket of a template: one JSON object a packet, with descriptors.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::AncillaryMessageWriter;

use super::wire::{Order, Report};

/// The ends of the pipes that a worker gets: its input, output and log.
#[derive(Clone, Debug)]
pub(crate) struct WorkerDescriptors(pub Arc<[OwnedFd; 3]>);

/// An order, ready to be sent.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    descriptors: Option<WorkerDescriptors>,
}

impl Packet {
    pub fn new(order: &Order) -> Self {
        let bytes = serde_json::to_vec(order).expect("orders are plain data");
        Self { bytes, descriptors: None }
    }

    pub fn with(mut self, descriptors: WorkerDescriptors) -> Self {
        self.descriptors = Some(descriptors);
        self
    }
}

/// What came through the socket.
#[derive(Debug)]
pub(crate) enum Received {
    Report(Report),
    /// Something that is no report; its beginning.
    Nonsense(String),
    End,
}

pub(crate) struct TemplateSocket {
    sender: PacketSender,
    receiver: PacketReceiver,
}

pub(crate) struct PacketSender {
    socket: Arc<UnixSeqpacket>,
}

pub(crate) struct PacketReceiver {
    socket: Arc<UnixSeqpacket>,
    buffer: Box<[u8]>,
}

impl TemplateSocket {
    /// Larger than any packet of a template, which are of 64 KiB at most.
    const LARGEST_PACKET: usize = 256 * 1024;

    /// Our end, and the one for the template.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixSeqpacket::pair()?;
        let socket = Arc::new(ours);
        let buffer = vec![0; Self::LARGEST_PACKET].into_boxed_slice();
        let sender = PacketSender { socket: socket.clone() };
        Ok((Self { sender, receiver: PacketReceiver { socket, buffer } }, theirs.into()))
    }

    /// For sending and receiving at the same time.
    pub fn halves(&mut self) -> (&PacketSender, &mut PacketReceiver) {
        (&self.sender, &mut self.receiver)
    }
}

impl PacketSender {
    /// Sends a packet, whole or not at all: cancel-safe.
    pub async fn send(&self, packet: &Packet) -> io::Result<()> {
        let mut space = [0; 64];
        let mut ancillary = AncillaryMessageWriter::new(&mut space);
        if let Some(descriptors) = &packet.descriptors {
            ancillary.add_fds(descriptors.0.iter().map(AsFd::as_fd))?;
        }
        let bytes = [IoSlice::new(&packet.bytes)];
        self.socket.send_vectored_with_ancillary(&bytes, &mut ancillary).await.map(|_| ())
    }
}

impl PacketReceiver {
    /// The next packet. Cancel-safe: a packet is taken whole or not at all.
    pub async fn receive(&mut self) -> Received {
        let info = match self.socket.recv(&mut self.buffer).await {
            // It died before it had read all that it was told. That comes
            // first, once, and what it had said itself comes after it: unix(7).
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.socket.recv(&mut self.buffer).await,
            result => result,
        };
        let Ok(info) = info else { return Received::End };
        let bytes = &self.buffer[..info.bytes_read()];
        if bytes.is_empty() {
            return Received::End;
        }
        match serde_json::from_slice(bytes) {
            Ok(report) => Received::Report(report),
            Err(error) => {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
                Received::Nonsense(format!("{start}: {error}"))
            }
        }
    }
}
