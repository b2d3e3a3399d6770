//! The page: one file, with its style, its charts and its little script in it, for screens light and dark and for paper.

use std::fmt::Write as _;

use serde_json::json;

use super::chart::{self, escape};
use super::text::seconds;
use super::{ChainReport, Report};
use crate::load::Percentiles;
use crate::scenario::Verdict;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// A gate with bars.
const MARK: &str = "<svg viewBox=\"0 0 18 18\" aria-hidden=\"true\"><path d=\"M2 17V7a7 7 0 0 1 14 0v10M6 3.5V17M9 2v15M12 3.5V17M2 8h14M2 \
                    12.5h14\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.5\"/></svg>";
const TICK: &str = "<svg class=\"mark good-ink\" viewBox=\"0 0 18 18\" role=\"img\" aria-label=\"holds\"><circle cx=\"9\" cy=\"9\" r=\"8\" \
                    fill=\"none\" stroke=\"currentColor\" stroke-width=\"1.4\"/><path d=\"M5.4 9.3l2.5 2.5 4.8-5.4\" fill=\"none\" \
                    stroke=\"currentColor\" stroke-width=\"1.7\"/></svg>";
const CROSS: &str = "<svg class=\"mark bad-ink\" viewBox=\"0 0 18 18\" role=\"img\" aria-label=\"fails\"><circle cx=\"9\" cy=\"9\" r=\"8\" \
                     fill=\"currentColor\"/><path d=\"M6 6l6 6M12 6l-6 6\" stroke=\"var(--card)\" stroke-width=\"1.8\"/></svg>";

/// The report as a page.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    // Writing into a string can't fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(page: &mut String, report: &Report) -> std::fmt::Result {
    let verdict = if report.verdicts.is_empty() {
        ""
    } else if report.holds() {
        "passed: "
    } else {
        "failed: "
    };
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{verdict}{name}, seed {seed}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        name = escape(&report.name),
        seed = report.seed
    )?;
    header(page, report)?;
    claims(page, &report.verdicts)?;
    tiles(page, report)?;
    over_time(page, report)?;
    stages(page, report)?;
    failures(page, report)?;
    write!(
        page,
        "<footer>{} payments, set <code>{}</code>: equal seeds give equal sets. Latencies count from the moment that a payment was due, \
         whether it could be sent then or not.</footer>\n</main>\n<div class=\"tip\"></div>\n\
         <script type=\"application/json\" id=\"data\">{}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        report.totals.intended,
        escape(&report.orders_digest),
        data(report)
    )
}

/// What the script shows under the pointer.
fn data(report: &Report) -> String {
    let chain = |chain: &ChainReport| {
        json!({
            "chain": chain.chain, "intended": chain.intended, "finalized": chain.finalized, "latency": chain.latency,
        })
    };
    let faults = report
        .faults
        .iter()
        .map(|fault| json!({ "name": fault.name, "what": fault.what, "from_ms": fault.from_ms, "to_ms": fault.to_ms }));
    let data = json!({
        "width": chart::WIDTH,
        "left": chart::LEFT,
        "right": chart::RIGHT,
        "end_ms": report.end_ms,
        "step_ms": report.step_ms,
        "steps": report.chains.first().map_or(0, |chain| chain.intended.len()),
        "chains": report.chains.iter().map(chain).collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
    });
    // Nothing in it may end the element that it is in.
    data.to_string().replace('<', "\\u003c")
}

