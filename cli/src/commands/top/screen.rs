//! A picture on a terminal. Colours are the terminal's own, so that light and dark ones both work.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::picture::{Doubt, Picture, Rates, Seen, ShardRow, milliseconds, since};

/// Lines of the graph, without its frame.
const GRAPH_LINES: u16 = 6;
/// Lines around the rows of a table: the frame and the header.
const AROUND: u16 = 3;
/// A branch that is this old waits for something: resolving takes a few seconds.
const OLD_MS: u64 = 10_000;

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let shards = picture.shard_rows();
    let lines = |rows: usize| {
        u16::try_from(rows)
            .unwrap_or(u16::MAX)
            .saturating_add(AROUND)
    };
    let [title, coordinators, graph, shards_area, doubts] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(lines(picture.coordinators.len())),
        Constraint::Max(GRAPH_LINES + 2),
        Constraint::Max(lines(shards.len())),
        Constraint::Min(AROUND),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from("gavel top — q quits").bold(), title);
    draw_coordinators(frame, coordinators, &picture.coordinators);
    draw_history(frame, graph, &picture.history());
    draw_shards(frame, shards_area, &shards, picture.coordinators.len());
    draw_doubts(frame, doubts, picture);
}

fn draw_coordinators(frame: &mut Frame<'_>, area: Rect, coordinators: &[Seen]) {
    let header = Row::new([
        "endpoint",
        "commits/s",
        "p50 ms",
        "p99 ms",
        "aborts/s",
        "refused/s",
        "in doubt/s",
        "in flight",
        "waiting",
        "up",
    ]);
    let rows = coordinators.iter().map(|seen| match &seen.standing {
        Err(error) => Row::new([format!("{}: {error}", seen.endpoint)]).style(wrong()),
        Ok(standing) => {
            let rates = Rates::of(&standing.seconds);
            Row::new([
                seen.endpoint.clone(),
                format!("{:.0}", rates.committed),
                format!("{:.1}", rates.p50_ms),
                format!("{:.1}", rates.p99_ms),
                format!("{:.0}", rates.aborted),
                format!("{:.0}", rates.refused),
                format!("{:.0}", rates.in_doubt),
                format!("{}/{}", standing.in_flight, standing.in_flight_max),
                standing.waiting.to_string(),
                match standing.is_draining {
                    true => "drains".to_owned(),
                    false => since(standing.started_unix_s),
                },
            ])
        }
    });
    let widths = [
        Constraint::Min(24),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(7),
    ];
    let table = Table::new(rows, widths)
        .header(header.bold())
        .block(Block::bordered().title("coordinators"));
    frame.render_widget(table, area);
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, history: &[u64]) {
    let width = usize::from(area.width.saturating_sub(2));
    let lately = &history[history.len().saturating_sub(width)..];
    let most = lately.iter().max().copied().unwrap_or(0);
    let title = format!(
        "commits per second, the last {} seconds; at most {most}",
        lately.len()
    );
    let graph = Sparkline::default()
        .data(lately)
        .block(Block::bordered().title(title));
    frame.render_widget(graph, area);
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, shards: &[ShardRow], coordinators: usize) {
    let rows = shards.iter().map(|shard| {
        let state = match (shard.wrong.is_empty(), shard.is_draining) {
            (true, false) => "well".to_owned(),
            (true, true) => "draining".to_owned(),
            (false, _) => shard.wrong.join("; "),
        };
        let row = Row::new([
            shard.name.clone(),
            shard.tag.to_string(),
            format!("{}/{coordinators}", shard.well),
            state,
        ]);
        match shard.wrong.is_empty() {
            true => row,
            false => row.style(wrong()),
        }
    });
    let widths = [
        Constraint::Length(20),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Min(20),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(["shard", "tag", "well for", "state"]).bold())
        .block(Block::bordered().title("shards"));
    frame.render_widget(table, area);
}

