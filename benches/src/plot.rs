//! Draws the results as SVG that is legible on light and dark pages.
//!
//! Backgrounds stay transparent. Text, axes and grid have a grey that contrasts with both white and black.
//! Lines have mid-tone colours.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::limits::LIMIT;
use crate::peers::REFERENCE;
use crate::record::Record;
use crate::report;

const TEXT: RGBColor = RGBColor(125, 125, 125);

/// Mid-tones: each has a contrast of at least 3 with both white and black.
const COLOURS: [RGBColor; 12] = [
    RGBColor(220, 50, 47),
    RGBColor(38, 139, 210),
    RGBColor(133, 133, 0),
    RGBColor(211, 54, 130),
    RGBColor(42, 141, 135),
    RGBColor(203, 85, 22),
    RGBColor(108, 113, 196),
    RGBColor(90, 140, 40),
    RGBColor(160, 110, 60),
    RGBColor(150, 90, 170),
    RGBColor(70, 130, 110),
    RGBColor(130, 130, 130),
];

/// Draws a chart into `folder` for each kind of work that has figures.
///
/// # Errors
/// A file could not be written.
pub fn draw(folder: &Path, records: &[Record]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let of = |bench: &str| records.iter().filter(|row| row.bench == bench).collect::<Vec<_>>();
    for (bench, title) in [("fan-out", "by reference"), ("fan-out-owned", "owned samples")] {
        let rows = smallest_payload(of(bench));
        let title = format!("Publish, and every subscriber receives ({title}): ns per message");
        Chart {
            title,
            x: "subscribers",
            y: "ns",
            column: |row| row.subscribers,
            label: |count| count.to_string(),
        }
        .lines(&folder.join(format!("{bench}-by-subscribers.svg")), &rows, |row| row.nanoseconds())?;
    }
    let rows = of("fan-out");
    let one: Vec<&Record> = rows.iter().copied().filter(|row| row.subscribers == 1).collect();
    Chart {
        title: "Latency by payload, one subscriber: ns per message".to_owned(),
        x: "payload",
        y: "ns",
        column: |row| row.payload,
        label: report::bytes,
    }
    .lines(&folder.join("latency-by-payload.svg"), &one, |row| row.nanoseconds())?;
    let rows = smallest_payload(rows);
    Chart {
        title: "Throughput by fan-out: million deliveries per second".to_owned(),
        x: "subscribers",
        y: "million/s",
        column: |row| row.subscribers,
        label: |count| count.to_string(),
    }
    .lines(&folder.join("throughput-by-fan-out.svg"), &rows, |row| {
        row.subscribers as f64 * 1000.0 / row.nanoseconds()
    })?;
    for (bench, title) in
        [("guest-delivery", "Delivery to a guest"), ("guest-publish", "Publishing from a guest")]
    {
        Chart {
            title: format!("{title} by payload: ns per message"),
            x: "payload",
            y: "ns",
            column: |row| row.payload,
            label: report::bytes,
        }
        .lines(&folder.join(format!("{bench}-by-payload.svg")), &of(bench), |row| row.nanoseconds())?;
    }
    for (bench, mode, title) in [
        ("payload-build", None, "Building a value"),
        ("payload-read", Some("all of it"), "Reading all of a value"),
        ("payload-read", Some("one element"), "Reading one element of a value"),
        ("payload-read", Some("validation"), "Validating a value"),
    ] {
        let rows: Vec<&Record> = of(bench).into_iter().filter(|row| row.mode.as_deref() == mode).collect();
        let file = [Some(bench), mode].into_iter().flatten().collect::<Vec<_>>().join("-").replace(' ', "-");
        dots(&folder.join(format!("{file}.svg")), &format!("{title}: time in relation to Blockcast"), &rows)?;
    }
    let mut pairs = Vec::new();
    for row in records {
        if let Some(mode) = row.mode.as_deref()
            && row.value.is_none()
            && row.latency_ns.is_none()
        {
            let work = (row.bench.as_str(), mode, row.payload);
            if !pairs.contains(&work) {
                pairs.push(work);
            }
        }
    }
    for (bench, mode, payload) in pairs {
        let rows: Vec<&Record> = records
            .iter()
            .filter(|row| row.bench == bench && row.mode.as_deref() == Some(mode) && row.payload == payload)
            .collect();
        let size = report::bytes(payload);
        let title = format!("{bench}, {mode}, {size}: ns per message");
        let file = format!("{bench}-{mode}-{}.svg", size.replace(' ', "-"));
        bars(&folder.join(file), &title, &rows)?;
    }
    for bench in ["latency", "latency-processes"] {
        for mode in ["spinning", "blocking"] {
            let rows: Vec<&Record> =
                of(bench).into_iter().filter(|row| row.mode.as_deref() == Some(mode)).collect();
            let title = format!("{bench}, {mode}: ns one way, by the share of messages that take longer");
            tails(&folder.join(format!("{bench}-{mode}.svg")), &title, &rows)?;
        }
    }
    Ok(())
}

