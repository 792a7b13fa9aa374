//! [`LoadLimits`]: limits on the work that a guest's code causes in the compiler.

use std::fmt;
use std::str::FromStr;

/// All functions of a guest together may have this many times what one of them may have, in values, locals
/// carried around loops and locals carried over joins.
pub(crate) const ALL_FUNCTIONS: u64 = 64;

macro_rules! load_limits {
    ($($(#[$doc:meta])* $field:ident, $variant:ident, $name:literal, $default:expr, $text:literal;)*) => {
        /// Limits on the work that a guest's code causes in the compiler. They are checked before compiling.
        ///
        /// The compiler's time and memory depend on more than the size of its input: a few kilobytes can
        /// occupy it for hours. The limits accept what compilers produce, with a margin: programs in Rust, C
        /// and Go, and interpreters such as CPython with some tens of megabytes. Hostile code can cause at
        /// most seconds of work per function. To bound time and memory strictly, compile in a [child
        /// process](super::CompilerProcess).
        ///
        /// ```
        /// let mut limits = blockcast_broker::LoadLimits::default();
        /// limits.function_bytes = 4 << 20;
        /// ```
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LoadLimits {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Default for LoadLimits {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// One of the [`LoadLimits`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum LoadLimit {
            $($(#[$doc])* $variant,)*
        }

        impl LoadLimits {
            /// The value of a limit.
            #[must_use]
            pub const fn get(&self, limit: LoadLimit) -> u64 {
                match limit {
                    $(LoadLimit::$variant => self.$field,)*
                }
            }

            /// Sets a limit.
            pub const fn set(&mut self, limit: LoadLimit, value: u64) {
                match limit {
                    $(LoadLimit::$variant => self.$field = value,)*
                }
            }
        }

        impl LoadLimit {
            const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for LoadLimit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

load_limits! {
    /// Bytes of the code, binary or text. Default: 64 MiB.
    bytes, Bytes, "bytes", 64 << 20, "bytes";
    /// Bytes of code in the text format, which takes about 80 times as many to parse. Default: 2 MiB.
    text_bytes, TextBytes, "text-bytes", 2 << 20, "bytes of text";
    /// Functions of all modules together. Default: 200,000.
    functions, Functions, "functions", 200_000, "functions";
    /// Bytes of one function. Default: 1 MiB.
    function_bytes, FunctionBytes, "function-bytes", 1 << 20, "bytes";
    /// Local variables of one function. Default: 20,000.
    locals, Locals, "locals", 20_000, "locals";
    /// Nested blocks in one function. Default: 50,000.
    nesting, Nesting, "nesting", 50_000, "nested blocks";
    /// Nested loops in one function. Default: 100.
    loop_nesting, LoopNesting, "loop-nesting", 100, "nested loops";
    /// Locals times loops of one function: for each loop, the locals that are used in it. All functions
    /// together may have 64 times as many. Default: 20,000.
    loop_locals, LoopLocals, "loop-locals", 20_000, "locals that loops use (locals times loops)";
    /// Locals times blocks of one function: for each use of a local, the places since its last use where
    /// branches meet. All functions together may have 64 times as many. Default: 2,000,000.
    carried_locals, CarriedLocals, "carried-locals", 2_000_000, "locals carried past blocks (locals times blocks)";
    /// Values that the calls, blocks and branches of one function take and return. All functions together may
    /// have 64 times as many. Default: 200,000.
    values, Values, "values", 200_000, "values that calls, blocks and branches take and return";
    /// Parameters and results of one function type. Default: 256.
    signature, Signature, "signature", 256, "parameters and results in one type of function";
    /// Types, imports, exports, globals, tables, segments, aliases and other items outside of functions.
    /// Default: 500,000.
    items, Items, "items", 500_000, "types, imports, exports, segments and other items";
    /// Initial elements of all tables. Default: 262,144.
    table_elements, TableElements, "table-elements", 1 << 18, "elements of tables";
    /// Nested components and modules. Default: 16.
    component_nesting, ComponentNesting, "component-nesting", 16, "nested components";
    /// Items of a component that the compiler copies for each instance of it. Default: 100,000.
    instances, Instances, "instances", 100_000, "items of instances of components inside";
}

impl FromStr for LoadLimit {
    type Err = UnknownLoadLimit;

    fn from_str(name: &str) -> Result<Self, UnknownLoadLimit> {
        let found = Self::ALL.iter().copied().find(|limit| limit.name() == name);
        found.ok_or_else(|| UnknownLoadLimit { name: name.to_owned() })
    }
}

/// There is no load limit with this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a load limit; there are {}", LoadLimit::ALL.iter().map(|limit| limit.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownLoadLimit {
    /// The name.
    pub name: String,
}

/// A limit that the code exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) limit: LoadLimit,
    pub(crate) value: u64,
    pub(crate) most: u64,
    /// The function's number among those that the modules define, in the order of the file.
    pub(crate) function: Option<u64>,
}

impl LoadLimits {
    /// # Errors
    /// [`Exceeded`] if `value` exceeds `limit`.
    pub(crate) const fn check(&self, limit: LoadLimit, value: u64) -> Result<(), Exceeded> {
        let most = self.get(limit);
        if value > most { Err(Exceeded { limit, value, most, function: None }) } else { Ok(()) }
    }

    /// Like [`check`](Self::check), for all functions together.
    pub(crate) const fn check_all(&self, limit: LoadLimit, value: u64) -> Result<(), Exceeded> {
        let most = self.get(limit).saturating_mul(ALL_FUNCTIONS);
        if value > most { Err(Exceeded { limit, value, most, function: None }) } else { Ok(()) }
    }
}
