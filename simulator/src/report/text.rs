//! The summary for a terminal.

use std::fmt::Write as _;

use super::Report;
use crate::load::Percentiles;

/// A few lines that tell what came of the run.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string can't fail.
    let _ = write_summary(&mut text, report);
    text
}

fn write_summary(text: &mut String, report: &Report) -> std::fmt::Result {
    let totals = &report.totals;
    writeln!(text, "\n{}, seed {}, {}", report.name, report.seed, seconds(report.end_ms))?;
    writeln!(
        text,
        "{} payments, {} accepted, {} final, {} ended otherwise, {} open, {} asked for again; at most {} final in a second",
        totals.intended,
        totals.accepted,
        totals.finalized,
        totals.ended_otherwise,
        totals.open,
        totals.retried,
        totals.peak_per_second
    )?;
    writeln!(
        text,
        "\n{:<10}{:>9}{:>11}{:>11}{:>11}{:>11}{:>13}",
        "to final", "payments", "p50", "p90", "p99", "max", "answer p99"
    )?;
    for chain in &report.chains {
        let intended: u64 = chain.intended.iter().sum();
        let Percentiles { p50, p90, p99, max, .. } = chain.overall.unwrap_or_default();
        let answer = chain.answer.map_or_else(|| "-".to_owned(), |answer| seconds(answer.p99));
        let [p50, p90, p99, max] =
            [p50, p90, p99, max].map(|time| if chain.overall.is_some() { seconds(time) } else { "-".to_owned() });
        writeln!(text, "{:<10}{intended:>9}{p50:>11}{p90:>11}{p99:>11}{max:>11}{answer:>13}", chain.chain.name())?;
    }
    if !report.faults.is_empty() {
        writeln!(text)?;
    }
    for fault in &report.faults {
        let to = match fault.to_ms {
            Some(to) if to == fault.from_ms => String::new(),
            Some(to) => format!(" to {}", seconds(to)),
            None => " to the end".to_owned(),
        };
        writeln!(
            text,
            "fault     {}: {} at {}, from {}{to}, struck {} times",
            fault.name,
            fault.what,
            fault.place,
            seconds(fault.from_ms),
            fault.strikes
        )?;
    }
    if !report.verdicts.is_empty() {
        writeln!(text)?;
    }
    for verdict in &report.verdicts {
        let mark = if verdict.holds { "ok    " } else { "FAILED" };
        writeln!(text, "{mark}  {:<13} {}", verdict.claim.name(), verdict.found)?;
        for case in &verdict.against {
            writeln!(text, "          {case}")?;
        }
    }
    if !report.holds() {
        writeln!(text, "\nagain: {}", report.command)?;
    }
    Ok(())
}

/// Milliseconds as seconds, or as they are where they are few.
pub fn seconds(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..100_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} s", millis / 1_000),
    }
}
