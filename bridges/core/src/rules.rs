//! [`Rules`]: which topics a bridge connects, in which direction, and under which keys.

use blockcast_blocks::{OpenError, Schema};

use crate::key::{self, KeyError};

/// Topics by name: one name, or all that start with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A name, or a prefix followed by `*`, as in grants.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the topic is one of them.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == self.0,
        }
    }

    /// The only topic that matches, unless the pattern ends with `*`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(&self.0)
    }
}

/// Where a bridge carries the messages of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this broker to others.
    Out,
    /// From others to this broker.
    In,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages leave this broker.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }

    /// Whether messages come to this broker.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }
}

/// What a bridge does with some topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pattern: Pattern,
    direction: Direction,
    key: Option<String>,
    schema: Option<Schema>,
}

impl Rule {
    /// Carries the topics of the pattern in this direction.
    #[must_use]
    pub fn new(pattern: impl Into<String>, direction: Direction) -> Self {
        Self { pattern: Pattern::new(pattern), direction, key: None, schema: None }
    }

    /// Sets the key, instead of the prefix and the topic's name. Only for one topic.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the schema, so that messages without an attachment are accepted, from clients that know nothing
    /// of bridges. Only for one topic.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The direction.
    #[must_use]
    pub fn get_direction(&self) -> Direction {
        self.direction
    }

    /// The schema of messages without an attachment.
    #[must_use]
    pub fn get_schema(&self) -> Option<&Schema> {
        self.schema.as_ref()
    }
}

/// A rule contradicts itself or another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A prefix or a name cannot be part of a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Only a rule for one topic can have a key or a schema.
    #[error("the rule for {0:?} has a key or a schema, so it must be for one topic, without a *")]
    NotOne(String),
    /// The key of the rule has wildcards or empty chunks.
    #[error("{0:?} is not a key without wildcards")]
    BadKey(String),
    /// Two topics have one key.
    #[error("the topics {0:?} and {1:?} have one key")]
    Twice(String, String),
}

/// Which topics a bridge connects. The first rule that matches a topic applies, unless the topic is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    prefix: String,
    rules: Vec<Rule>,
    denied: Vec<Pattern>,
}

impl Rules {
    /// No topics yet. Keys start with the prefix.
    ///
    /// # Errors
    /// [`KeyError::Prefix`].
    pub fn new(prefix: impl Into<String>) -> Result<Self, KeyError> {
        let prefix = prefix.into();
        key::check_prefix(&prefix)?;
        Ok(Self { prefix, rules: Vec::new(), denied: Vec::new() })
    }

    /// Adds a rule, after the others.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn with(mut self, rule: Rule) -> Result<Self, RuleError> {
        match rule.pattern.name() {
            None if rule.key.is_some() || rule.schema.is_some() => {
                return Err(RuleError::NotOne(rule.pattern.0));
            }
            None => {}
            Some(name) => {
                OpenError::check_name(name).map_err(|_| KeyError::Topic(name.to_owned()))?;
                if let Some(key) = &rule.key {
                    if !key::is_key(key) {
                        return Err(RuleError::BadKey(key.clone()));
                    }
                    // The topic that has the key by name, or by another rule.
                    if let Some(other) = self.topic(key).filter(|other| other != name) {
                        return Err(RuleError::Twice(other, name.to_owned()));
                    }
                }
            }
        }
        self.rules.push(rule);
        Ok(self)
    }

    /// Leaves out the topics of the pattern, whatever the rules say.
    #[must_use]
    pub fn deny(mut self, pattern: impl Into<String>) -> Self {
        self.denied.push(Pattern::new(pattern));
        self
    }

    /// The rule that applies to a topic.
    #[must_use]
    pub fn rule(&self, topic: &str) -> Option<&Rule> {
        if self.denied.iter().any(|pattern| pattern.matches(topic)) {
            return None;
        }
        self.rules.iter().find(|rule| rule.pattern.matches(topic))
    }

    /// The key of a topic, if a rule applies to it.
    #[must_use]
    pub fn key(&self, topic: &str) -> Option<String> {
        let rule = self.rule(topic)?;
        rule.key.clone().or_else(|| key::of_topic(&self.prefix, topic).ok())
    }

    /// The topic of a key, if it has one, whether or not a rule applies to it.
    #[must_use]
    pub fn topic(&self, key: &str) -> Option<String> {
        let explicit = self.rules.iter().find(|rule| rule.key.as_deref() == Some(key));
        match explicit.and_then(|rule| rule.pattern.name()) {
            Some(name) => Some(name.to_owned()),
            None => key::to_topic(&self.prefix, key).ok(),
        }
    }

    /// The topics that rules name, in their order, except those that are denied.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Rule)> {
        let names = self.rules.iter().filter_map(|rule| rule.pattern.name());
        names.filter_map(|name| Some((name, self.rule(name)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_applies_unless_the_topic_is_denied() {
        let rules = Rules::new("site").expect("a prefix");
        let rules = rules
            .with(Rule::new("camera/front", Direction::Out).key("front"))
            .and_then(|rules| rules.with(Rule::new("camera/*", Direction::In)))
            .expect("correct rules")
            .deny("camera/secret*");
        let direction = |topic| rules.rule(topic).map(Rule::get_direction);
        assert_eq!(direction("camera/front"), Some(Direction::Out));
        assert_eq!(direction("camera/back"), Some(Direction::In));
        assert_eq!(direction("camera/secret/1"), None);
        assert_eq!(direction("lidar"), None);
        assert_eq!(rules.key("camera/front").as_deref(), Some("front"));
        assert_eq!(rules.key("camera/back").as_deref(), Some("site/camera/back"));
        assert_eq!(rules.topic("front").as_deref(), Some("camera/front"));
        assert_eq!(rules.topic("site/camera/back").as_deref(), Some("camera/back"));
        assert_eq!(rules.topic("other/camera/back"), None);
        assert_eq!(rules.named().map(|(name, _)| name).collect::<Vec<_>>(), ["camera/front"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let rules = || Rules::new("p").expect("a prefix");
        let refused = |rule: Rule| rules().with(rule).expect_err("a contradiction");
        let schema = Schema::named("numbers");
        assert_eq!(
            refused(Rule::new("a*", Direction::In).schema(schema)),
            RuleError::NotOne("a*".to_owned())
        );
        for key in ["a*", "", "a//b", "@blockcast/1", "a?"] {
            assert_eq!(refused(Rule::new("a", Direction::In).key(key)), RuleError::BadKey(key.to_owned()));
        }
        assert_eq!(
            refused(Rule::new("a", Direction::In).key("p/b")),
            RuleError::Twice("b".to_owned(), "a".to_owned())
        );
        let one = rules().with(Rule::new("a", Direction::In).key("k")).expect("correct");
        assert_eq!(
            one.with(Rule::new("b", Direction::In).key("k")),
            Err(RuleError::Twice("a".to_owned(), "b".to_owned()))
        );
        assert!(matches!(refused(Rule::new("", Direction::In)), RuleError::Key(KeyError::Topic(_))));
        assert!(Rules::new("a*").is_err());
    }
}
