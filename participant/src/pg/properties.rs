//! Whatever a server says: nothing panics, nothing waits for ever, and nothing that is not a vote
//! or a commit is taken for one (facts 1).

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzzing;
use super::{Lost, Segment};

/// What a server may say, and what the reader must make of it.
#[derive(Debug, Clone)]
enum Said {
    Tag(String),
    Suspended,
    Empty,
    Error {
        severity: &'static str,
        sqlstate: String,
    },
    Warning(String),
    Row(Vec<Option<String>>),
    /// Something that means nothing here.
    Aside(u8),
}

fn tag() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("PREPARE TRANSACTION".to_owned()),
        4 => Just("COMMIT".to_owned()),
        2 => Just("ROLLBACK".to_owned()),
        1 => Just("COMMIT PREPARED".to_owned()),
        1 => "(UPDATE|prepare transaction|COMMIT |PREPARE)( [0-9])?",
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let sqlstate = || {
        prop_oneof![
            Just("25P01".to_owned()),
            Just("01000".to_owned()),
            "[0-9A-Z]{5}"
        ]
    };
    prop_oneof![
        5 => tag().prop_map(Said::Tag),
        1 => Just(Said::Suspended),
        1 => Just(Said::Empty),
        1 => sqlstate().prop_map(|sqlstate| Said::Error { severity: "ERROR", sqlstate }),
        1 => sqlstate().prop_map(Said::Warning),
        2 => vec(prop::option::of("[a-z]{0,9}"), 0..3).prop_map(Said::Row),
        2 => prop::sample::select(&b"12n"[..]).prop_map(Said::Aside),
    ]
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

fn complaint(kind: u8, severity: &str, sqlstate: &str) -> Vec<u8> {
    message(
        kind,
        format!("V{severity}\0C{sqlstate}\0Mno\0\0").as_bytes(),
    )
}

fn row(values: &[Option<String>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len())
        .expect("few")
        .to_be_bytes()
        .to_vec();
    for value in values {
        let length = value
            .as_ref()
            .map_or(-1, |text| i32::try_from(text.len()).expect("short"));
        body.extend(length.to_be_bytes());
        body.extend(value.iter().flat_map(|text| text.bytes()));
    }
    message(b'D', &body)
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Tag(tag) => message(b'C', format!("{tag}\0").as_bytes()),
            Self::Suspended => message(b's', &[]),
            Self::Empty => message(b'I', &[]),
            Self::Error { severity, sqlstate } => complaint(b'E', severity, sqlstate),
            Self::Warning(sqlstate) => complaint(b'N', "WARNING", sqlstate),
            Self::Row(values) => row(values),
            Self::Aside(kind) => message(*kind, &[]),
        }
    }
}

/// The last tag, or nothing after an error.
fn last_tag(segment: &[Said]) -> &str {
    if segment
        .iter()
        .any(|said| matches!(said, Said::Error { .. }))
    {
        return "";
    }
    let last = segment.iter().rev().find_map(|said| match said {
        Said::Tag(tag) => Some(tag.as_str()),
        Said::Suspended | Said::Empty => Some(""),
        _ => None,
    });
    last.unwrap_or("")
}

fn has_warning(segment: &[Said], state: &str) -> bool {
    segment
        .iter()
        .any(|said| matches!(said, Said::Warning(found) if found == state))
}

fn encode(segments: &[(Vec<Said>, u8)]) -> Vec<u8> {
    let segment = |(said, status): &(Vec<Said>, u8)| {
        let mut bytes = said.iter().flat_map(Said::bytes).collect::<Vec<_>>();
        bytes.extend(message(b'Z', &[*status]));
        bytes
    };
    segments.iter().flat_map(segment).collect()
}

fn segments() -> impl Strategy<Value = Vec<(Vec<Said>, u8)>> {
    vec((vec(said(), 0..5), prop::sample::select(&b"ITE"[..])), 1..4)
}

/// Reads `bytes` as the answer to `syncs` segments of two statements each.
fn read(bytes: &[u8], piece: usize, syncs: usize) -> Result<Vec<Segment>, Lost> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut connection = fuzzing::connection(bytes, piece);
    let result = runtime.block_on(connection.run(|pipeline| {
        for _ in 0..syncs {
            pipeline.run("a", &[]).run_limited("b", &[], 2, 16).sync();
        }
    }));
    assert!(
        result.is_ok() || !connection.is_reusable(),
        "lost, and used again"
    );
    result
}

proptest! {
    #[test]
    fn i3_only_the_tag_without_an_error_is_a_yes(said in segments(), piece in 1usize..40) {
        let read = read(&encode(&said), piece, said.len()).expect("all of it");
        prop_assert_eq!(read.len(), said.len());
        for (segment, (said, _)) in read.iter().zip(&said) {
            let tag = last_tag(said);
            prop_assert_eq!(segment.is_prepared(), tag == "PREPARE TRANSACTION");
            let is_committed = tag == "COMMIT" && !has_warning(said, "25P01");
            prop_assert_eq!(segment.is_committed(), is_committed);
            prop_assert_eq!(segment.may_not_be_replicated(), has_warning(said, "01000"));
        }
    }

    #[test]
    fn a_session_that_ends_says_yes_to_nothing(
        said in segments(),
        sqlstate in "[0-9A-Z]{5}",
        severity in prop::sample::select(&["FATAL", "PANIC"][..]),
    ) {
        let mut bytes = encode(&said[1..]);
        bytes.extend(Said::Error { severity, sqlstate }.bytes());
        let read = read(&bytes, 7, said.len()).expect("up to the error");
        let last = read.last().expect("the last segment");
        prop_assert!(!last.is_prepared() && !last.is_committed());
        prop_assert!(last.error.is_some());
    }

    #[test]
    fn damaged_bytes_end_in_an_answer_or_a_loss(
        said in segments(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
        piece in 1usize..40,
    ) {
        let mut bytes = encode(&said);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        let says = |tag: &str| bytes.windows(tag.len()).any(|part| part == tag.as_bytes());
        if let Ok(read) = read(&bytes, piece, said.len()) {
            prop_assert!(!read.iter().any(Segment::is_prepared) || says("PREPARE TRANSACTION\0"));
            prop_assert!(!read.iter().any(Segment::is_committed) || says("COMMIT\0"));
        }
    }

    #[test]
    fn noise_is_no_answer_and_no_way_in(bytes in vec(any::<u8>(), 0..200), piece in 1usize..40) {
        let _ = read(&bytes, piece, 2);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let opened = runtime.block_on(fuzzing::greet(&bytes, piece));
        prop_assert!(opened.is_err() || bytes.contains(&b'Z'));
    }
}
