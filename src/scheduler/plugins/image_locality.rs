//! ImageLocality: a node that has the images already is better, the more of them the larger they
//! are and the more nodes have them.

use super::{MAX_SCORE, Prepared, Row};
use crate::runtime::views::Pod;
use crate::scheduler::cache::NodeInfo;
use crate::scheduler::cycle::Cycle;
use std::collections::HashMap;

pub const ROW: Row = Row { name: "ImageLocality", weight: 1, prepare, events: &[] };

/// Bytes: below the first nothing counts, above the second (per container) nothing more.
const MIN: i64 = 23 << 20;
const MAX_PER_CONTAINER: i64 = 1000 << 20;

struct ImageLocality {
    images: Vec<String>,
    /// Image to the number of nodes that have it.
    spread: HashMap<String, usize>,
    nodes: usize,
}

/// As node status names images: with a tag.
fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

fn size(info: &NodeInfo, image: &str) -> Option<i64> {
    let has = info.node.images.iter().find(|own| own.names.iter().any(|name| **name == *image))?;
    Some(has.size_bytes)
}

fn images(pod: &Pod) -> Vec<String> {
    pod.containers.iter().map(|container| normalized(&container.image)).collect()
}

fn prepare<'a>(cycle: &Cycle<'a>) -> Option<Box<dyn Prepared + 'a>> {
    let nodes = &cycle.snapshot.nodes;
    // On one node there is nothing to prefer.
    if nodes.len() < 2 {
        return None;
    }
    let images = images(cycle.pod);
    let spread = images
        .iter()
        .map(|image| (image.clone(), nodes.iter().filter(|info| size(info, image).is_some()).count()))
        .collect();
    Some(Box::new(ImageLocality { images, spread, nodes: nodes.len() }))
}

impl Prepared for ImageLocality {
    fn score(&self, info: &NodeInfo) -> i64 {
        let sum: i64 = self
            .images
            .iter()
            .filter_map(|image| {
                let spread = *self.spread.get(image)? as f64 / self.nodes as f64;
                Some((size(info, image)? as f64 * spread) as i64)
            })
            .sum();
        let max = MAX_PER_CONTAINER * self.images.len() as i64;
        MAX_SCORE * (sum.clamp(MIN, max.max(MIN)) - MIN) / (max - MIN).max(1)
    }
}
