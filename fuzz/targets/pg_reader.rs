//! What a server may say, to a connection that is opened and to one that runs a pipeline.
//!
//! The first byte chooses the pipeline, the second how the bytes arrive; the rest is the server.

#![no_main]

use gavel_fuzz::block_on;
use gavel_fuzz::frames::segments;
use gavel_participant::pg::{Pipeline, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, piece, server @ ..] = data else {
        return;
    };
    let piece = usize::from(*piece) + 1;
    if choice % 8 == 7 {
        let opened = block_on(fuzzing::greet(server, piece));
        assert!(
            opened.is_err() || server.contains(&b'Z'),
            "ready without a word"
        );
        return;
    }
    let mut connection = fuzzing::connection(server, piece);
    let result = block_on(connection.run(|pipeline| build(pipeline, choice % 8)));
    let Ok(read) = result else {
        assert!(!connection.is_reusable(), "used again after it was lost");
        return;
    };
    let heard = segments(server);
    for (segment, heard) in read.iter().zip(heard) {
        let tag_says = |tag: &str| heard.last_tag == tag.as_bytes() && !heard.error;
        assert!(!segment.is_prepared() || tag_says("PREPARE TRANSACTION"));
        assert!(!segment.is_committed() || tag_says("COMMIT"));
        assert_eq!(segment.error.is_some(), heard.error);
    }
});

/// The pipelines that the participant sends, in miniature.
fn build(pipeline: &mut Pipeline<'_>, choice: u8) {
    match choice {
        0 => drop(
            pipeline
                .simple("COMMIT PREPARED 'a'")
                .simple("COMMIT PREPARED 'b'"),
        ),
        1 => drop(pipeline.run_once("PREPARE TRANSACTION 'a'").sync()),
        2 => drop(pipeline.run("COMMIT", &[]).sync().simple("RESET ALL")),
        3 => drop(
            pipeline
                .run("BEGIN", &[])
                .run_limited("select $1", &[None], 2, 16)
                .sync(),
        ),
        4 => drop(
            pipeline
                .run_limited("a", &[], 0, 0)
                .sync()
                .run_limited("a", &[], 1, 8)
                .sync(),
        ),
        5 => drop(
            pipeline
                .run("a", &[])
                .run("b", &[])
                .sync()
                .run_once("COMMIT")
                .sync(),
        ),
        _ => drop(pipeline.simple("a; b; c")),
    }
}
