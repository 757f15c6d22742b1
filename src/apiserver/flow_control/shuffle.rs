//! Shuffle sharding: a flow is dealt a hand of queues, the same at each request.

use sha2::{Digest, Sha256};

/// What a flow is known by.
pub fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(schema);
    hash.update([0]);
    hash.update(distinguisher);
    let bytes: [u8; 8] = hash.finalize()[..8].try_into().expect("eight of thirty-two");
    u64::from_le_bytes(bytes)
}

/// `hand` different cards of a deck, chosen by the hash.
pub fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let hand = hand.min(deck);
    let mut remainders: Vec<usize> = Vec::with_capacity(hand);
    for dealt in 0..hand {
        let left = (deck - dealt) as u64;
        remainders.push((hash % left) as usize);
        hash /= left;
    }
    (0..hand)
        .map(|at| {
            // The number among the cards that are left becomes the number in the whole deck.
            (0..at).rev().fold(remainders[at], |card, before| card + usize::from(card >= remainders[before]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hand_has_different_cards_and_is_always_the_same() {
        let mut seen = BTreeSet::new();
        for flow in 0..200 {
            let hash = flow_hash("global-default", &format!("user-{flow}"));
            let hand = deal(hash, 128, 6);
            assert_eq!(hand, deal(hash, 128, 6));
            let cards: BTreeSet<usize> = hand.iter().copied().collect();
            assert_eq!(cards.len(), 6, "{hand:?}");
            assert!(cards.iter().all(|card| *card < 128), "{hand:?}");
            seen.extend(cards);
        }
        assert!(seen.len() > 120, "hands are spread over the queues: {}", seen.len());
        assert_eq!(deal(7, 1, 1), [0]);
        assert_eq!(deal(23, 4, 4).len(), 4);
    }

    #[test]
    fn the_name_and_the_flow_do_not_run_together() {
        assert_ne!(flow_hash("ab", "c"), flow_hash("a", "bc"));
    }
}
