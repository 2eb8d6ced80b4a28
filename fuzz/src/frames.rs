//! A second, simpler reading of what PostgreSQL says, to compare the connection's with.

/// What one segment amounts to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The tag of the last statement that ended, if one did.
    pub last_tag: Vec<u8>,
    /// Whether there was an error.
    pub error: bool,
}

/// Reads `bytes` up to each ReadyForQuery, as far as whole messages go.
pub fn segments(mut bytes: &[u8]) -> Vec<Heard> {
    let (mut segments, mut heard) = (Vec::new(), Heard::default());
    while let Some((kind, body, rest)) = message(bytes) {
        bytes = rest;
        match kind {
            b'C' => {
                heard.last_tag = body
                    .split(|byte| *byte == 0)
                    .next()
                    .unwrap_or(body)
                    .to_vec()
            }
            b's' | b'I' => heard.last_tag.clear(),
            b'E' => heard.error = true,
            b'Z' => segments.push(std::mem::take(&mut heard)),
            _ => {}
        }
    }
    segments.push(heard);
    segments
}

fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    let rest = rest.get(4..)?;
    let (body, rest) = rest.split_at_checked(length.checked_sub(4)?)?;
    Some((*kind, body, rest))
}