fn header(page: &mut String, report: &Report) -> std::fmt::Result {
    write!(
        page,
        "<div class=\"brand\">{MARK}<span>Portcullis</span><span>{}</span></div>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
        date(report.began_unix_ms),
        escape(&report.name),
        escape(&report.about)
    )?;
    let totals = &report.totals;
    let (all, failed) = (report.verdicts.len(), report.verdicts.iter().filter(|verdict| !verdict.holds).count());
    if all > 0 {
        let (class, word, told) = match failed {
            0 => ("good", "Passed", format!("All {all} claims hold.")),
            1 => ("bad", "Failed", format!("One of {all} claims doesn’t hold.")),
            failed => ("bad", "Failed", format!("{failed} of {all} claims don’t hold.")),
        };
        writeln!(
            page,
            "<div class=\"banner {class}\">{word}<small>{told} {} of {} payments are final.</small></div>",
            totals.finalized, totals.intended
        )?;
    } else {
        writeln!(
            page,
            "<div class=\"banner good\">{} of {} payments are final</div>",
            totals.finalized, totals.intended
        )?;
    }
    page.push_str("<dl class=\"facts\">");
    let mut fact =
        |name: &str, value: &str| write!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    fact("Seed", &report.seed.to_string())?;
    fact("Lasted", &seconds(report.end_ms))?;
    let others = totals.ended_otherwise.saturating_add(totals.open);
    let again = if totals.retried == 0 { String::new() } else { format!(", {} asked for again", totals.retried) };
    fact("Payments", &format!("{} final, {others} not{again}", totals.finalized))?;
    fact("Busiest second", &format!("{} became final", totals.peak_per_second))?;
    for known in &report.facts {
        let mut name = known.name.clone();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        fact(&name, &known.value)?;
    }
    let command = escape(&report.command);
    write!(
        page,
        "</dl>\n<div class=\"command\"><code>{command}</code><button data-copy=\"{command}\">Copy</button></div>\n"
    )
}

fn claims(page: &mut String, verdicts: &[Verdict]) -> std::fmt::Result {
    if verdicts.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>What must hold</h2>\n<ul class=\"claims card\">\n");
    // What failed comes first.
    let (held, failed): (Vec<&Verdict>, Vec<&Verdict>) = verdicts.iter().partition(|verdict| verdict.holds);
    for verdict in failed.into_iter().chain(held) {
        let mark = if verdict.holds { TICK } else { CROSS };
        write!(
            page,
            "<li>{mark}<div class=\"says\">{}</div><div class=\"found\">{}</div>",
            verdict.claim.says(),
            escape(&verdict.found)
        )?;
        if !verdict.against.is_empty() {
            page.push_str("<ul class=\"against\">");
            for case in &verdict.against {
                write!(page, "<li>{}</li>", escape(case))?;
            }
            page.push_str("</ul>");
        }
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n");
    Ok(())
}

fn tiles(page: &mut String, report: &Report) -> std::fmt::Result {
    page.push_str(
        "<h2>From the moment it was due until it was final</h2>\n<p class=\"note\">Finality by each chain’s own rules.</p>\n<div class=\"tiles\">\n",
    );
    for chain in &report.chains {
        let count: u64 = chain.intended.iter().sum();
        write!(
            page,
            "<div class=\"card tile c-{name}\"><span class=\"many\">{count} payments</span><h3>{name}</h3><dl>",
            name = chain.chain
        )?;
        let Percentiles { p50, p90, p99, max, .. } = chain.overall.unwrap_or_default();
        for (name, time) in [("p50", p50), ("p90", p90), ("p99", p99), ("max", max)] {
            let shown = if chain.overall.is_some() { seconds(time) } else { "–".to_owned() };
            let (number, unit) = shown.split_once(' ').unwrap_or((&shown, ""));
            write!(page, "<dt>{name}</dt><dd>{number}<small>{unit}</small></dd>")?;
        }
        page.push_str("</dl></div>\n");
    }
    page.push_str("</div>\n");
    Ok(())
}

