//! The socket of a template. Each packet is one JSON object, and may carry
//! descriptors.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio_seqpacket::UnixSeqpacket;
use tokio_seqpacket::ancillary::AncillaryMessageWriter;

use super::protocol::{TemplateOrder, TemplateReport};

/// Descriptors that belong to an order. Of a worker: its ends of its pipes (input,
/// output and log), and a file with its variables if it has others than its template.
#[derive(Clone, Debug)]
pub(crate) struct PacketDescriptors(Vec<Arc<OwnedFd>>);

impl PacketDescriptors {
    pub fn new(descriptors: impl IntoIterator<Item = OwnedFd>) -> Self {
        Self(descriptors.into_iter().map(Arc::new).collect())
    }

    /// These, and another.
    pub fn and(&self, last: OwnedFd) -> Self {
        let mut all = self.clone();
        all.0.push(Arc::new(last));
        all
    }
}

/// An encoded order with its descriptors.
#[derive(Debug)]
pub(crate) struct Packet {
    bytes: Vec<u8>,
    descriptors: Option<PacketDescriptors>,
}

impl Packet {
    pub fn new(order: &TemplateOrder) -> Self {
        let bytes = serde_json::to_vec(order).expect("orders are plain data");
        Self { bytes, descriptors: None }
    }

    pub fn with(mut self, descriptors: PacketDescriptors) -> Self {
        self.descriptors = Some(descriptors);
        self
    }
}

/// What was received through the socket.
#[derive(Debug)]
pub(crate) enum Received {
    Report(TemplateReport),
    /// A packet that is no report: its beginning, and the reason.
    Invalid(String),
    End,
}

/// The supervisor's end of the socket.
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
    /// In bytes. Packets of templates have 64 KiB at most.
    const LARGEST_PACKET: usize = 256 * 1024;

    /// The supervisor's end, and the template's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixSeqpacket::pair()?;
        let socket = Arc::new(ours);
        let buffer = vec![0; Self::LARGEST_PACKET].into_boxed_slice();
        let sender = PacketSender { socket: socket.clone() };
        Ok((Self { sender, receiver: PacketReceiver { socket, buffer } }, theirs.into()))
    }

    /// Both halves, to send and receive at the same time.
    pub fn halves(&mut self) -> (&PacketSender, &mut PacketReceiver) {
        (&self.sender, &mut self.receiver)
    }
}

impl PacketSender {
    /// Sends a packet. Cancel-safe: a packet is sent whole or not at all.
    pub async fn send(&self, packet: &Packet) -> io::Result<()> {
        let mut space = [0; 64];
        let mut ancillary = AncillaryMessageWriter::new(&mut space);
        if let Some(descriptors) = &packet.descriptors {
            ancillary.add_fds(descriptors.0.iter().map(|descriptor| descriptor.as_fd()))?;
        }
        let bytes = [IoSlice::new(&packet.bytes)];
        self.socket.send_vectored_with_ancillary(&bytes, &mut ancillary).await.map(|_| ())
    }
}

impl PacketReceiver {
    /// Receives the next packet. Cancel-safe: a packet is taken whole or not at
    /// all.
    pub async fn receive(&mut self) -> Received {
        let info = match self.socket.recv(&mut self.buffer).await {
            // The template died before it had read all orders. The error is
            // returned once; the reports that it had sent follow (unix(7)).
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
                Received::Invalid(format!("{start}: {error}"))
            }
        }
    }
}