fn draw_doubts(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let block = Block::bordered().title("prepared, the oldest first");
    if let Err(error) = &picture.in_doubt {
        let text = Paragraph::new(error.as_str()).style(wrong());
        frame.render_widget(text.block(block), area);
        return;
    }
    let doubts = picture.doubts();
    let rows = doubts.iter().map(|doubt| {
        let Doubt {
            shard,
            gid,
            age_ms,
            waits_for,
        } = doubt;
        let row = Row::new([
            shard.clone(),
            milliseconds(*age_ms),
            gid.clone(),
            waits_for.clone(),
        ]);
        match *age_ms >= OLD_MS {
            true => row.style(wrong()),
            false => row,
        }
    });
    let widths = [
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(62),
        Constraint::Min(20),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(["shard", "age", "branch", "waits for"]).bold())
        .block(block);
    frame.render_widget(table, area);
}

fn wrong() -> Style {
    Style::new().fg(Color::Red)
}

#[cfg(test)]
mod tests {
    use gavel_client::{CircuitState, Second, ShardInDoubt, ShardMap, ShardStanding, ShardTag};
    use gavel_client::{InDoubtBranch, Standing};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn picture() -> Picture {
        let name = |name: &str| name.parse().unwrap();
        let shards = [(name("alpha"), ShardTag(1)), (name("beta"), ShardTag(2))];
        let shard = |tag, wrong: Option<&str>| ShardStanding {
            tag: ShardTag(tag),
            circuit: match wrong {
                None => CircuitState::Closed,
                Some(_) => CircuitState::Open,
            },
            wrong: wrong.map(str::to_owned),
            is_draining: false,
        };
        let second = |unix_s, committed| Second {
            unix_s,
            committed,
            p50_us: 1_500,
            p99_us: 7_250,
            ..Second::default()
        };
        let standing = Standing {
            version: "1.0.0".to_owned(),
            started_unix_s: 0,
            in_flight: 3,
            in_flight_max: 20_000,
            lanes: 1,
            waiting: 2,
            deepest: 2,
            sessions: 0,
            is_draining: false,
            shards: vec![shard(1, None), shard(2, Some("it does not answer"))],
            seconds: vec![second(1, 400), second(2, 500)],
        };
        let gid = "gavel:shop:1:1:019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988:2";
        let branch = InDoubtBranch {
            gid: gid.parse().unwrap(),
            age_ms: 12_345,
            waits_for: "the decision of home 1".to_owned(),
        };
        Picture {
            coordinators: vec![
                Seen {
                    endpoint: "http://one:7400".to_owned(),
                    standing: Ok(standing),
                },
                Seen {
                    endpoint: "http://two:7400".to_owned(),
                    standing: Err("nobody answers".to_owned()),
                },
            ],
            shards: Some(ShardMap::new(shards).unwrap().into()),
            in_doubt: Ok(vec![ShardInDoubt {
                shard: name("beta"),
                branches: Ok(vec![branch]),
            }]),
        }
    }

    fn drawn(width: u16, height: u16, picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let screen = drawn(160, 40, &picture());
        for text in [
            "http://one:7400",
            "450",
            "7.2",
            "3/20000",
            "nobody answers",
            "at most 500",
            "1/2",
            "it does not answer",
            "12 s",
            "019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988",
            "the decision of home 1",
        ] {
            assert!(screen.contains(text), "`{text}` is missing in:\n{screen}");
        }
    }

    #[test]
    fn no_terminal_is_too_small_and_nothing_may_be_there() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn(width, height, &picture());
            drawn(width, height, &Picture::default());
        }
    }

    #[test]
    fn rates_are_of_the_last_five_seconds() {
        let second = |committed, p99_us| Second {
            committed,
            p99_us,
            ..Second::default()
        };
        let mut seconds = vec![second(1_000, 90_000)];
        seconds.extend([second(10, 1_000); 4]);
        seconds.push(second(20, 3_000));
        let rates = Rates::of(&seconds);
        assert_eq!((rates.committed, rates.p99_ms), (12.0, 3.0));
        assert_eq!(Rates::of(&[]), Rates::default());
    }
}
