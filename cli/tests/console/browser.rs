//! A real Chromium without a window.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(50);

/// How the page is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

pub(crate) const DESK: Look = Look {
    width: 1280,
    height: 900,
    dark: false,
};

pub(crate) const PHONE: Look = Look {
    width: 390,
    height: 844,
    dark: true,
};

/// A window; ends with this.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
    url: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _gone_already = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

impl Browser {
    pub(crate) async fn open(look: Look) -> Self {
        let port = local_postgres::free_port().expect("a port");
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver runs: `make test-console` says how to install it");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < LIMIT, "chromedriver does not listen");
            tokio::time::sleep(EVERY).await;
        }
        let url = format!("http://127.0.0.1:{port}");
        let scheme = if look.dark { 0 } else { 1 };
        let options = json!({ "args": [
            "--headless=new",
            // Tests may run as root, and look at nothing but what they serve themselves.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            format!("--window-size={},{}", look.width, look.height),
            format!("--blink-settings=preferredColorScheme={scheme}"),
        ]});
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        let mut builder =
            ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let client = builder.capabilities(capabilities).connect(&url).await;
        let client = client.expect("Chromium starts");
        client
            .set_window_size(look.width, look.height)
            .await
            .expect("a size");
        Self {
            client,
            driver,
            url,
        }
    }

    /// The text of an element, once it has one that fits.
    pub(crate) async fn until(&self, selector: &str, fits: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text(selector).await.unwrap_or_default();
            if fits(&text) {
                return text;
            }
            assert!(begun.elapsed() < LIMIT, "{selector}: {text}");
            tokio::time::sleep(EVERY).await;
        }
    }

    /// What an element says to whoever looks.
    async fn text(&self, selector: &str) -> Option<String> {
        let element = self.client.find(Locator::Css(selector)).await.ok()?;
        element.text().await.ok()
    }

    pub(crate) async fn click(&self, selector: &str) {
        let found = self.client.wait().for_element(Locator::Css(selector)).await;
        found.expect(selector).click().await.expect(selector);
    }

    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let found = self.client.find(Locator::Css(selector)).await;
        found
            .expect(selector)
            .send_keys(text)
            .await
            .expect(selector);
    }

    /// Clicks a button that wants a reason, and gives one.
    pub(crate) async fn act(&self, button: &str, because: &str) {
        self.click(button).await;
        self.write("#because", because).await;
        self.click("#action-go").await;
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect(script)
    }

    /// Nothing was refused by the page's policy, and no script failed.
    pub(crate) async fn is_content(&self) {
        let session = self
            .client
            .session_id()
            .await
            .expect("no error")
            .expect("a session");
        let url = format!("{}/session/{session}/se/log", self.url);
        let asked = reqwest::Client::new()
            .post(url)
            .json(&json!({ "type": "browser" }));
        let answer: Value = asked
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let lines = answer["value"].as_array().expect("lines").iter();
        let severe = lines.filter(|line| line["level"] == "SEVERE");
        // What the API refuses on purpose is in there, too.
        let severe = severe.filter(|line| {
            let text = line["message"].as_str().unwrap_or_default();
            !text.contains("the server responded with a status of")
        });
        assert_eq!(severe.collect::<Vec<_>>(), Vec::<&Value>::new());
    }

    /// Nothing sticks out at the side.
    pub(crate) async fn fits_the_window(&self) {
        let script = "return document.documentElement.scrollWidth - window.innerWidth";
        let over = self.run(script).await.as_i64().expect("a number");
        assert!(over <= 0, "{over} pixels too wide");
    }

    /// A picture for the documentation, where one is asked for.
    pub(crate) async fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("GAVEL_PICTURES") else {
            return;
        };
        let picture = self.client.screenshot().await.expect("a picture");
        let file = Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(file, picture).expect("written");
    }
}
