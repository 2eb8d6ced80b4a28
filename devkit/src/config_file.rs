//! Writes the `gavel.toml` that all processes of the folder share.

use std::fmt::Write as _;

use crate::Shard;

/// The deployment's name: it is part of every gid.
pub(crate) const DEPLOYMENT: &str = "dev";

/// The file's text. Names, URLs and numbers only, none of which needs quoting in TOML.
pub(crate) fn render(shards: &[Shard], coordinator_port: u16, extra: &str) -> String {
    let mut text = format!(
        "# Written by `gavel dev` at every start: changes here are lost.\n\
         # It holds passwords.\n\
         deployment = \"{DEPLOYMENT}\"\n\
         # `gavel dev` has migrated the shards before it starts the rest.\n\
         migrate_on_start = false\n\n\
         [coordinator]\n\
         listen = \"127.0.0.1:{coordinator_port}\"\n"
    );
    for shard in shards {
        write!(
            text,
            "\n[[shard]]\n\
             name = \"{}\"\n\
             tag = {}\n\
             participant = \"{}\"\n\
             database_url = \"{}\"\n\
             admin_url = \"{}\"\n",
            shard.name, shard.tag, shard.participant_url, shard.database_url, shard.superuser_url
        )
        .expect("writing to a string");
    }
    if !extra.is_empty() {
        write!(text, "\n{extra}\n").expect("writing to a string");
    }
    text
}