fn over_time(page: &mut String, report: &Report) -> std::fmt::Result {
    page.push_str("<h2>Over time</h2>\n<p class=\"note\">All charts share one time axis");
    page.push_str(if report.faults.is_empty() { ".</p>\n" } else { "; what is shaded had a fault in it.</p>\n" });
    if report.chains.len() > 1 {
        page.push_str("<div class=\"legend\">");
        for chain in &report.chains {
            write!(
                page,
                "<button class=\"c-{name}\" data-chain=\"{name}\" aria-pressed=\"true\"><i></i>{name}</button>",
                name = chain.chain
            )?;
        }
        page.push_str("</div>\n");
    }
    if !report.faults.is_empty() {
        page.push_str("<div class=\"card chart\"><h3>Faults</h3>");
        chart::faults(page, report)?;
        page.push_str("</div>\n");
    }
    let step = seconds(report.step_ms).replace(".0", "");
    write!(
        page,
        "<div class=\"card chart\"><h3>Payments in every {step} <span>bars: became final; line: were due</span></h3>"
    )?;
    chart::throughput(page, report)?;
    page.push_str("</div>\n");
    for chain in &report.chains {
        let key = |class: &str, name: &str| {
            format!(
                "<em><svg viewBox=\"0 0 22 8\" aria-hidden=\"true\"><path class=\"{class}\" d=\"M1 4H21\"/></svg>{name}</em>"
            )
        };
        write!(
            page,
            "<div class=\"card chart c-{name} toggled\"><h3>{title}, time to finality <span>by the moment it was due</span>{}{}{}</h3>",
            key("p50", "p50"),
            key("p90", "p90"),
            key("p99", "p99"),
            name = chain.chain,
            title = titled(chain.chain.name()),
        )?;
        chart::latency(page, report, chain)?;
        page.push_str("</div>\n");
    }
    Ok(())
}

fn stages(page: &mut String, report: &Report) -> std::fmt::Result {
    page.push_str(
        "<h2>Where the time goes</h2>\n<p class=\"note\">A payment’s stages, one after the other. Half of the payments took at most the bar, \
         nine in ten at most the line behind it.</p>\n",
    );
    for chain in report.chains.iter().filter(|chain| !chain.stages.is_empty()) {
        write!(page, "<div class=\"card chart c-{} toggled\"><h3>{}</h3>", chain.chain, titled(chain.chain.name()))?;
        chart::stages(page, chain, chart::stages_end(chain))?;
        page.push_str("</div>\n");
    }
    Ok(())
}

fn failures(page: &mut String, report: &Report) -> std::fmt::Result {
    page.push_str("<h2>Payments that didn’t end as they should</h2>\n");
    if report.failures.is_empty() {
        page.push_str("<div class=\"card none\">None.</div>\n");
        return Ok(());
    }
    page.push_str(
        "<div class=\"card wide\"><table>\n<tr><th>Due</th><th>Chain</th><th>What</th><th>State</th><th>Why</th><th>Record</th>\
         <th>Transaction</th></tr>\n",
    );
    for failure in &report.failures {
        writeln!(
            page,
            "<tr><td class=\"num\">{}</td><td>{}</td><td class=\"id\">{}<br>{}</td><td>{}</td><td>{}</td><td class=\"id\">{}</td>\
             <td class=\"id\">{}</td></tr>",
            seconds(failure.at_ms),
            failure.chain,
            escape(&failure.key),
            escape(&failure.what),
            escape(&failure.state),
            escape(&failure.reason),
            escape(failure.record.as_deref().unwrap_or("none")),
            escape(failure.transaction.as_deref().unwrap_or("none")),
        )?;
    }
    page.push_str("</table></div>\n");
    Ok(())
}

/// A name with a capital letter.
fn titled(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

/// A moment of the Gregorian calendar in UTC (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms % 86_400_000 / 1_000);
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era.saturating_sub(365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year.saturating_sub((153 * month_from_march + 2) / 5).saturating_add(1);
    let (month, next) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    let year = year_of_era + era * 400 + next;
    let (hour, minute) = (seconds / 3_600, seconds % 3_600 / 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_399_000), "2000-02-28 23:59 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599_000), "2024-12-31 23:59 UTC");
        assert_eq!(date(4_102_444_800_000), "2100-01-01 00:00 UTC");
    }
}
