//! Writes the `gavel.toml` that all processes of the folder share.

use std::fmt::Write as _;

use crate::Shard;
use crate::security::{Certificates, OPERATOR};

/// The deployment's name: it is part of every gid.
pub(crate) const DEPLOYMENT: &str = "dev";

/// The file's text. Names, URLs and numbers only, none of which needs quoting in TOML.
pub(crate) fn render(
    shards: &[Shard],
    coordinator_port: u16,
    tls: Option<&Certificates>,
    extra: &str,
) -> String {
    let mut text = format!(
        "# Written by `gavel dev` at every start: changes here are lost.\n\
         # It holds passwords.\n\
         deployment = \"{DEPLOYMENT}\"\n\
         # `gavel dev` has migrated the shards before it starts the rest.\n\
         migrate_on_start = false\n\n\
         [coordinator]\n\
         listen = \"127.0.0.1:{coordinator_port}\"\n"
    );
    if tls.is_some() {
        write!(
            text,
            "\n# Where certificates are, says the default: beside this file, in tls.\n\
             [tls]\n\n\
             [[principal]]\n\
             name = \"{OPERATOR}\"\n\
             role = \"operator\"\n"
        )
        .expect("writing to a string");
    }
    let parameters = tls.map(Certificates::parameters).unwrap_or_default();
    for shard in shards {
        write!(
            text,
            "\n[[shard]]\n\
             name = \"{}\"\n\
             tag = {}\n\
             participant = \"{}\"\n\
             database_url = \"{}{parameters}\"\n\
             admin_url = \"{}{parameters}\"\n",
            shard.name, shard.tag, shard.participant_url, shard.database_url, shard.superuser_url
        )
        .expect("writing to a string");
    }
    if !extra.is_empty() {
        write!(text, "\n{extra}\n").expect("writing to a string");
    }
    text
}
