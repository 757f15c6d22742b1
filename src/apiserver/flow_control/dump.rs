//! `/debug/api_priority_and_fairness/`: the levels and their queues at the moment, as tables in text.

use super::FlowControl;
use std::fmt::Write;
use std::sync::Arc;

/// The page of a path; None: there is none.
pub fn page(control: &FlowControl, path: &str) -> Option<String> {
    match path.strip_prefix("/debug/api_priority_and_fairness/")? {
        "dump_priority_levels" => Some(levels(control)),
        "dump_queues" => Some(queues(control)),
        _ => None,
    }
}

fn levels(control: &FlowControl) -> String {
    const HEAD: [&str; 10] = [
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ];
    let snapshot = control.snapshot.load();
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for (level, _) in &snapshot.levels {
        let of_level = || snapshot.schemas.iter().filter(|schema| Arc::ptr_eq(&schema.level, level));
        let executing: i64 = of_level().map(|schema| schema.series.executing.get()).sum();
        let dispatched: u64 = of_level().map(|schema| schema.series.dispatched.get()).sum();
        let queues = level.queues();
        let waiting: usize = queues.iter().map(|queue| queue.waiting).sum();
        let refused = level.refused();
        rows.push(vec![
            level.name.clone(),
            queues.iter().filter(|queue| queue.waiting > 0).count().to_string(),
            (waiting == 0 && executing == 0).to_string(),
            "false".to_owned(),
            waiting.to_string(),
            executing.to_string(),
            dispatched.to_string(),
            refused.rejected.to_string(),
            refused.timed_out.to_string(),
            refused.cancelled.to_string(),
        ]);
    }
    rows[1..].sort();
    table(&rows)
}

fn queues(control: &FlowControl) -> String {
    const HEAD: [&str; 9] = [
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ];
    let snapshot = control.snapshot.load();
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for (level, _) in &snapshot.levels {
        for (index, queue) in level.queues().iter().enumerate() {
            rows.push(vec![
                level.name.clone(),
                index.to_string(),
                queue.waiting.to_string(),
                queue.executing.to_string(),
                queue.seats_in_use.to_string(),
                format!("{:.8}ss", queue.next_dispatch),
                queue.waiting_seats.to_string(),
                queue.waiting_seats.to_string(),
                format!("{:.8}ss", queue.waiting_work),
            ]);
        }
    }
    table(&rows)
}

/// Columns with commas between them, as wide as their widest cell and eight characters at least.
fn table(rows: &[Vec<String>]) -> String {
    const LEAST: usize = 8;
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
        (widest + ", ".len()).max(LEAST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let written = match column + 1 == columns {
                true => writeln!(out, "{cell}"),
                false => write!(out, "{:width$}", format!("{cell},"), width = widths[column]),
            };
            written.expect("a String takes it");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [["PriorityLevelName", "IsIdle", "Last"], ["catch-all", "true", "0"], ["exempt", "false", "12"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        expect![[r#"
            PriorityLevelName, IsIdle, Last
            catch-all,         true,   0
            exempt,            false,  12
        "#]]
        .assert_eq(&table(&rows));
    }
}
