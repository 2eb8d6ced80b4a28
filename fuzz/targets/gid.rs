//! A text is foreign, or it is a gid and the only spelling of it. Ids and names likewise.

#![no_main]

use gavel_protocol::{BatchId, Gid, Principal, ShardName, ShardTag, Txid};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(gid) = text.parse::<Gid>() {
        assert_eq!(gid.to_string(), text);
        assert!(text.len() < gavel_protocol::gid::GID_LEN_LIMIT);
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'\'')
        );
    }
    if let Ok(txid) = text.parse::<Txid>() {
        assert!(txid.to_string().eq_ignore_ascii_case(text));
    }
    if let Ok(batch) = text.parse::<BatchId>() {
        assert!(batch.to_string().eq_ignore_ascii_case(text));
    }
    if let Ok(name) = text.parse::<ShardName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(tag) = text.parse::<ShardTag>() {
        assert_eq!(tag.to_string(), text);
    }
    if let Ok(principal) = text.parse::<Principal>() {
        assert!(!principal.as_str().contains(char::is_control));
    }
});