struct Chart {
    title: String,
    x: &'static str,
    y: &'static str,
    column: fn(&Record) -> usize,
    label: fn(usize) -> String,
}

/// Draws one line per candidate: its latencies by the share of messages that take longer, both logarithmic.
/// Draws nothing without rows.
fn tails(path: &Path, title: &str, rows: &[&Record]) -> anyhow::Result<()> {
    let tail = |row: &Record| row.latency_ns.as_ref().map(|latency| latency.tail.clone()).unwrap_or_default();
    if rows.iter().all(|row| tail(row).is_empty()) {
        return Ok(());
    }
    let (low, high) = range(rows.iter().flat_map(|row| tail(row)).map(|(_, latency)| latency as f64));
    let area = SVGBackend::new(path, (860, 480)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18, &TEXT))
        .margin(12)
        .margin_right(190)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..5.0, (low..high).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("one message in")
        .y_desc("ns")
        .x_labels(6)
        .x_label_formatter(&|&at| format!("{:.0}", 10_f64.powf(at)))
        .y_label_formatter(&|&at| report::number(at))
        .label_style(("sans-serif", 14, &TEXT))
        .axis_desc_style(("sans-serif", 15, &TEXT))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.3))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(failed)?;
    let mut names = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let width = if row.candidate == REFERENCE { 4 } else { 2 };
        let points: Vec<(f64, f64)> =
            tail(row).into_iter().map(|(share, latency)| (-share.log10(), latency as f64)).collect();
        let Some(&end) = points.last() else { continue };
        chart.draw_series(LineSeries::new(points, colour.stroke_width(width))).map_err(failed)?;
        names.push((chart.backend_coord(&end), row.candidate.as_str(), colour));
    }
    name_lines(&area, names)?;
    area.present().map_err(failed)
}

/// Writes each name where its line ends, and moves names apart that would overlap.
fn name_lines(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    mut names: Vec<((i32, i32), &str, RGBColor)>,
) -> anyhow::Result<()> {
    names.sort_by_key(|&((_, y), ..)| y);
    let mut below = i32::MIN;
    for ((x, y), candidate, colour) in names {
        let y = y.max(below);
        below = y + 17;
        area.draw(&Text::new(candidate.to_owned(), (x + 10, y - 7), styled(15, colour))).map_err(failed)?;
    }
    Ok(())
}

impl Chart {
    /// Draws one line per candidate over evenly spaced columns, with logarithmic values. Draws nothing if
    /// there are fewer than two columns.
    fn lines(&self, path: &Path, rows: &[&Record], value: impl Fn(&Record) -> f64) -> anyhow::Result<()> {
        let columns: BTreeSet<usize> = rows.iter().map(|row| (self.column)(row)).collect();
        let columns: Vec<usize> = columns.into_iter().collect();
        if columns.len() < 2 {
            return Ok(());
        }
        let (low, high) = range(rows.iter().map(|row| value(row)));
        let area = SVGBackend::new(path, (860, 480)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20, &TEXT))
            .margin(12)
            .margin_right(190)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..(columns.len() - 1) as f64, (low..high).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(columns.len())
            .x_label_formatter(&|&at| {
                columns.get(at.round() as usize).map_or(String::new(), |&column| (self.label)(column))
            })
            .y_label_formatter(&|&at| report::number(at))
            .label_style(("sans-serif", 14, &TEXT))
            .axis_desc_style(("sans-serif", 15, &TEXT))
            .axis_style(TEXT)
            .bold_line_style(TEXT.mix(0.3))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        let mut names = Vec::new();
        for (index, candidate) in candidates(rows).into_iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let width = if candidate == REFERENCE { 4 } else { 2 };
            let mut points: Vec<(f64, f64)> = rows
                .iter()
                .filter(|row| row.candidate == candidate)
                .map(|row| {
                    (columns.partition_point(|&column| column < (self.column)(row)) as f64, value(row))
                })
                .collect();
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
            let Some(&end) = points.last() else { continue };
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width))).map_err(failed)?;
            chart
                .draw_series(points.iter().map(|&at| Circle::new(at, width + 1, colour.filled())))
                .map_err(failed)?;
            names.push((chart.backend_coord(&end), candidate, colour));
        }
        name_lines(&area, names)?;
        area.present().map_err(failed)
    }
}

