//! `gavel top`: what coordinators do, as they do it, in a terminal.
//!
//! Every coordinator is asked each second; one that does not answer is shown as such and asked
//! again. Whoever is no terminal gets one picture as text, or as JSON.

mod picture;
mod screen;
mod text;

use std::io::IsTerminal as _;
use std::time::Duration;

use futures::future::join_all;
use gavel_client::Gavel;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use self::picture::{Picture, Seen};
use super::client::{connect, endpoints};
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// Watches until somebody presses `q`; with `once`, or without a terminal, looks once.
pub(crate) async fn run(
    config: Option<&Config>,
    client: &ClientArgs,
    once: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let mut watched: Vec<Watched> = endpoints(config, client)
        .into_iter()
        .map(|endpoint| Watched {
            client: ClientArgs {
                endpoint: vec![endpoint.clone()],
                ..client.clone()
            },
            endpoint,
            gavel: None,
        })
        .collect();
    if once || output.json || !std::io::stdout().is_terminal() {
        let picture = look(config, &mut watched).await;
        output.result(text::of(&picture), &picture.to_json());
        let is_seen = picture.coordinators.iter().any(|one| one.standing.is_ok());
        return Ok(if is_seen { Exit::Ok } else { Exit::Failure });
    }
    let mut terminal = ratatui::init();
    let shown = show(config, &mut watched, &mut terminal).await;
    ratatui::restore();
    shown.map(|()| Exit::Ok)
}

/// A coordinator, and the way to it once there is one.
struct Watched {
    endpoint: String,
    client: ClientArgs,
    gavel: Option<Gavel>,
}

async fn show(
    config: Option<&Config>,
    watched: &mut [Watched],
    terminal: &mut ratatui::DefaultTerminal,
) -> anyhow::Result<()> {
    let mut keys = keys();
    let mut picture = Picture::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| screen::draw(frame, &picture))?;
        tokio::select! {
            _ = ticks.tick() => picture = look(config, watched).await,
            key = keys.recv() => match key {
                Some(Key::Redraw) => {}
                Some(Key::Quit) | None => return Ok(()),
            },
        }
    }
}

enum Key {
    Quit,
    /// The terminal has another size.
    Redraw,
}

/// Reads keys on a thread of its own, which ends with the program.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            if !event::poll(KEYS_EVERY).unwrap_or(false) {
                continue;
            }
            let key = match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    let is_ctrl_c = key.code == KeyCode::Char('c')
                        && key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                        _ if is_ctrl_c => Key::Quit,
                        _ => continue,
                    }
                }
                Ok(Event::Resize(..)) => Key::Redraw,
                Ok(_) => continue,
                Err(_) => Key::Quit,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Asks all coordinators, and the first that answers what is in doubt: every one would say the
/// same.
async fn look(config: Option<&Config>, watched: &mut [Watched]) -> Picture {
    let coordinators = join_all(watched.iter_mut().map(|one| one.look(config))).await;
    let mut in_doubt = Err("no coordinator answers".to_owned());
    for gavel in watched.iter().filter_map(|one| one.gavel.as_ref()) {
        in_doubt = gavel.in_doubt().await.map_err(|error| error.to_string());
        if in_doubt.is_ok() {
            break;
        }
    }
    let mut gavels = watched.iter().filter_map(|one| one.gavel.as_ref());
    let shards = gavels.next().map(|gavel| gavel.shards());
    Picture {
        coordinators,
        shards,
        in_doubt,
    }
}

impl Watched {
    async fn look(&mut self, config: Option<&Config>) -> Seen {
        let standing = match self.ask(config).await {
            Ok(standing) => Ok(standing),
            Err(error) => {
                self.gavel = None;
                Err(format!("{error:#}"))
            }
        };
        Seen {
            endpoint: self.endpoint.clone(),
            standing,
        }
    }

    async fn ask(&mut self, config: Option<&Config>) -> anyhow::Result<gavel_client::Standing> {
        let gavel = match self.gavel.take() {
            Some(gavel) => gavel,
            None => connect(config, &self.client).await?,
        };
        let standing = gavel.standing().await?;
        self.gavel = Some(gavel);
        Ok(standing)
    }
}
