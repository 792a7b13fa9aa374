//! flatbuffers: built back to front in the builder's buffer. The buffer is reused for every message and could
//! be sent as it is, so nothing is copied.
//!
//! The accessors are written by hand as `flatc --rust` would generate them from this schema:
//!
//! ```text
//! table Strings { list: [string]; }
//! table Floats  { list: [float]; }
//! table Entry   { key: string (key); value: ulong; }
//! table Map     { entries: [Entry]; }
//! table Record  { id: ulong; time: ulong; x: double; … note: string; }
//! ```

use flatbuffers::{
    FlatBufferBuilder, Follow, ForwardsUOffset, InvalidFlatbuffer, Push, Table, TableFinishedWIPOffset,
    Vector, Verifiable, Verifier, VerifierOptions, WIPOffset, root_unchecked, root_with_opts,
};

use super::Layout;
use super::values::{Floats, Map, Record, Strings, Touch, fields, sum};

/// flatbuffers messages.
pub struct Buffers {
    builder: FlatBufferBuilder<'static>,
    texts: Vec<WIPOffset<&'static str>>,
    tables: Vec<WIPOffset<TableFinishedWIPOffset>>,
}

/// Returns the position of field `n` in a table of offsets.
const fn slot(n: u16) -> u16 {
    4 + 2 * n
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty = $slot:expr),+ $(,)? })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        struct $name<'a>(Table<'a>);

        impl<'a> Follow<'a> for $name<'a> {
            type Inner = $name<'a>;

            #[inline]
            unsafe fn follow(bytes: &'a [u8], at: usize) -> $name<'a> {
                // SAFETY: the caller guarantees that there is such a table.
                $name(unsafe { Table::new(bytes, at) })
            }
        }

        impl<'a> Verifiable for $name<'a> {
            #[inline]
            fn run_verifier(verifier: &mut Verifier<'_, '_>, at: usize) -> Result<(), InvalidFlatbuffer> {
                verifier.visit_table(at)?$(.visit_field::<$kind>(stringify!($field), $slot, true)?)+.finish();
                Ok(())
            }
        }

        impl<'a> $name<'a> {
            $(
                #[inline]
                fn $field(self) -> <$kind as Follow<'a>>::Inner {
                    // SAFETY: the table was verified or built, and has this field, which is required.
                    unsafe { self.0.get::<$kind>($slot, None) }.expect("the field is required")
                }
            )+
        }
    )+ };
}

