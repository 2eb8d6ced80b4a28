//! The console in a real Chromium, over real processes and servers. `make test-console` runs it:
//! not everybody has a browser where he builds.

mod browser;
#[path = "../temporary/mod.rs"]
mod temporary;

use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options, Role};
use serde_json::{Value, json};

use browser::{Browser, DESK, PHONE};

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
const TOKEN: &str = "a-token-with-enough-characters";

struct World {
    dev: Dev,
    folder: tempfile::TempDir,
}

impl World {
    fn start(has_principals: bool) -> Self {
        let folder = temporary::folder();
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        if has_principals {
            let token = folder.path().join("token");
            std::fs::write(&token, TOKEN).expect("a file");
            options.extra_config = format!(
                "[[principal]]\nname = \"watch\"\nrole = \"operator\"\ntoken_file = {:?}\n",
                token.display().to_string()
            );
        }
        let dev = Dev::start(&options).expect("a deployment");
        Self { dev, folder }
    }

    fn page(&self, hash: &str) -> String {
        format!("{}/console/{hash}", self.dev.coordinator_url())
    }

    async fn submit(&self, note: Value) -> Value {
        let statement = json!({"sql": "insert into hello (note) values ($1)", "params": [note]});
        let body = json!({"timeout_ms": 3000, "branches": [
            {"shard": "alpha", "statements": [statement]},
            {"shard": "beta", "statements": [statement]},
        ]});
        let url = format!("{}/v1/transactions", self.dev.coordinator_url());
        let sent = reqwest::Client::new().post(url).json(&body).send().await;
        let answer = sent.expect("an answer").json::<Value>().await;
        answer.expect("JSON")
    }

    /// Some seconds of work, for the charts.
    async fn work(&self, length: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < length {
            let many = (0..8).map(|_| self.submit(json!("x")));
            futures::future::join_all(many).await;
            self.submit(Value::Null).await;
        }
    }

