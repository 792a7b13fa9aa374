//! Keys of the queries by which bridges measure round trips.

use crate::attachment::Origin;

/// The start of all keys. Wildcards do not match a chunk that starts with `@`.
const START: &str = "@blockcast/1/";
const END: &str = "/echo";

/// The key expression of a query to all bridges.
pub const ALL: &str = "@blockcast/1/*/echo";

/// The key of the queries that a bridge of this broker answers.
#[must_use]
pub fn key_of(origin: Origin) -> String {
    format!("{START}{origin}{END}")
}

/// Whether an answer with this key comes from a bridge.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let origin = key.strip_prefix(START).and_then(|rest| rest.strip_suffix(END));
    let origin = origin.and_then(|digits| u128::from_str_radix(digits, 16).ok());
    // There are other ways to write the number.
    origin.is_some_and(|origin| key_of(Origin::new(origin)) == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_bridges_are_keys() {
        let key = key_of(Origin::new(0xab));
        assert_eq!(key, "@blockcast/1/000000000000000000000000000000ab/echo");
        assert!(is_key(&key));
        for wrong in ["@blockcast/1/ab/echo", ALL, &key[1..], &format!("{key}/"), &key.to_uppercase(), ""] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }
}
