//! What changed, as Kubernetes shows it in an error: the lines that differ between two values, each
//! written as JSON with the names and in the order of Go's struct. Source: `k8s.io/apimachinery/pkg/util/diff`.

use crate::api::GroupVersionKind;
use crate::schema;
use serde_json::Value;
use std::ops::Range;

/// The type of a value: a kind of core, the path to a field, and a struct embedded there or nothing.
pub type Place = (&'static str, &'static [&'static str], &'static str);

pub const CLAIM: Place = ("PersistentVolumeClaim", &["spec"], "");
pub const VOLUME_SOURCE: Place = ("PersistentVolume", &["spec"], "PersistentVolumeSource");
pub const POD: Place = ("Pod", &["spec"], "");
pub const EPHEMERAL_CONTAINER: Place = ("Pod", &["spec", "ephemeralContainers", "0"], "");

/// The lines that differ, three around them.
pub fn difference(old: &Value, new: &Value, place: Place) -> String {
    unified(&print(old, place), &print(new, place))
}

fn print(value: &Value, (kind, path, embedded): Place) -> String {
    let shown = schema::builtin_schema(&GroupVersionKind::new("", "v1", kind)).and_then(|schema| {
        let field = schema.at_steps(path.iter().copied())?;
        if embedded.is_empty() { schema.shown(field, value) } else { schema.shown_embedded(field, embedded, value) }
    });
    indented(&shown.unwrap_or_default())
}

/// Compact JSON, a line for each entry.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let new_line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    };
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '{' | '[' if matches!(characters.peek(), Some('}' | ']')) => {
                out.push(c);
                out.extend(characters.next());
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                new_line(depth, &mut out);
            }
            '}' | ']' => {
                depth -= 1;
                new_line(depth, &mut out);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(depth, &mut out);
            }
            ':' => out.push_str(": "),
            c => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

const CONTEXT: usize = 3;

/// Lines of both that are the same, as ranges in both.
type Block = (Range<usize>, Range<usize>);

fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut same = Vec::new();
    blocks(&old, &new, (0..old.len(), 0..new.len()), &mut same);
    same.push((old.len()..old.len(), new.len()..new.len()));
    // What lies between the blocks has changed.
    let mut changes: Vec<Block> = Vec::new();
    let (mut a, mut b) = (0, 0);
    for (left, right) in &same {
        if a < left.start || b < right.start {
            changes.push((a..left.start, b..right.start));
        }
        (a, b) = (left.end, right.end);
    }
    let mut out = String::new();
    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        let near = |pair: &[Block]| pair[1].0.start - pair[0].0.end <= 2 * CONTEXT;
        let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (hunk, later) = rest.split_at(count);
        rest = later;
        write_hunk(&old, &new, hunk, &mut out);
    }
    out
}

fn write_hunk(old: &[&str], new: &[&str], hunk: &[Block], out: &mut String) {
    let (first, last) = (&hunk[0], &hunk[hunk.len() - 1]);
    let before = first.0.start.min(first.1.start).min(CONTEXT);
    let after = (old.len() - last.0.end).min(CONTEXT);
    let (from, to) = (first.0.start - before..last.0.end + after, first.1.start - before..last.1.end + after);
    out.push_str(&format!("@@ -{} +{} @@\n", spelled(&from), spelled(&to)));
    let mut at = from.start;
    let mut put = |sign: char, line: &str| {
        out.push(sign);
        out.push_str(line);
        out.push('\n');
    };
    for (left, right) in hunk {
        old[at..left.start].iter().for_each(|line| put(' ', line));
        old[left.clone()].iter().for_each(|line| put('-', line));
        new[right.clone()].iter().for_each(|line| put('+', line));
        at = left.end;
    }
    old[at..from.end].iter().for_each(|line| put(' ', line));
}

fn spelled(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => (range.start + 1).to_string(),
        length => format!("{},{length}", range.start + 1),
    }
}

/// The longest run of lines that both have, and those before and after it.
fn blocks(old: &[&str], new: &[&str], within: Block, found: &mut Vec<Block>) {
    let (left, right) = within;
    let mut best = (left.start, right.start, 0);
    for a in left.clone() {
        for b in right.clone() {
            let length =
                (0..(left.end - a).min(right.end - b)).take_while(|step| old[a + step] == new[b + step]).count();
            if length > best.2 {
                best = (a, b, length);
            }
        }
    }
    let (a, b, length) = best;
    if length == 0 {
        return;
    }
    blocks(old, new, (left.start..a, right.start..b), found);
    found.push((a..a + length, b..b + length));
    blocks(old, new, (a + length..left.end, b + length..right.end), found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_are_shown_with_the_lines_around_them() {
        let claim = |size: &str| json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } }, "storageClassName": "gold" });
        assert_eq!(
            difference(&claim("1Gi"), &claim("2Gi"), CLAIM),
            concat!(
                "@@ -6,7 +6,7 @@\n",
                "  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n",
                "-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\"\n",
                "   }\n  },\n  \"VolumeName\": \"\",\n",
            )
        );
        let path = |path: &str| json!({ "hostPath": { "path": path, "type": "" } });
        assert_eq!(
            difference(&path("/tmp/x"), &path("changed"), VOLUME_SOURCE),
            concat!(
                "@@ -2,7 +2,7 @@\n",
                "  \"GCEPersistentDisk\": null,\n  \"AWSElasticBlockStore\": null,\n  \"HostPath\": {\n",
                "-  \"Path\": \"/tmp/x\",\n+  \"Path\": \"changed\",\n",
                "   \"Type\": \"\"\n  },\n  \"Glusterfs\": null,\n",
            )
        );
        let container =
            |image: &str, port: i64| json!({ "name": "e", "image": image, "ports": [{ "containerPort": port }] });
        assert_eq!(
            difference(&container("x", 1), &container("y", 2), EPHEMERAL_CONTAINER),
            concat!(
                "@@ -1,6 +1,6 @@\n",
                " {\n  \"Name\": \"e\",\n- \"Image\": \"x\",\n+ \"Image\": \"y\",\n",
                "  \"Command\": null,\n  \"Args\": null,\n  \"WorkingDir\": \"\",\n",
                "@@ -8,7 +8,7 @@\n",
                "   {\n    \"Name\": \"\",\n    \"HostPort\": 0,\n",
                "-   \"ContainerPort\": 1,\n+   \"ContainerPort\": 2,\n",
                "    \"Protocol\": \"\",\n    \"HostIP\": \"\"\n   }\n",
            )
        );
        assert_eq!(
            difference(&path("a"), &json!({}), VOLUME_SOURCE).lines().filter(|line| line.starts_with('+')).count(),
            1
        );
        assert_eq!(difference(&path("a"), &path("a"), VOLUME_SOURCE), "");
    }
}