    /// Prepares a branch on beta whose home is alpha.
    fn prepare(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unix_ms = u64::try_from(now.expect("after 1970").as_millis()).expect("a number");
        let batch = gavel_protocol::BatchId::mint(unix_ms, rand::random());
        let gid = format!("gavel:dev:1:1:{batch}:2");
        let sql = format!("SET SESSION AUTHORIZATION app; BEGIN; PREPARE TRANSACTION '{gid}'");
        self.dev.servers()[1].sql("app", &sql).expect("prepared");
        gid
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_sees_what_happens() {
    let world = World::start(false);
    let browser = Browser::open(DESK).await;
    browser.client.goto(&world.page("")).await.expect("a page");
    browser
        .until("#shards", |text| text.contains("alpha 1 closed well"))
        .await;
    world.work(Duration::from_secs(8)).await;
    let is_busy = |text: &str| {
        let rate = text
            .lines()
            .nth(1)
            .and_then(|line| line.replace(',', "").parse::<u64>().ok());
        rate.is_some_and(|rate| rate > 0)
    };
    browser.until("#numbers", is_busy).await;
    let drawn = "return document.querySelectorAll('.chart canvas').length";
    assert_eq!(browser.run(drawn).await, 2);
    // Some of what is drawn is a line, and not the empty ground.
    let painted = "const c = document.querySelector('#rate-chart canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return d.some((value, at) => at % 4 === 3 && value > 0)";
    assert_eq!(browser.run(painted).await, true);
    browser.picture("console-overview").await;
    browser.fits_the_window().await;

    world.dev.servers()[1]
        .stop(local_postgres::Mode::Immediate)
        .expect("stopped");
    let is_down = |text: &str| text.contains("open") || text.contains("out of sight");
    let fails = async {
        loop {
            world.submit(json!("x")).await;
        }
    };
    tokio::select! {
        _ = browser.until("#shards tr:nth-child(2)", is_down) => {}
        () = fails => {}
    }
    browser.is_content().await;

    // It is retried when somebody wants it, not only when a pause is over; it says what was found.
    browser
        .act("#shards tr:nth-child(2) button", "ticket 1")
        .await;
    let told = browser
        .until("#done", |text| text.starts_with("beta: "))
        .await;
    assert!(!told.contains("it answers"), "{told}");
    browser.picture("console-shard-down").await;
    world.dev.servers()[1].start().expect("it starts");
    let works = async {
        loop {
            world.submit(json!("x")).await;
        }
    };
    tokio::select! {
        _ = browser.until("#shards", |text| text.contains("beta 2 closed well")) => {}
        () = works => {}
    }
    browser.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_drains_a_coordinator_and_resumes_it() {
    let world = World::start(false);
    assert_eq!(world.submit(json!("x")).await["outcome"], "committed");
    let browser = Browser::open(DESK).await;
    browser.client.goto(&world.page("")).await.expect("a page");
    browser
        .until("#drain", |text| text.contains("Drain this coordinator"))
        .await;
    browser.act("#drain button:not([hidden])", "ticket 2").await;
    browser
        .until("#drain", |text| {
            text.contains("takes nothing new, and holds 0")
        })
        .await;
    let refused = world.submit(json!("x")).await;
    assert_eq!(refused["error"]["code"], "shutting_down", "{refused}");
    assert_eq!(refused["error"]["retryable"], true, "{refused}");
    browser.act("#drain button:not([hidden])", "ticket 3").await;
    browser
        .until("#drain", |text| text.contains("Drain this coordinator"))
        .await;
    assert_eq!(world.submit(json!("x")).await["outcome"], "committed");
    let log = std::fs::read_to_string(world.dev.log_path(Role::Coordinator(0))).expect("a log");
    assert!(
        log.contains("ticket 2") && log.contains("ticket 3"),
        "{log}"
    );
    browser.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_resolves_what_is_in_doubt_and_says_why() {
    let world = World::start(false);
    world.dev.kill(Role::Participant(0)).expect("killed");
    let gid = world.prepare();
    let browser = Browser::open(DESK).await;
    browser
        .client
        .goto(&world.page("#in-doubt"))
        .await
        .expect("a page");
    browser
        .until("#doubts", |text| {
            text.contains(&gid) && text.contains("home 1")
        })
        .await;
    browser.until("#doubt-count", |text| text == "2").await;
    browser.picture("console-in-doubt").await;

    // A click alone does nothing; nor does one without a reason.
    browser.click("#doubts button").await;
    browser.until("#action-subject", |text| text == gid).await;
    browser.click("#action-go").await;
    assert_eq!(
        browser
            .run("return document.getElementById('action').open")
            .await,
        true
    );
    world.dev.restart(Role::Participant(0)).expect("it starts");
    browser.write("#because", "ticket 4711").await;
    browser.click("#action-go").await;
    // Its own shard may have been quicker.
    browser.until("#done", |text| text.contains(&gid)).await;
    browser
        .until("#no-doubts", |text| text == "Nothing is prepared.")
        .await;
    let log = std::fs::read_to_string(world.dev.log_path(Role::Coordinator(0))).expect("a log");
    assert!(log.contains("ticket 4711"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_is_told_call_by_call() {
    let world = World::start(false);
    let committed = world.submit(json!("x")).await;
    let aborted = world.submit(Value::Null).await;
    let txid = |answer: &Value| answer["txid"].as_str().expect("a txid").to_owned();
    let browser = Browser::open(DESK).await;
    let page = world.page(&format!("#transaction/{}", txid(&committed)));
    browser.client.goto(&page).await.expect("a page");
    browser
        .until("#outcome", |text| text.starts_with("Committed"))
        .await;
    for call in [
        "waited in its lane",
        "prepare at beta",
        "decide at alpha",
        "finish at beta",
    ] {
        browser
            .until("svg.timeline", |text| text.contains(call))
            .await;
    }
    browser.picture("console-transaction").await;

    let field = browser
        .run("document.getElementById('txid').value = ''")
        .await;
    assert!(field.is_null());
    browser.write("#txid", &txid(&aborted)).await;
    browser.click("#search button").await;
    browser
        .until("#outcome", |text| text.starts_with("Aborted"))
        .await;
    browser
        .until("#found", |text| {
            text.contains("sql_error") || text.contains("null")
        })
        .await;
    browser
        .run("document.getElementById('txid').value = ''")
        .await;
    // What a person writes is text, whatever it is.
    browser.write("#txid", "<img src=x onerror=alert(1)>").await;
    browser.click("#search button").await;
    browser.until("#found", |text| text.contains("txid")).await;
    assert_eq!(
        browser
            .run("return document.querySelectorAll('#found img').length")
            .await,
        0
    );
    browser.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_anything_without_a_token_and_a_phone_is_wide_enough() {
    let world = World::start(true);
    let browser = Browser::open(PHONE).await;
    browser.client.goto(&world.page("")).await.expect("a page");
    browser
        .until("#sign-in", |text| text.contains("Who is asking?"))
        .await;
    assert_eq!(
        browser
            .run("return document.getElementById('overview').hidden")
            .await,
        true
    );
    browser
        .write("#token", "a-token-that-nobody-has-given")
        .await;
    browser.click("#sign-in button").await;
    browser
        .until("#trouble", |text| text.contains("Bearer"))
        .await;
    browser.write("#token", TOKEN).await;
    browser.click("#sign-in button").await;
    browser
        .until("#shards", |text| text.contains("alpha"))
        .await;
    for hash in ["#overview", "#in-doubt", "#transaction"] {
        browser.run(&format!("location.hash = '{hash}'")).await;
        browser.fits_the_window().await;
    }
    browser.run("location.hash = '#overview'").await;
    let ground = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.run(ground).await, "rgb(22, 24, 27)", "it is dark");
    browser.run("scrollTo(0, 0)").await;
    browser.picture("console-phone").await;
    browser.click("#sign-out").await;
    browser
        .until("#sign-in", |text| text.contains("Who is asking?"))
        .await;
    let kept = browser.run("return sessionStorage.getItem('token')").await;
    assert!(kept.is_null(), "{kept}");
    drop(world.folder);
}

#[tokio::test]
async fn the_page_lets_nobody_else_in() {
    let world = World::start(true);
    let client = reqwest::Client::new();
    for file in [
        "",
        "console.js",
        "console.css",
        "uPlot.iife.min.js",
        "icon.svg",
    ] {
        let answer = client
            .get(world.page(file))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200, "{file}");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "script-src 'self'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
    }
    for file in ["..%2fCargo.toml", "nothing.js", "%2e%2e/"] {
        let answer = client
            .get(world.page(file))
            .send()
            .await
            .expect("an answer");
        assert!([401, 404].contains(&answer.status().as_u16()), "{file}");
    }
}