/// Draws one horizontal bar per candidate, shortest first, on a logarithmic scale.
fn bars(path: &Path, title: &str, rows: &[&Record]) -> anyhow::Result<()> {
    let mut rows: Vec<&Record> = rows.to_vec();
    rows.sort_by(|one, other| one.nanoseconds().total_cmp(&other.nanoseconds()));
    let (low, high) = range(rows.iter().map(|row| row.nanoseconds()));
    let (left, width, step) = (170, 580.0, 26);
    let area = SVGBackend::new(path, (860, 60 + step * rows.len() as u32)).into_drawing_area();
    area.draw(&Text::new(title, (left, 14), styled(20, TEXT))).map_err(failed)?;
    for (index, row) in rows.iter().enumerate() {
        let top = 48 + (step as usize * index) as i32;
        let part = (row.nanoseconds() / low).ln() / (high / low).ln();
        let end = left + (width * part).max(1.0) as i32;
        let colour = match row.candidate.as_str() {
            REFERENCE => COLOURS[0],
            LIMIT => TEXT,
            _ => COLOURS[1],
        };
        area.draw(&Rectangle::new([(left, top), (end, top + 18)], colour.filled())).map_err(failed)?;
        area.draw(&Text::new(row.candidate.clone(), (10, top + 2), styled(15, TEXT))).map_err(failed)?;
        let figure = report::number(row.nanoseconds());
        area.draw(&Text::new(figure, (end + 6, top + 2), styled(15, TEXT))).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// Draws one line per value with one dot per candidate, placed by its time relative to Blockcast's on a
/// logarithmic scale.
fn dots(path: &Path, title: &str, rows: &[&Record]) -> anyhow::Result<()> {
    let mut values: Vec<&str> = Vec::new();
    for value in rows.iter().filter_map(|row| row.value.as_deref()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    if values.is_empty() {
        return Ok(());
    }
    let (low, high) = range(rows.iter().map(|row| row.ratio));
    let (left, width, step) = (170, 470.0, 34);
    let bottom = 50 + step * values.len() as i32;
    let across = |ratio: f64| left + (width * (ratio / low).ln() / (high / low).ln()) as i32;
    let area = SVGBackend::new(path, (860, bottom as u32 + 30)).into_drawing_area();
    area.draw(&Text::new(title, (left, 14), styled(20, TEXT))).map_err(failed)?;
    for power in -3..=5 {
        let ratio = 10_f64.powi(power);
        if (low..high).contains(&ratio) {
            let x = across(ratio);
            let line = PathElement::new([(x, 44), (x, bottom)], TEXT.mix(if power == 0 { 0.9 } else { 0.3 }));
            area.draw(&line).map_err(failed)?;
            area.draw(&Text::new(format!("{ratio}"), (x - 5, bottom + 8), styled(14, TEXT)))
                .map_err(failed)?;
        }
    }
    for (index, value) in values.iter().enumerate() {
        let y = 62 + step * index as i32;
        area.draw(&Text::new(value.to_string(), (10, y - 7), styled(15, TEXT))).map_err(failed)?;
        area.draw(&PathElement::new([(left, y), (left + width as i32, y)], TEXT.mix(0.3))).map_err(failed)?;
    }
    for (index, candidate) in candidates(rows).into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let radius = if candidate == REFERENCE { 6 } else { 4 };
        for row in rows.iter().filter(|row| row.candidate == candidate && row.ratio > 0.0) {
            let line =
                values.iter().position(|value| Some(*value) == row.value.as_deref()).unwrap_or_default();
            let at = (across(row.ratio), 62 + step * line as i32);
            area.draw(&Circle::new(at, radius, colour.filled())).map_err(failed)?;
        }
        let y = 56 + 20 * index as i32;
        area.draw(&Circle::new((left + 490, y + 6), radius, colour.filled())).map_err(failed)?;
        area.draw(&Text::new(candidate.to_owned(), (left + 505, y), styled(15, colour))).map_err(failed)?;
    }
    area.present().map_err(failed)
}

/// Names in order of first occurrence.
fn candidates<'r>(rows: &[&'r Record]) -> Vec<&'r str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&row.candidate.as_str()) {
            names.push(row.candidate.as_str());
        }
    }
    names
}

/// Range of a logarithmic axis, with room at both ends.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| value.is_finite() && *value > 0.0) {
        low = low.min(value);
        high = high.max(value);
    }
    (low / 1.5, high * 1.5)
}

fn smallest_payload(mut rows: Vec<&Record>) -> Vec<&Record> {
    let least = rows.iter().map(|row| row.payload).min();
    rows.retain(|row| Some(row.payload) == least);
    rows
}

fn styled(size: u32, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}