tables! {
    /// `[string]`
    StringsTable { list: ForwardsUOffset<Vector<'a, ForwardsUOffset<&'a str>>> = slot(0) }
    /// `[float]`
    FloatsTable { list: ForwardsUOffset<Vector<'a, f32>> = slot(0) }
    /// One entry of a map.
    EntryTable { key: ForwardsUOffset<&'a str> = slot(0), value: u64 = slot(1) }
    /// Entries sorted by key.
    MapTable { entries: ForwardsUOffset<Vector<'a, ForwardsUOffset<EntryTable<'a>>>> = slot(0) }
}

macro_rules! define_record {
    (scalars: $($scalar:ident: $type:ty),+; texts: $($text:ident),+) => {
        /// The fields in order.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Field { $($scalar,)+ $($text),+ }

        tables! {
            /// A record of 20 fields.
            RecordTable {
                $($scalar: $type = slot(Field::$scalar as u16),)+
                $($text: ForwardsUOffset<&'a str> = slot(Field::$text as u16)),+
            }
        }

        impl RecordTable<'_> {
            fn touch_all(self) -> u64 {
                0_u64 $(.wrapping_add(self.$scalar().touch()))+ $(.wrapping_add(self.$text().touch()))+
            }
        }

        impl Buffers {
            fn build_record(&mut self, record: &Record) {
                $(let $text = self.builder.create_string(&record.$text);)+
                let table = self.builder.start_table();
                $(self.push(Field::$scalar as u16, record.$scalar);)+
                $(self.push(Field::$text as u16, $text);)+
                let table = self.builder.end_table(table);
                self.builder.finish_minimal(table);
            }
        }
    };
}
fields!(define_record!());

impl Buffers {
    fn with_room(bytes: usize, lines: usize) -> Self {
        // The builder starts at the end of its buffer.
        let builder = FlatBufferBuilder::with_capacity(bytes.next_multiple_of(64) + 64 * lines);
        Self { builder, texts: Vec::new(), tables: Vec::new() }
    }

    #[inline(always)]
    fn push(&mut self, field: u16, value: impl Push) {
        self.builder.push_slot_always(slot(field), value);
    }

    /// Completes a message whose root is a table with one vector.
    fn finish_list<T>(&mut self, list: WIPOffset<Vector<'static, T>>) {
        let table = self.builder.start_table();
        self.push(0, list);
        let table = self.builder.end_table(table);
        self.builder.finish_minimal(table);
    }
}

fn is_valid<T: for<'a> Rooted<'a>>(message: &[u8]) -> Option<bool> {
    let options =
        VerifierOptions { max_tables: usize::MAX, max_apparent_size: usize::MAX, ..Default::default() };
    Some(T::verify(&options, message))
}

/// A family of tables, one for each lifetime.
trait Rooted<'a> {
    type Table: Follow<'a, Inner = Self::Table> + Verifiable + 'a;

    fn verify(options: &VerifierOptions, message: &'a [u8]) -> bool {
        root_with_opts::<Self::Table>(options, message).is_ok()
    }
}

impl<'a> Rooted<'a> for Strings {
    type Table = StringsTable<'a>;
}

impl<'a> Rooted<'a> for Floats {
    type Table = FloatsTable<'a>;
}

impl<'a> Rooted<'a> for Map {
    type Table = MapTable<'a>;
}

impl<'a> Rooted<'a> for Record {
    type Table = RecordTable<'a>;
}

/// Returns the root of a message that was built here.
#[inline(always)]
fn root<'a, V: Rooted<'a>>(message: &'a [u8]) -> V::Table {
    // SAFETY: a layout only reads messages that it has built itself, of the same value type.
    unsafe { root_unchecked::<V::Table>(message) }
}

macro_rules! layout {
    ($value:ty, |$this:ident, $source:ident| $build:expr, |$read:ident| $all:expr, |$look:ident, $of:ident, $n:ident| $one:expr) => {
        impl Layout<$value> for Buffers {
            const NAME: &'static str = "flatbuffers";

            fn with_room(bytes: usize, lines: usize) -> Self {
                Self::with_room(bytes, lines)
            }

            fn build(&mut self, $source: &$value) {
                let $this = self;
                $this.builder.reset();
                $build
            }

            fn message(&self) -> &[u8] {
                self.builder.finished_data()
            }

            fn all(message: &[u8]) -> u64 {
                let $read = root::<$value>(message);
                $all
            }

            fn one(message: &[u8], $of: &$value, $n: usize) -> u64 {
                let $look = root::<$value>(message);
                $one
            }

            fn is_valid(message: &[u8]) -> Option<bool> {
                is_valid::<$value>(message)
            }
        }
    };
}

layout!(
    Strings,
    |this, value| {
        this.texts.clear();
        for text in &value.0 {
            this.texts.push(this.builder.create_string(text));
        }
        let list = this.builder.create_vector(&this.texts);
        this.finish_list(list);
    },
    |strings| sum(strings.list().iter()),
    |strings, _value, n| strings.list().get(n).touch()
);
layout!(
    Floats,
    |this, value| {
        let list = this.builder.create_vector(&value.0);
        this.finish_list(list);
    },
    |floats| sum(floats.list().iter()),
    |floats, _value, n| floats.list().get(n).touch()
);
layout!(
    Map,
    |this, value| {
        this.tables.clear();
        for (key, number) in &value.entries.0 {
            let key = this.builder.create_string(key);
            let table = this.builder.start_table();
            this.push(1, *number);
            this.push(0, key);
            this.tables.push(this.builder.end_table(table));
        }
        let entries = this.builder.create_vector(&this.tables);
        this.finish_list(entries);
    },
    |map| map
        .entries()
        .iter()
        .fold(0, |all, entry| { all.wrapping_add(entry.key().touch()).wrapping_add(entry.value().touch()) }),
    |map, value, n| {
        let found = map.entries().lookup_by_key(value.keys[n].as_str(), |entry, key| entry.key().cmp(key));
        found.map_or(0, |entry| entry.value())
    }
);
layout!(Record, |this, value| this.build_record(value), |record| record.touch_all(), |record, _value, _n| {
    record.note().touch()
});
