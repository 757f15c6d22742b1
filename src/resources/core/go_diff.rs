//! What changed, as Kubernetes shows it in an error: the lines that differ between two values, each
//! written as JSON with the names and in the order of Go's struct.
//!
//! A struct is told in a line: `Name` a string, `Lun#` a number, `ReadOnly!` a truth, `Type?` null where
//! it is absent, `Resources{…}` a struct, `HostPath?{…}` one that may be absent, `Ports~?` with Go's names
//! below. `FSType:fsType` is a name that JSON spells otherwise. Source: `k8s.io/apimachinery/pkg/util/diff`.

use crate::api::Fields;
use serde_json::Value;
use std::ops::Range;

pub const CLAIM: &str = "AccessModes? Selector? Resources{Limits? Requests?} VolumeName StorageClassName? VolumeMode? \
    DataSource?{APIGroup:apiGroup? Kind Name} DataSourceRef?{APIGroup:apiGroup? Kind Name Namespace?} \
    VolumeAttributesClassName?";

pub const VOLUME_SOURCE: &str = "GCEPersistentDisk:gcePersistentDisk~? AWSElasticBlockStore:awsElasticBlockStore~? \
    HostPath?{Path Type?} Glusterfs~? NFS:nfs?{Server Path ReadOnly!} RBD:rbd~? Quobyte~? \
    ISCSI:iscsi?{TargetPortal IQN:iqn Lun# ISCSIInterface:iscsiInterface FSType:fsType ReadOnly! Portals? \
    DiscoveryCHAPAuth:chapAuthDiscovery! SessionCHAPAuth:chapAuthSession! SecretRef?{Name Namespace} InitiatorName?} \
    FlexVolume~? Cinder~? CephFS:cephfs~? FC:fc?{TargetWWNs:targetWWNs? Lun? FSType:fsType ReadOnly! WWIDs:wwids?} \
    Flocker~? AzureFile~? VsphereVolume~? AzureDisk~? PhotonPersistentDisk~? PortworxVolume~? ScaleIO~? \
    Local?{Path FSType:fsType?} StorageOS:storageos~? \
    CSI:csi?{Driver VolumeHandle ReadOnly! FSType:fsType VolumeAttributes? ControllerPublishSecretRef?{Name Namespace} \
    NodeStageSecretRef?{Name Namespace} NodePublishSecretRef?{Name Namespace} \
    ControllerExpandSecretRef?{Name Namespace} NodeExpandSecretRef?{Name Namespace}}";

pub const EPHEMERAL_CONTAINER: &str = "Name Image Command? Args? WorkingDir Ports~? EnvFrom~? Env~? \
    Resources{Limits? Requests? Claims~?} ResizePolicy~? RestartPolicy? RestartPolicyRules~? VolumeMounts~? \
    VolumeDevices~? LivenessProbe~? ReadinessProbe~? StartupProbe~? Lifecycle~? TerminationMessagePath \
    TerminationMessagePolicy ImagePullPolicy SecurityContext~? Stdin! StdinOnce! TTY:tty! TargetContainerName";

/// The lines that differ, three around them.
pub fn difference(old: &Value, new: &Value, layout: &str) -> String {
    unified(&print(old, layout), &print(new, layout))
}

fn print(value: &Value, layout: &str) -> String {
    let mut out = String::new();
    let mut rest = layout;
    structure(value, &mut rest, 0, &mut out);
    out
}

fn new_line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth));
}

/// The fields of a layout up to its end or its closing brace.
fn structure(value: &Value, rest: &mut &str, depth: usize, out: &mut String) {
    out.push('{');
    let mut first = true;
    loop {
        *rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('}') {
            *rest = rest.strip_prefix('}').unwrap_or(rest);
            break;
        }
        let end = rest.find([' ', '{', '}']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        *rest = tail;
        let spelling = word.trim_end_matches(['#', '!', '?', '~']);
        let (name, json) = match spelling.split_once(':') {
            Some((name, json)) => (name, json.to_owned()),
            None => (spelling, lower_first(spelling)),
        };
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        new_line(depth + 1, out);
        out.push_str(&format!("\"{name}\": "));
        field(value.at(&json), &word[spelling.len()..], rest, depth + 1, out);
    }
    if !first {
        new_line(depth, out);
    }
    out.push('}');
}

fn field(value: &Value, marks: &str, rest: &mut &str, depth: usize, out: &mut String) {
    let absent = value.is_null() && marks.contains('?');
    if let Some(inner) = rest.strip_prefix('{') {
        *rest = inner;
        // An absent one is read over all the same.
        let mut text = String::new();
        structure(value, rest, depth, &mut text);
        out.push_str(if absent { "null" } else { &text });
    } else if absent {
        out.push_str("null");
    } else if value.is_null() {
        out.push_str(match marks {
            "#" => "0",
            "!" => "false",
            _ => "\"\"",
        });
    } else {
        plain(value, marks.contains('~'), depth, out);
    }
}

/// A value as it is, its names as Go has them or not.
fn plain(value: &Value, renamed: bool, depth: usize, out: &mut String) {
    let many = |count: usize, open: char, close: char, out: &mut String, each: &mut dyn FnMut(usize, &mut String)| {
        out.push(open);
        for index in 0..count {
            if index > 0 {
                out.push(',');
            }
            new_line(depth + 1, out);
            each(index, out);
        }
        if count > 0 {
            new_line(depth, out);
        }
        out.push(close);
    };
    match value {
        Value::Array(items) => {
            many(items.len(), '[', ']', out, &mut |index, out| plain(&items[index], renamed, depth + 1, out));
        }
        Value::Object(fields) => {
            let fields: Vec<(&String, &Value)> = fields.iter().collect();
            many(fields.len(), '{', '}', out, &mut |index, out| {
                let (name, value) = fields[index];
                let name = if renamed { upper_first(name) } else { name.clone() };
                out.push_str(&format!("{}: ", Value::String(name)));
                plain(value, renamed, depth + 1, out);
            });
        }
        // Go's encoder is careful with HTML.
        Value::String(_) => {
            let text = value.to_string();
            out.push_str(&text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
        }
        other => out.push_str(&other.to_string()),
    }
}

fn lower_first(name: &str) -> String {
    name[..1].to_lowercase() + &name[1..]
}

fn upper_first(name: &str) -> String {
    match name.get(..1) {
        Some(first) => first.to_uppercase() + &name[1..],
        None => String::new(),
    }
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
                "@@ -1,12 +1,12 @@\n",
                " {\n  \"Name\": \"e\",\n- \"Image\": \"x\",\n+ \"Image\": \"y\",\n",
                "  \"Command\": null,\n  \"Args\": null,\n  \"WorkingDir\": \"\",\n  \"Ports\": [\n   {\n",
                "-   \"ContainerPort\": 1\n+   \"ContainerPort\": 2\n",
                "   }\n  ],\n  \"EnvFrom\": null,\n",
            )
        );
        assert_eq!(
            difference(&path("a"), &json!({}), VOLUME_SOURCE).lines().filter(|line| line.starts_with('+')).count(),
            1
        );
        assert_eq!(difference(&path("a"), &path("a"), VOLUME_SOURCE), "");
    }
}
