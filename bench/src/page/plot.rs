//! Plots as SVG. Text stays text, in whatever sans-serif font the reader has.

use std::collections::BTreeMap;

use anyhow::anyhow;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::combinators::IntoLogRange as _;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::drawing::IntoDrawingArea as _;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color as _, IntoFont as _, RGBColor, WHITE};

use crate::report::Row;
use crate::variants::Kind;

const SIZE: (u32, u32) = (800, 440);
const FONT: &str = "sans-serif";
/// Told apart by colour-blind readers too (Okabe and Ito).
const PALETTE: [RGBColor; 8] = [
    RGBColor(120, 120, 120),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];

/// A named line.
#[derive(Debug, Clone)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// In the order of x.
    pub points: Vec<(f64, f64)>,
    colour: RGBColor,
}

/// A line per variant over the number of clients, both axes logarithmic.
pub fn by_clients(
    rows: &[&Row],
    title: &str,
    value: impl Fn(&Row) -> f64,
) -> anyhow::Result<String> {
    let mut points = BTreeMap::<Kind, Vec<(f64, f64)>>::new();
    for row in rows {
        let point = (row.clients as f64, value(row).max(0.001));
        points.entry(row.variant).or_default().push(point);
    }
    let lines: Vec<Line> = points
        .into_iter()
        .map(|(kind, points)| Line {
            name: kind.name().to_owned(),
            points,
            colour: colour(kind),
        })
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let x = bounds(all().map(|point| point.0), 1.1);
    let y = bounds(all().map(|point| point.1), 1.3);
    draw(
        ((x.0..x.1).log_scale(), (y.0..y.1).log_scale()),
        ("clients", title),
        &lines,
    )
}

/// Lines over minutes; the value axis begins at 0.
pub fn over_time(series: &[(String, Vec<(f64, f64)>)], title: &str) -> anyhow::Result<String> {
    let lines: Vec<Line> = series
        .iter()
        .enumerate()
        .map(|(index, (name, points))| Line {
            name: name.clone(),
            points: points.clone(),
            // From the strong ones at the palette's end.
            colour: PALETTE[(index + 3) % PALETTE.len()],
        })
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let end = bounds(all().map(|point| point.0), 1.0).1;
    // Room for the legend above the lines.
    let highest = bounds(all().map(|point| point.1), 1.6).1;
    draw((0.0..end, 0.0..highest), ("minutes", title), &lines)
}

/// Two bars per variant: the median and the 99th percentile of latency.
pub fn latencies(rows: &[&Row]) -> anyhow::Result<String> {
    let highest = rows.iter().map(|row| row.p99_ms).fold(0.001, f64::max) * 1.25;
    let width = rows.len().max(1) as f64;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..width, 0.0..highest)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(WHITE)
            .y_desc("latency in ms at half load")
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .draw()
            .map_err(failed)?;
        let centred = (FONT, 14)
            .into_font()
            .color(&BLACK)
            .pos(Pos::new(HPos::Center, VPos::Bottom));
        for (row, left) in rows.iter().zip(0..) {
            let left = f64::from(left);
            let name = Text::new(
                row.variant.name(),
                (left + 0.5, highest * 0.95),
                centred.clone(),
            );
            chart.draw_series([name]).map_err(failed)?;
            for (what, value, from, strength) in [
                ("p50", row.p50_ms, 0.15, 0.5),
                ("p99", row.p99_ms, 0.52, 1.0),
            ] {
                let (from, to) = (left + from, left + from + 0.33);
                let fill = colour(row.variant).mix(strength).filled();
                let bar = Rectangle::new([(from, 0.0), (to, value)], fill);
                chart.draw_series([bar]).map_err(failed)?;
                let label = format!("{what} {value:.1}");
                let middle = (f64::midpoint(from, to), value);
                let label = Text::new(label, middle, centred.clone());
                chart.draw_series([label]).map_err(failed)?;
            }
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn draw<X, Y>(axes: (X, Y), titles: (&str, &str), lines: &[Line]) -> anyhow::Result<String>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(axes.0, axes.1)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.15))
            .x_desc(titles.0)
            .y_desc(titles.1)
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()
            .map_err(failed)?;
        for line in lines {
            let stroke = line.colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), stroke))
                .map_err(failed)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], stroke));
            let dots = line.points.iter();
            chart
                .draw_series(dots.map(|point| Circle::new(*point, 3, line.colour.filled())))
                .map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font((FONT, 14))
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// From the lowest to the highest value, with room around them.
fn bounds(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| {
        (low.min(value), high.max(value))
    });
    if high <= 0.0 {
        return (1.0, 10.0);
    }
    // An axis without length cannot be drawn.
    let high = if high > low { high } else { low * 2.0 };
    (low / room, high * room)
}

fn colour(kind: Kind) -> RGBColor {
    let position = Kind::ALL.iter().position(|each| *each == kind);
    PALETTE[position.unwrap_or(0) % PALETTE.len()]
}

fn short(value: f64) -> String {
    match value {
        large if large >= 10_000.0 => format!("{:.0}k", large / 1000.0),
        whole if whole >= 10.0 || (whole - whole.round()).abs() < 0.001 => format!("{whole:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
