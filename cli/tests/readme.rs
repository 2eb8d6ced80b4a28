//! The README's section "Run it on your own databases", run as printed: every command in the
//! order of the page, and every answer compared with the one that the page shows.
//!
//! Only what is the reader's own is replaced: addresses, the superuser's password, and where the
//! program was built.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use local_postgres::{Cluster, Mode, Options, free_port};

const HEADING: &str = "## Run it on your own databases\n";
const END_OF_BLOCK: &str = "--- end of block ---";

/// A code block: what kind it is, and what it says.
struct Block {
    is_shell: bool,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let (_, section) = page.split_once(HEADING).expect("the section is there");
    let section = section.split("\n## ").next().expect("it has a text");
    let fenced = section.split("```").skip(1).step_by(2);
    let block = fenced.map(|fenced| {
        let (kind, text) = fenced.split_once('\n').expect("a block has lines");
        assert!(["sh", "text"].contains(&kind), "what is ```{kind}?");
        Block {
            is_shell: kind == "sh",
            text: text.to_owned(),
        }
    });
    block.collect()
}

/// A shell that runs block after block, as the reader's does.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn start(folder: &std::path::Path) -> Self {
        let mut process = Command::new("bash")
            .arg("-u")
            .current_dir(folder)
            .env_remove("GAVEL_CONFIG")
            .env_remove("GAVEL_ENDPOINT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self {
            process,
            input,
            output,
        }
    }

    fn run(&mut self, block: &str) -> Vec<String> {
        writeln!(self.input, "{block}\necho; echo '{END_OF_BLOCK}'").expect("bash is there");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("text");
            assert!(read > 0, "bash ended in:\n{block}\nafter: {lines:#?}");
            match line.trim_end() {
                END_OF_BLOCK => return lines,
                "" => {}
                line => lines.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _gone_already = writeln!(self.input, "kill -9 $(jobs -p); exit");
        let _reaped = self.process.wait();
    }
}

/// Lines without what differs from run to run: txids, how exactly a connection broke, and the
/// order in which three processes that start at once are ready.
fn comparable<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lines = lines.into_iter().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = lines.map(without_accidents).collect();
    let is_started = |line: &&String| line.contains(" on ") && line.contains("127.0.0.1");
    let starting = lines.iter().take_while(is_started).count();
    lines[..starting].sort();
    lines
}

fn without_accidents(line: &str) -> String {
    let is_txid = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let broken = line.contains(r#""code":"shard_unavailable""#);
    let mut words: Vec<&str> = line.split('"').collect();
    for index in 0..words.len() {
        if is_txid(words[index]) {
            words[index] = "TXID";
        }
        // Behind a key stand a colon and its text.
        if broken && words[index] == "message" && index + 2 < words.len() {
            words[index + 2] = "HOW";
        }
    }
    words.join("\"")
}

#[test]
fn run_it_on_your_own_databases_works_as_printed() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let mut page = std::fs::read_to_string(page).expect("the README");
    let options = ["east", "west"].map(|name| Options {
        max_prepared_transactions: 0, // PostgreSQL's default, which step 1 changes
        ..Options::for_tests(name)
    });
    let cluster = Cluster::temporary_with(&options).expect("two servers");
    for (server, name, port) in [
        (&cluster.servers()[0], "east", "5441"),
        (&cluster.servers()[1], "west", "5442"),
    ] {
        server.create_database(name).expect("a database");
        let printed = format!("postgres://postgres:admin-secret@127.0.0.1:{port}/{name}");
        page = page.replace(&printed, &server.url(name));
        page = page.replace(
            &format!("127.0.0.1:{port}"),
            &format!("127.0.0.1:{}", server.port()),
        );
    }
    for port in ["7400", "7411", "7412"] {
        let free = free_port().expect("a free port").to_string();
        page = page.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_gavel"));
    let built = built.parent().expect("a folder").display().to_string();
    page = page.replace("$PWD/target/release", &built);

    let folder = tempfile::tempdir().expect("a folder");
    let mut shell = Shell::start(folder.path());
    let mut said = Vec::new();
    for block in blocks(&page) {
        if !block.is_shell {
            assert_eq!(
                comparable(said.iter().map(String::as_str)),
                comparable(block.text.lines()),
                "the README shows another answer"
            );
            continue;
        }
        said = shell.run(&block.text);
        if block.text.contains("alter system") {
            for server in cluster.servers() {
                server.restart(Mode::Fast).expect("restart the server");
            }
        }
    }
}
