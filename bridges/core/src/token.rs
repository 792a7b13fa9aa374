//! [`Token`]: how a bridge tells others which topics it has participants for.

use crate::attachment::Origin;
use crate::key::is_key;

/// What a bridge has for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Publishers, whose messages it sends.
    Publisher,
    /// Subscribers, for which it receives.
    Subscriber,
}

impl Role {
    /// The chunk that stands for it.
    const fn chunk(self) -> &'static str {
        match self {
            Self::Publisher => "pub",
            Self::Subscriber => "sub",
        }
    }
}

/// The participants of one topic on one broker. It travels as the key
/// `@blockcast/1/ORIGIN/ROLE/FINGERPRINT/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The broker.
    pub origin: Origin,
    /// What it has.
    pub role: Role,
    /// The fingerprint of the topic's schema.
    pub fingerprint: u64,
    /// The key under which the topic's messages travel.
    pub key: String,
}

/// A key is not that of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the token of a topic")]
pub struct TokenError(pub String);

/// The start of all tokens. Wildcards do not match a chunk that starts with `@`.
const START: &str = "@blockcast/1/";

impl Token {
    /// The key expression that matches the tokens of all bridges.
    pub const ALL: &str = "@blockcast/1/**";

    /// The key that it travels as.
    #[must_use]
    pub fn to_key(&self) -> String {
        let Self { origin, role, fingerprint, key } = self;
        format!("{START}{origin}/{}/{fingerprint:016x}/{key}", role.chunk())
    }

    /// Reads such a key.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_key(text: &str) -> Result<Self, TokenError> {
        let wrong = || TokenError(text.to_owned());
        let mut chunks = text.strip_prefix(START).ok_or_else(wrong)?.splitn(4, '/');
        let mut next = || chunks.next().ok_or_else(wrong);
        let origin = u128::from_str_radix(next()?, 16).map_err(|_| wrong())?;
        let role = match next()? {
            "pub" => Role::Publisher,
            "sub" => Role::Subscriber,
            _ => return Err(wrong()),
        };
        let fingerprint = u64::from_str_radix(next()?, 16).map_err(|_| wrong())?;
        let token = Self { origin: Origin::new(origin), role, fingerprint, key: next()?.to_owned() };
        // There are other ways to write the numbers.
        if is_key(&token.key) && token.to_key() == text { Ok(token) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_key_and_no_other_key_is_one() {
        let token = Token {
            origin: Origin::new(0xab),
            role: Role::Publisher,
            fingerprint: 0x12,
            key: "site/camera/%40front".to_owned(),
        };
        let key = token.to_key();
        assert_eq!(
            key,
            "@blockcast/1/000000000000000000000000000000ab/pub/0000000000000012/site/camera/%40front"
        );
        assert_eq!(Token::from_key(&key), Ok(token));
        for wrong in [
            "@blockcast/2/000000000000000000000000000000ab/pub/0000000000000012/a",
            "@blockcast/1/ab/pub/0000000000000012/a",
            "@blockcast/1/000000000000000000000000000000AB/pub/0000000000000012/a",
            "@blockcast/1/000000000000000000000000000000ab/both/0000000000000012/a",
            "@blockcast/1/000000000000000000000000000000ab/pub/12/a",
            "@blockcast/1/000000000000000000000000000000ab/pub/0000000000000012",
            "@blockcast/1/000000000000000000000000000000ab/pub/0000000000000012/a//b",
            "a",
        ] {
            assert_eq!(Token::from_key(wrong), Err(TokenError(wrong.to_owned())));
        }
    }
}
