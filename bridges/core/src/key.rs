//! Key expressions: the names under which topics travel.
//!
//! The key of a topic is `prefix/topic`, in which percent signs and two hexadecimal digits stand for bytes
//! that a key cannot have: `*`, `$`, `#`, `?` and `%` everywhere, `@` at the start of a chunk, and slashes at
//! which there would be an empty chunk. Each topic has one key, and each key one topic.

use blockcast_blocks::OpenError;

/// A text is not a key, or not one that stands for a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The prefix has an empty chunk or characters with a meaning of their own.
    #[error(
        "{0:?} cannot be a prefix: it must be chunks separated by slashes, not empty, without * $ # ? and without @ at the start"
    )]
    Prefix(String),
    /// The text is not the name of a topic.
    #[error("{0:?} cannot be the name of a topic")]
    Topic(String),
    /// The key does not start with the prefix.
    #[error("the key {0:?} has another prefix")]
    OtherPrefix(String),
    /// The key is not the one that a topic's name is encoded as.
    #[error("the key {0:?} is not encoded as the key of a topic")]
    Encoding(String),
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Checks a prefix: chunks that are separated by slashes.
///
/// # Errors
/// [`KeyError::Prefix`].
pub fn check_prefix(prefix: &str) -> Result<(), KeyError> {
    if is_key(prefix) { Ok(()) } else { Err(KeyError::Prefix(prefix.to_owned())) }
}

/// Whether the text is a key without wildcards. Wildcards do not match chunks that start with `@`, so it has
/// none.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let is_chunk =
        |chunk: &str| !chunk.is_empty() && !chunk.starts_with('@') && !chunk.contains(['*', '$', '#', '?']);
    text.split('/').all(is_chunk)
}

/// The key of a topic.
///
/// # Errors
/// [`KeyError::Prefix`] and [`KeyError::Topic`].
pub fn of_topic(prefix: &str, topic: &str) -> Result<String, KeyError> {
    check_prefix(prefix)?;
    OpenError::check_name(topic).map_err(|_| KeyError::Topic(topic.to_owned()))?;
    let mut key = format!("{prefix}/");
    let mut before = '/';
    let mut characters = topic.chars().peekable();
    while let Some(character) = characters.next() {
        let is_encoded = match character {
            '*' | '$' | '#' | '?' | '%' => true,
            '@' => before == '/',
            '/' => before == '/' || characters.peek().is_none(),
            _ => false,
        };
        if is_encoded {
            // All of them are ASCII.
            let byte = character as u8;
            key.extend(['%', HEX[usize::from(byte >> 4)] as char, HEX[usize::from(byte & 15)] as char]);
        } else {
            key.push(character);
        }
        // After an encoded slash there is a chunk, which its digits have begun.
        before = if character == '/' && is_encoded { '%' } else { character };
    }
    Ok(key)
}

/// The topic of a key.
///
/// # Errors
/// [`KeyError`].
pub fn to_topic(prefix: &str, key: &str) -> Result<String, KeyError> {
    check_prefix(prefix)?;
    let encoded = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    let encoded = encoded.ok_or_else(|| KeyError::OtherPrefix(key.to_owned()))?;
    let wrong = || KeyError::Encoding(key.to_owned());
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || Some(rest.next().map(char::from)?.to_digit(16)? as u8);
        let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
        bytes.push(high << 4 | low);
    }
    let topic = String::from_utf8(bytes).map_err(|_| wrong())?;
    // There are other ways to write the same name, of which none is a key.
    if of_topic(prefix, &topic)? == key { Ok(topic) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_topic_has_one_key_and_comes_back_from_it(topic in "[a-z/*$#?%@é]{1,12}") {
            let key = of_topic("site/robot", &topic).expect("a name");
            prop_assert!(is_key(&key), "{key}");
            prop_assert_eq!(to_topic("site/robot", &key), Ok(topic));
        }

        #[test]
        fn no_two_keys_stand_for_one_topic(key in "p/[a/%240fF@]{1,12}") {
            if let Ok(topic) = to_topic("p", &key) {
                prop_assert_eq!(of_topic("p", &topic), Ok(key));
            }
        }
    }

    #[test]
    fn keys_and_prefixes_that_stand_for_no_topic_are_refused() {
        for prefix in ["", "/", "a/", "/a", "a//b", "a*", "a/$b", "?", "#", "@a", "a/@b"] {
            assert_eq!(check_prefix(prefix), Err(KeyError::Prefix(prefix.to_owned())));
        }
        for key in ["p/a%", "p/a%2", "p/a%zz", "p/%61", "p/a%2f", "p/a%2Fb", "p/@a", "p/%FF", "p/a//b"] {
            assert_eq!(to_topic("p", key), Err(KeyError::Encoding(key.to_owned())), "{key}");
        }
        for key in ["q/a", "pq/a", "p"] {
            assert_eq!(to_topic("p", key), Err(KeyError::OtherPrefix(key.to_owned())));
        }
        assert_eq!(of_topic("p", ""), Err(KeyError::Topic(String::new())));
        assert!(of_topic("p", &"a".repeat(10_000)).is_err());
    }
}
