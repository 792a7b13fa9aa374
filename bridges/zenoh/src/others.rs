//! [`Others`]: what bridges elsewhere have.

use std::collections::{BTreeMap, BTreeSet};

use blockcast_bridge_core::{Origin, Token};

/// The tokens of other bridges.
#[derive(Debug, Default)]
pub(crate) struct Others {
    tokens: BTreeSet<Token>,
    /// How many each broker has, at least 1.
    brokers: BTreeMap<Origin, usize>,
}

impl Others {
    /// A bridge has this.
    pub(crate) fn insert(&mut self, token: Token) {
        let origin = token.origin;
        if self.tokens.insert(token) {
            *self.brokers.entry(origin).or_default() += 1;
        }
    }

    /// A bridge no longer has this. Returns whether it had.
    pub(crate) fn remove(&mut self, token: &Token) -> bool {
        let had = self.tokens.remove(token);
        if had && let Some(tokens) = self.brokers.get_mut(&token.origin) {
            *tokens -= 1;
            if *tokens == 0 {
                self.brokers.remove(&token.origin);
            }
        }
        had
    }

    /// The number of brokers that have anything.
    pub(crate) fn peers(&self) -> usize {
        self.brokers.len()
    }

    /// All that they have.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter()
    }
}

#[cfg(test)]
mod tests {
    use blockcast_bridge_core::Role;

    use super::*;

    #[test]
    fn a_broker_is_a_peer_as_long_as_it_has_a_token() {
        let token = |origin: u128, key: u32| Token {
            origin: Origin::new(origin),
            role: Role::Publisher,
            fingerprint: 0,
            key: key.to_string(),
        };
        let mut others = Others::default();
        let mut random = 1_u64;
        for _ in 0..10_000 {
            // Xorshift.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let token = token(u128::from(random % 5), (random >> 16) as u32 % 4);
            let had = others.iter().any(|other| *other == token);
            if random & (1 << 40) == 0 {
                others.insert(token);
            } else {
                assert_eq!(others.remove(&token), had);
            }
            let brokers: BTreeSet<_> = others.iter().map(|token| token.origin).collect();
            assert_eq!(others.peers(), brokers.len());
        }
    }

    /// With a count over all tokens for each of them, this would look at 45 billion.
    #[test]
    fn many_tokens_are_counted_as_they_come() {
        let mut others = Others::default();
        for key in 0..300_000 {
            let (origin, role) = (Origin::new(key % 100_000), Role::Subscriber);
            others.insert(Token { origin, role, fingerprint: 0, key: key.to_string() });
            assert_eq!(others.peers() as u128, (key + 1).min(100_000));
        }
    }
}
