//! Where in a trace something happens: the `traceparent` of the W3C.

use std::fmt;
use std::str::FromStr;

use rand::RngCore as _;

/// Number of a trace, for all who take part in it.
pub type TraceId = [u8; 16];

/// Number of a span in its trace. All zeros: none.
pub type SpanId = [u8; 8];

/// A span that others can have as their parent. Only sampled ones are ever made or read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span; none at the root of a trace that begins here.
    pub span: SpanId,
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traceparent {
    /// Spans of this trace are wanted.
    Sampled(TraceContext),
    /// They are not.
    NotSampled,
}

/// It is no `traceparent`. A caller who sends one is not refused: the standard wants a new trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of the W3C's Trace Context")]
pub struct MalformedTraceparent;

impl TraceContext {
    /// The root of a new trace.
    pub fn root() -> Self {
        Self {
            trace: some_number(),
            span: SpanId::default(),
        }
    }

    /// A new span below this one.
    pub fn child(&self) -> Self {
        Self {
            trace: self.trace,
            span: some_number(),
        }
    }
}

/// All zeros are no number.
fn some_number<const N: usize>() -> [u8; N] {
    loop {
        let mut bytes = [0; N];
        rand::rng().fill_bytes(&mut bytes);
        if bytes != [0; N] {
            return bytes;
        }
    }
}

/// As <https://www.w3.org/TR/trace-context/#traceparent-header> wants it: version 00 has this
/// length, later ones may go on behind a hyphen; hexadecimal digits are in lower case.
impl FromStr for Traceparent {
    type Err = MalformedTraceparent;

    fn from_str(text: &str) -> Result<Self, MalformedTraceparent> {
        const LEN: usize = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".len();
        let bytes = text.as_bytes();
        let (known, rest) = bytes.split_at_checked(LEN).ok_or(MalformedTraceparent)?;
        let [version] = hex(&known[..2])?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let has_hyphens = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        if !ends || !has_hyphens {
            return Err(MalformedTraceparent);
        }
        let context = TraceContext {
            trace: hex(&known[3..35])?,
            span: hex(&known[36..52])?,
        };
        let [flags] = hex(&known[53..])?;
        if context.trace == TraceId::default() || context.span == SpanId::default() {
            return Err(MalformedTraceparent);
        }
        Ok(match flags & 1 {
            1 => Self::Sampled(context),
            _ => Self::NotSampled,
        })
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], MalformedTraceparent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(MalformedTraceparent),
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    Ok(bytes)
}

/// The `traceparent` for whoever works below this span.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-01")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let Ok(Traceparent::Sampled(context)) = GOOD.parse() else {
            panic!("it is good")
        };
        assert_eq!(context.to_string(), GOOD);
        let not_sampled = GOOD.replace("-01", "-00");
        assert_eq!(not_sampled.parse(), Ok(Traceparent::NotSampled));
        // Other flags are nobody's business; later versions may say more.
        for good in [
            GOOD.replace("-01", "-ff"),
            GOOD.replacen("00-", "01-", 1),
            GOOD.replacen("00-", "cc-", 1) + "-what-comes",
        ] {
            assert_eq!(good.parse(), Ok(Traceparent::Sampled(context)), "{good}");
        }
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replacen("00-", "ff-", 1),
            format!("{GOOD}-more"),
            GOOD.replacen("00-", "01-", 1) + "x",
            GOOD.replace('-', "_"),
            GOOD[..54].to_owned(),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
        ] {
            assert_eq!(
                bad.parse::<Traceparent>(),
                Err(MalformedTraceparent),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_child_has_its_parents_trace_and_a_number_of_its_own() {
        let root = TraceContext::root();
        let (one, other) = (root.child(), root.child());
        assert_eq!((one.trace, other.trace), (root.trace, root.trace));
        assert_ne!(one.span, other.span);
        assert_ne!(TraceContext::root().trace, root.trace);
        assert_eq!(one.to_string().parse(), Ok(Traceparent::Sampled(one)));
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text in ".{0,80}") {
            let _ = text.parse::<Traceparent>();
        }
    }
}
