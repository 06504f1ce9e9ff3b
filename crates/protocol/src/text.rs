//! Bytes and text: quoting for people, and the escaping of plain values.

/// Longest excerpt of somebody else's bytes in an error, in characters.
const EXCERPT_CHARS: usize = 200;

/// The start of `bytes` as text, for an error message.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    // A character has at most four bytes, so a cut here is never seen in the characters taken.
    let head = &bytes[..bytes.len().min(4 * EXCERPT_CHARS + 4)];
    let text = String::from_utf8_lossy(head);
    let mut excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

/// Text of which undecodable bytes are replaced.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Appends a plain value, a newline in it as the two characters `\n`.
///
/// This keeps the framing whatever the value; as a backslash is not escaped, it cannot be undone.
pub(crate) fn push_plain(out: &mut Vec<u8>, value: &[u8]) {
    for (index, piece) in value.split(|&byte| byte == b'\n').enumerate() {
        if index > 0 {
            out.extend_from_slice(br"\n");
        }
        out.extend_from_slice(piece);
    }
}
