//! From the command line to an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use gavel_coordinator::api::{AuthConfigError, BindError};

use crate::args::{Cli, Command, InDoubtCommand, RetentionCommand, ShardCommand, TxCommand};
use crate::commands::in_doubt::Resolving;
use crate::commands::shard::NewIncarnation;
use crate::commands::steer::{self, Wish};
use crate::config::{self, Config, ConfigError};
use crate::exit::Exit;
use crate::output::Output;
use crate::service::Source;
use crate::{commands, logging, runtime, service};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match run(&cli, output) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.failure(&error);
            exit_of(&error).into()
        }
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    let is_configuration =
        error.is::<ConfigError>() || error.is::<BindError>() || error.is::<AuthConfigError>();
    if is_configuration {
        Exit::Usage
    } else {
        Exit::Failure
    }
}

fn run(cli: &Cli, output: Output) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Tx(_)
        | Command::InDoubt(_)
        | Command::Top { .. }
        | Command::Health { .. }
        | Command::Drain(_)
        | Command::Resume(_)
        | Command::Shard(ShardCommand::Retry { .. }) => run_client(cli, output),
        Command::Manual(args) => commands::manual::run(args, output),
        Command::Dev(args) => {
            logging::start(cli, None)?;
            runtime::run(commands::dev::run(args, output))
        }
        Command::Chaos(args) => {
            logging::start_quiet(cli)?;
            runtime::run(commands::chaos::run(args, output))
        }
        Command::Demo(args) => {
            logging::start_quiet(cli)?;
            runtime::run(commands::demo::run(args, output))
        }
        _ => {
            let config = config::load(&cli.config)?;
            match &cli.command {
                Command::Serve(_) | Command::Coordinator(_) | Command::Participant(_) => {
                    logging::start_service(cli, &config)?;
                }
                _ => logging::start(cli, Some(&config.log))?,
            }
            match &cli.command {
                Command::Serve(_) | Command::Coordinator(_) | Command::Participant(_) => {
                    runtime::serve(config.threads, run_configured(cli, config, output))
                }
                _ => runtime::run(run_configured(cli, config, output)),
            }
        }
    }
}

async fn run_configured(cli: &Cli, config: Config, output: Output) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Serve(args) => service::serve(&config, Source::of(cli)?, args, output).await,
        Command::Coordinator(args) => {
            service::coordinator(&config, Source::of(cli)?, args, output).await
        }
        Command::Participant(args) => {
            service::participant(&config, Source::of(cli)?, args, output).await
        }
        Command::Audit => commands::audit::run(&config, output).await,
        Command::Damage(args) => commands::damage::run(&config, args, output).await,
        Command::Retention(RetentionCommand::Run { because, dry_run }) => {
            commands::retention::run(&config, because, *dry_run, output).await
        }
        Command::Actions => commands::actions::run(&config, output).await,
        Command::Retention(RetentionCommand::Show) => {
            commands::retention::show(&config, output).await
        }
        Command::Certs(args) => commands::certs::run(&config, args, output),
        Command::Check => commands::check::run(&config, output).await,
        Command::Doctor { client } => commands::doctor::run(&config, client, output).await,
        Command::Migrate(args) => commands::migrate::run(&config, args, output).await,
        Command::Shard(ShardCommand::Remove {
            shard,
            because,
            dry_run,
        }) => commands::removal::run(&config, shard, because, *dry_run, output).await,
        Command::Shard(ShardCommand::NewIncarnation {
            shard,
            because,
            dry_run,
            admin_url,
            i_restored_or_moved_this_database: _,
        }) => {
            let admin_url = admin_url.as_deref();
            let birth = NewIncarnation { because, admin_url };
            commands::shard::new_incarnation(&config, shard, birth, *dry_run, output).await
        }
        _ => unreachable!("run() handles the commands without configuration"),
    }
}

/// Clients need no configuration; where there is one, it says where the coordinator is.
fn run_client(cli: &Cli, output: Output) -> anyhow::Result<Exit> {
    let config = match cli.config.exists() {
        true => Some(config::load(&cli.config)?),
        false => None,
    };
    let mut log = config
        .as_ref()
        .map(|config| config.log.clone())
        .unwrap_or_default();
    if config.is_none() {
        // A command that answers one question should not chat.
        "warn".clone_into(&mut log.level);
    }
    logging::start(cli, Some(&log))?;
    let config = config.as_ref();
    runtime::run(async {
        match &cli.command {
            Command::Tx(TxCommand::Id { home, client }) => {
                commands::tx::id(config, client, home.as_ref(), output).await
            }
            Command::Tx(TxCommand::Submit { file, client }) => {
                commands::submit::run(config, client, file, output).await
            }
            Command::Tx(TxCommand::Status { txid, client }) => {
                commands::tx::status(config, client, *txid, output).await
            }
            Command::Tx(TxCommand::Abort { txid, client }) => {
                commands::tx::abort(config, client, *txid, output).await
            }
            Command::Top { client, once } => {
                commands::top::run(config, client, *once, output).await
            }
            Command::Health { client, live } => {
                commands::health::run(config, client, *live, output)
            }
            Command::Drain(args) => steer::run(config, Wish::Drain, args, output).await,
            Command::Resume(args) => steer::run(config, Wish::Resume, args, output).await,
            Command::Shard(ShardCommand::Retry { shard, steer: args }) => {
                steer::run(config, Wish::Retry(shard), args, output).await
            }
            Command::InDoubt(InDoubtCommand::List { client }) => {
                commands::in_doubt::list(config, client, output).await
            }
            Command::InDoubt(InDoubtCommand::Resolve {
                gid,
                because,
                dry_run,
                client,
            }) => {
                let resolving = Resolving {
                    gid,
                    because,
                    dry_run: *dry_run,
                };
                commands::in_doubt::resolve(config, client, resolving, output).await
            }
            _ => unreachable!("run() sends only these here"),
        }
    })
}
