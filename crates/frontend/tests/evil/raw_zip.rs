//! Zip files, byte by byte (PKWARE's APPNOTE, 4.3).

/// An entry with any name, flags, method and mode, valid or not. Its content is not compressed.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub content: Vec<u8>,
    pub flags: u16,
    pub method: u16,
    pub mode: u32,
    /// The offset of the entry in the central directory; `None` for the right one.
    pub offset: Option<u32>,
}

pub fn entry(name: &str, content: &str) -> Entry {
    let (name, content) = (name.as_bytes().to_vec(), content.as_bytes().to_vec());
    Entry { name, content, flags: 0, method: 0, mode: 0o100_644, offset: None }
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let start = bytes.len() as u32;
        let common = entry.common();
        bytes.extend([b"PK\x03\x04", &20u16.to_le_bytes()[..], &common, &entry.name, &entry.content].concat());
        // Version made by: 2.0 on Unix; version needed: 2.0.
        directory.extend([b"PK\x01\x02", &(3u16 << 8 | 20).to_le_bytes()[..], &20u16.to_le_bytes(), &common].concat());
        // No comment, disk 0, no internal attributes.
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(entry.offset.unwrap_or(start).to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = bytes.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend(&directory);
    bytes.extend([b"PK\x05\x06", &[0; 4][..], &count, &count].concat());
    bytes.extend([directory.len() as u32, start].map(u32::to_le_bytes).concat());
    bytes.extend([0; 2]);
    bytes
}

impl Entry {
    /// The fields of both headers: flags, method, time, date, checksum, sizes, lengths of names.
    fn common(&self) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(&self.content);
        // 2001-09-09 01:46:40.
        let (time, date) = (1u16 << 11 | 46 << 5 | 20, 21u16 << 9 | 9 << 5 | 9);
        let size = self.content.len() as u32;
        let mut bytes = [self.flags, self.method, time, date].map(u16::to_le_bytes).concat();
        bytes.extend([crc.sum(), size, size].map(u32::to_le_bytes).concat());
        bytes.extend([self.name.len() as u16, 0].map(u16::to_le_bytes).concat());
        bytes
    }
}
