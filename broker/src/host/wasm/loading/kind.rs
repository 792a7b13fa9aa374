//! The kind of a guest's code: [`Kind`].

/// The kind of a guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Component = 1,
    Module = 2,
}

impl Kind {
    /// Detects the kind from the first bytes, if they are wasm.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Some(Self::Module),
            [b'\0', b'a', b's', b'm', ..] => Some(Self::Component),
            text => match first_word(text) {
                Some("component") => Some(Self::Component),
                Some("module") => Some(Self::Module),
                _ => None,
            },
        }
    }

    /// The kind with this number in files.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Self::Component, Self::Module].into_iter().find(|&kind| kind as u8 == number)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Module => "module",
        }
    }
}

/// The first word of a text format file, after its first parenthesis.
fn first_word(text: &[u8]) -> Option<&str> {
    let mut lines = std::str::from_utf8(text).ok()?.lines().map(str::trim_start);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with(";;"))?;
    line.strip_prefix('(')?.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next()
}
