//! `gavel drain`, `gavel resume` and `gavel shard retry`: what operators do to coordinators.
//!
//! Every coordinator that is named is told by itself; one that cannot be reached keeps nobody from
//! telling the others, and makes the command fail.

use std::time::{Duration, Instant};

use gavel_client::{CircuitState, Gavel, ShardName, Standing};
use serde_json::{Value, json};

use super::client::{connect, endpoints};
use crate::args::{ClientArgs, SteerArgs};
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// How often a coordinator that drains is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What an operator wants of a coordinator.
#[derive(Clone, Copy)]
pub(crate) enum Wish<'a> {
    /// Take nothing new, and end what there is.
    Drain,
    /// Take transactions again.
    Resume,
    /// Ask this shard for a sign of life now.
    Retry(&'a ShardName),
}

/// Steers every coordinator that `args` names.
pub(crate) async fn run(
    config: Option<&Config>,
    wish: Wish<'_>,
    args: &SteerArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let (mut lines, mut documents, mut all_well) = (Vec::new(), Vec::new(), true);
    for endpoint in endpoints(config, &args.client) {
        let client = ClientArgs {
            endpoint: vec![endpoint.clone()],
            ..args.client.clone()
        };
        let steered = match steer(config, &client, wish, args).await {
            Ok(steered) => steered,
            Err(error) => Steered {
                is_well: false,
                text: format!("{error:#}"),
                document: json!({"error": format!("{error:#}")}),
            },
        };
        let Steered {
            is_well,
            text,
            mut document,
        } = steered;
        all_well &= is_well;
        lines.push(format!("{endpoint}: {text}"));
        document["endpoint"] = endpoint.into();
        documents.push(document);
    }
    output.result(lines.join("\n"), &json!({"coordinators": documents}));
    Ok(if all_well { Exit::Ok } else { Exit::Failure })
}

/// What came of one coordinator.
struct Steered {
    is_well: bool,
    text: String,
    document: Value,
}

impl Steered {
    fn well(text: impl Into<String>, document: Value) -> Self {
        Self {
            is_well: true,
            text: text.into(),
            document,
        }
    }
}

async fn steer(
    config: Option<&Config>,
    client: &ClientArgs,
    wish: Wish<'_>,
    args: &SteerArgs,
) -> anyhow::Result<Steered> {
    let gavel = connect(config, client).await?;
    let standing = gavel.standing().await?;
    let plan = plan(wish, &standing, &gavel);
    if args.dry_run {
        return Ok(Steered::well(
            format!("would do this: {plan}"),
            json!({"would": plan}),
        ));
    }
    eprintln!("{}: {plan}", client.endpoint.join(", "));
    let because = args.because.as_str();
    match wish {
        Wish::Resume => {
            gavel.set_draining(false, because).await?;
            Ok(Steered::well(
                "takes transactions",
                json!({"draining": false}),
            ))
        }
        Wish::Retry(shard) => {
            let found = gavel.retry_shard(shard, because).await?;
            Ok(Steered::well(&found, json!({"found": found})))
        }
        Wish::Drain => {
            gavel.set_draining(true, because).await?;
            drained(&gavel, Duration::from_millis(client.deadline_ms)).await
        }
    }
}

/// Waits until a coordinator that takes nothing new holds nothing.
async fn drained(gavel: &Gavel, patience: Duration) -> anyhow::Result<Steered> {
    let until = Instant::now() + patience;
    loop {
        let under_way = under_way(&gavel.standing().await?);
        let document = json!({"draining": true, "under_way": under_way});
        if under_way == 0 {
            return Ok(Steered::well(
                "takes nothing new, and holds nothing: it may be stopped",
                document,
            ));
        }
        if Instant::now() >= until {
            return Ok(Steered {
                is_well: false,
                text: format!("takes nothing new; {under_way} transactions are under way still"),
                document,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Declared and interactive ones.
fn under_way(standing: &Standing) -> u64 {
    standing.in_flight + standing.sessions
}

fn plan(wish: Wish<'_>, standing: &Standing, gavel: &Gavel) -> String {
    let under_way = under_way(standing);
    match wish {
        Wish::Drain if standing.is_draining => {
            format!("wait for {under_way} transactions; it takes nothing new already")
        }
        Wish::Drain => format!(
            "refuse what is new, so that clients go to other coordinators, and wait for \
             {under_way} transactions that are under way"
        ),
        Wish::Resume if standing.is_draining => "take transactions again".to_owned(),
        Wish::Resume => "nothing: it takes transactions already".to_owned(),
        Wish::Retry(shard) => {
            let tag = gavel.shards().tag(shard);
            let seen = standing.shards.iter().find(|seen| Some(seen.tag) == tag);
            let now = match seen {
                None => "which it does not know",
                Some(seen) if seen.wrong.is_some() => "to which it sends nothing now",
                Some(seen) if seen.circuit == CircuitState::Closed => "which it uses",
                Some(_) => "which one transaction at a time may try",
            };
            format!("ask {shard}, {now}, for a sign of life")
        }
    }
}
