//! The bank's API over real servers, with Gavel inside the test's own process.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_client::Gavel;
use gavel_coordinator::{Coordinator, Engine as _};
use gavel_demo::{Bank, BankOptions, OpenError, serve};
use gavel_migrations::IdentityClaim;
use gavel_participant::{Directory, LocalParticipant, Participant, ShardConfig};
use gavel_protocol::{Limits, ShardMap, ShardTag};
use local_postgres::{Cluster, Options, Server};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const DATABASE: &str = "bank";
const ROLE: &str = "bank";

/// Servers, Gavel, and the API.
pub struct World {
    pub cluster: Cluster,
    pub gavel: Gavel,
    pub shards: Vec<(String, String)>,
    pub url: String,
    pub http: Client,
    _participants: Vec<LocalParticipant>,
}

/// An answer: its status and its body.
pub type Answer = (StatusCode, Value);

impl World {
    /// `count` shards and an API over all of them.
    pub async fn start(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|tag| format!("shard_{tag}")).collect();
        let options: Vec<Options> = names.iter().map(|name| Options::for_tests(name)).collect();
        let cluster = Cluster::temporary_with(&options).expect("start the servers");
        let mut shards = Vec::new();
        let mut participants = Vec::new();
        for (index, (name, server)) in names.iter().zip(cluster.servers()).enumerate() {
            let tag = u16::try_from(index + 1).expect("few shards");
            let url = create_database(server);
            participants.push(open_shard(server, name, tag, &url).await);
            shards.push((name.clone(), url));
        }
        let gavel = start_gavel(&names, &participants).await;
        let mut world = Self {
            cluster,
            gavel,
            shards,
            url: String::new(),
            http: Client::new(),
            _participants: participants,
        };
        world.url = world.start_api().await;
        world
    }

    /// Opens the bank once more, as after a restart of the API.
    pub async fn open_bank(&self, shards: Vec<(String, String)>) -> Result<Bank, OpenError> {
        Bank::open(self.gavel.clone(), BankOptions::new(shards)).await
    }

    /// Starts one more API over the same shards; gives its address.
    pub async fn start_api(&self) -> String {
        let bank = self
            .open_bank(self.shards.clone())
            .await
            .expect("open the bank");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::new(bank), std::future::pending()));
        format!("http://{address}")
    }

    /// Opens an account with this balance; gives its id.
    pub async fn account(&self, balance: i64) -> String {
        let body = json!({"owner": "somebody", "initial_balance": balance});
        let (status, answer) = self.post("/accounts", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Two accounts, on two shards or on one.
    pub async fn two_accounts(&self, balances: [i64; 2], on_one_shard: bool) -> [String; 2] {
        let first = self.account(balances[0]).await;
        let shard = self.shard_of(&first).await;
        loop {
            let second = self.account(balances[1]).await;
            if (self.shard_of(&second).await == shard) == on_one_shard {
                return [first, second];
            }
        }
    }

    async fn shard_of(&self, account: &str) -> String {
        let (_, answer) = self.get(&format!("/accounts/{account}")).await;
        answer["shard"].as_str().expect("a shard").to_owned()
    }

    pub async fn balance(&self, account: &str) -> i64 {
        let (status, answer) = self.get(&format!("/accounts/{account}")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["balance"].as_i64().expect("a balance")
    }

    pub async fn get(&self, path: &str) -> Answer {
        let response = self.http.get(format!("{}{path}", self.url)).send().await;
        read(response.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        read(request.send().await.expect("an answer")).await
    }

    pub async fn transfer(&self, key: &str, from: &str, to: &str, amount: i64) -> Answer {
        let body = json!({"from": from, "to": to, "amount": amount});
        self.post_transfer(&self.url, key, body.to_string()).await
    }

    /// Sends any text to `POST /transfers` of an API.
    pub async fn post_transfer(&self, api: &str, key: &str, body: String) -> Answer {
        let request = self
            .http
            .post(format!("{api}/transfers"))
            .header("Idempotency-Key", key);
        read(request.body(body).send().await.expect("an answer")).await
    }

    pub async fn audit(&self) -> Value {
        let (status, audit) = self.get("/audit").await;
        assert_eq!(status, StatusCode::OK, "{audit}");
        audit
    }

    /// Runs SQL as superuser on every shard; gives the first value of each answer.
    pub fn sql_everywhere(&self, sql: &str) -> Vec<String> {
        let servers = self.cluster.servers().iter();
        let answers = servers.map(|server| {
            let rows = server.sql(DATABASE, sql).expect("SQL");
            let first = rows.into_iter().flatten().next();
            first.flatten().unwrap_or_default()
        });
        answers.collect()
    }
}

/// Status and JSON body of an answer.
pub async fn read(response: Response) -> Answer {
    let status = response.status();
    (status, response.json().await.expect("a JSON body"))
}

/// The code of an error answer.
pub fn code(answer: &Answer) -> &str {
    answer.1["error"]["code"].as_str().unwrap_or("(no code)")
}

fn create_database(server: &Server) -> String {
    server.create_database(DATABASE).expect("a database");
    let password = server.create_login_role(ROLE).expect("a role");
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA public TO {ROLE}");
    server.sql(DATABASE, &grant).expect("a grant");
    server.url_for(ROLE, &password, DATABASE)
}

async fn open_shard(server: &Server, name: &str, tag: u16, url: &str) -> LocalParticipant {
    let claim = IdentityClaim {
        deployment: "test".to_owned(),
        shard: name.to_owned(),
        tag,
        participant_role: Some(ROLE.to_owned()),
    };
    let migrated = gavel_migrations::migrate(&server.url(DATABASE), &claim).await;
    migrated.expect("migrate");
    let config = ShardConfig {
        deployment: "test".parse().expect("a name"),
        name: name.parse().expect("a name"),
        tag: ShardTag(tag),
        database_url: url.to_owned(),
        limits: Limits::default(),
    };
    LocalParticipant::open(config)
        .await
        .expect("open the shard")
}

async fn start_gavel(names: &[String], participants: &[LocalParticipant]) -> Gavel {
    let each = participants
        .iter()
        .map(|each| Arc::new(each.clone()) as Arc<dyn Participant>);
    let directory = Directory::new(each);
    for participant in participants {
        participant.start(directory.clone());
    }
    let named = names.iter().zip(participants);
    let map = ShardMap::new(named.map(|(name, each)| (name.parse().expect("a name"), each.tag())));
    let map = map.expect("names and tags differ");
    let coordinator = Coordinator::start(map, directory, Limits::default());
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(why) = coordinator.not_ready().await {
        assert!(
            Instant::now() < deadline,
            "the coordinator is not ready: {why}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Gavel::embedded(Arc::new(coordinator))
}
