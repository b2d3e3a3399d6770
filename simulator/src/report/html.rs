//! The page.

use super::Report;

/// The report as a page.
pub fn html(report: &Report) -> String {
    let text = super::summary(report).replace('&', "&amp;").replace('<', "&lt;");
    format!("<!doctype html><meta charset=\"utf-8\"><title>{}</title><pre>{text}</pre>", report.name)
}
