//! `#[derive(Flat)]` works with any names of types, fields and cases, and with any other names in scope.
#![forbid(unsafe_code)]
#![allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    nonstandard_style,
    clippy::all
)]

use blockcast_flat_types::Flat;
use blockcast_flat_types::derived::{Rewritable, Rewritten};

/// A value is read as it was written, and its view can be written, compared and printed.
fn round_trip<T>(value: T)
where
    T: PartialEq + std::fmt::Debug + for<'a> Rewritable<'a, u32>,
{
    let bytes = Flat::<T>::to_vec(&value).expect("it fits");
    let view = Flat::<T>::access(&bytes).expect("just written");
    assert!(value.matches::<u32>(view));
    assert!(!format!("{view:?}").is_empty());
    assert_eq!(
        Flat::<T>::to_vec(Rewritten::<T, u32>(view)).expect("it fits"),
        bytes,
        "a view is written like its value"
    );
    assert_eq!(Flat::<T>::read(&bytes).expect("just written"), value);
}

macro_rules! record {
    ($($field:ident)*) => {
        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Record {
            $(pub $field: u8,)*
            pub last: String,
        }

        #[derive(Flat, Clone, Copy, Debug, PartialEq)]
        #[flat(flags)]
        pub struct Flags {
            $(pub $field: bool,)*
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub enum Fields {
            None,
            $($field { $field: u8, last_: String },)*
        }

        pub fn record() -> Record {
            Record { $($field: 7,)* last: "text".to_owned() }
        }

        pub fn flags() -> Flags {
            Flags { $($field: true,)* }
        }

        pub fn fields() -> Vec<Fields> {
            vec![Fields::None, $(Fields::$field { $field: 7, last_: "text".to_owned() }),*]
        }
    };
}

macro_rules! names {
    ($($module:ident: $($field:ident)*;)*) => {
        $(mod $module {
            use super::*;
            record!($($field)*);
        })*

        #[test]
        fn fields_can_have_any_names() {
            $(
                round_trip($module::record());
                round_trip(vec![$module::flags()]);
                round_trip($module::fields());
            )*
        }
    };
}

names! {
    methods: into clone eq fmt from len get drop ne cmp borrow borrow_mut as_ref to_owned to_string try_into try_from;
    iterators: next iter map into_iter clone_from clone_into default hash partial_cmp copy debug write read index;
    library: view builder validate validate_all from_view serialize write_to end_after matches write_all derived TYPE;
    parts: field put build unit finish_put at new case choice payload retyped record target place cursor;
    variables: f other self_ value bytes validator at_ count bits flags tuple serializer a b c i j n e s t;
    underscored: __f __other __view __record __at __cursor __place __written __case __value __build _x;
    primitives: u8 u16 u32 usize bool char str i8 f32;
    keywords: r#type r#match r#fn r#struct r#impl r#as r#use r#mod r#ref r#move r#dyn r#async r#await r#loop r#in r#let;
    prelude: core std alloc Box Vec String Option Result Copy Clone Debug Drop;
    outcomes: is_ok unwrap expect ok err some error result option list string;
}

mod cases {
    use super::*;

    #[derive(Flat, Clone, Debug, PartialEq)]
    pub enum Cases {
        View(u8),
        Builder(String),
        Ok(u8),
        Err(u8),
        None,
        Some(Option<u8>),
        Type,
        Item,
        Output,
        Error,
        Target,
        Copy,
        Clone,
        Debug,
        From(u8),
        Into(u8),
        Fmt,
        Eq,
        Drop,
        Result(Result<u8, u8>),
        Option(Option<u8>),
        String(String),
        Vec(Vec<u8>),
        Box,
        Choice(u8),
        Index,
        Finish,
        New,
        Unit,
        Write,
        Build,
        Named { view: u8, f: u8, value: String },
        Core,
        Std,
        Self_,
    }

    #[derive(Flat, Clone, Copy, Debug, PartialEq)]
    pub enum Plain {
        View,
        Builder,
        Ok,
        Err,
        Some,
        None,
        Type,
        Error,
        Index,
        FlatType,
        Result,
    }

    #[derive(Flat, Clone, Debug, PartialEq)]
    pub enum r#enum {
        r#type(u8),
        r#match { r#fn: u8 },
        r#loop,
    }
}

#[test]
fn cases_can_have_any_names() {
    use cases::{Cases, Plain};
    round_trip(vec![
        Cases::View(1),
        Cases::Builder("text".to_owned()),
        Cases::Ok(2),
        Cases::Err(3),
        Cases::None,
        Cases::Some(Some(4)),
        Cases::Result(Err(5)),
        Cases::Option(None),
        Cases::Vec(vec![6]),
        Cases::Named { view: 7, f: 8, value: "text".to_owned() },
        Cases::Self_,
    ]);
    round_trip(vec![Plain::View, Plain::Builder, Plain::Ok, Plain::None, Plain::Result]);
    round_trip(vec![cases::r#enum::r#type(1), cases::r#enum::r#match { r#fn: 2 }, cases::r#enum::r#loop]);
}

/// Types with the names of the prelude, of the library and of the generated code, and parameters with
/// one-letter names.
mod types {
    mod std_names {
        use blockcast_flat_types::Flat;

        macro_rules! called {
            ($($name:ident)*) => { $(
                #[derive(Flat, Clone, Debug, PartialEq)]
                pub struct $name {
                    pub text: ::std::string::String,
                    pub list: ::std::vec::Vec<u8>,
                }
            )* };
        }
        called!(Option Result String Vec Box Some None Ok Err Copy Clone_ Iterator From Into Drop Fn Send Sync Sized ToString);

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub enum Holder {
            A(Option, Result),
            B { string: String, vec: Vec },
            C(::std::option::Option<Box>),
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Boxed {
            boxed: Box,
            option: self::Option,
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Newtype(pub Option);

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Pair(pub Result, pub Vec);
    }

    mod letters {
        use blockcast_flat_types::Flat;

        macro_rules! called {
            ($($name:ident)*) => { $(
                #[derive(Flat, Clone, Debug, PartialEq)]
                pub struct $name(pub String);
            )* };
        }
        called!(I J N E S A B C T Index View Builder Target Validator Choice Type Field Case Place Finished);

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Letters {
            i: I,
            j: J,
            n: N,
            e: E,
            s: S,
            list: Vec<(I, J, E, S)>,
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub enum Lettered {
            I(I),
            N(J, N),
            E { e: E, s: Option<S> },
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Tuple(I, J, N, E, S);

        #[test]
        fn types_can_have_one_letter_names() {
            let text = |text: &str| text.to_owned();
            let letters = Letters {
                i: I(text("i")),
                j: J(text("j")),
                n: N(text("n")),
                e: E(text("e")),
                s: S(text("s")),
                list: vec![(I(text("i")), J(text("j")), E(text("e")), S(text("s")))],
            };
            let bytes = Flat::<Letters>::to_vec(&letters).expect("it fits");
            assert_eq!(Flat::<Letters>::read(&bytes), Ok(letters));
            let lettered = vec![
                Lettered::I(I(text("i"))),
                Lettered::N(J(text("j")), N(text("n"))),
                Lettered::E { e: E(text("e")), s: Some(S(text("s"))) },
            ];
            let bytes = Flat::<Vec<Lettered>>::to_vec(&lettered).expect("it fits");
            assert_eq!(Flat::<Vec<Lettered>>::read(&bytes), Ok(lettered));
        }
    }

    mod parameters {
        use blockcast_flat_types::{Flat, FlatType};

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Record<I, J, N: Clone = u8, E = String>
        where
            E: FlatType,
        {
            i: I,
            j: Vec<J>,
            n: N,
            e: Option<E>,
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub enum Variant<S, T, A, B> {
            S(S),
            T { t: T, a: A },
            B(Option<B>, u8),
        }

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Newtype<I>(I);

        #[derive(Flat, Clone, Debug, PartialEq)]
        pub struct Tuple<I, E>(I, E);

        #[test]
        fn parameters_can_have_any_names() {
            super::super::round_trip(Record {
                i: 1_u64,
                j: vec!["j".to_owned()],
                n: 2_u8,
                e: Some("e".to_owned()),
            });
            super::super::round_trip(vec![
                Variant::S("s".to_owned()),
                Variant::T { t: 1_u8, a: 2_u16 },
                Variant::B(Some('b'), 3),
            ]);
            let bytes = Flat::<Tuple<Newtype<u8>, char>>::to_vec(Tuple(Newtype(1), 'e')).expect("it fits");
            assert_eq!(Flat::<Tuple<Newtype<u8>, char>>::read(&bytes), Ok(Tuple(Newtype(1), 'e')));
        }
    }
}

/// A scope in which common names have useless meanings.
mod hostile {
    pub const f: i32 = 0;
    pub const view: i32 = 0;
    pub const record: i32 = 0;
    pub static cursor: i32 = 0;
    pub struct other;
    pub struct value;
    pub fn Ok() {}
    pub fn Err() {}
    pub fn Some() {}
    pub struct u8;
    pub struct u32;
    pub struct usize;
    pub struct bool;
    pub struct str;
    pub struct Option;
    pub struct Result;
    pub struct String;
    pub struct Vec;
    pub mod core {}
    pub mod std {}
    pub mod blockcast_flat_types {}

    use ::blockcast_flat_types::FlatError;

    /// A trait that gives every type methods that take `self` by value. Method calls prefer them to the
    /// type's own methods that take `self` by reference.
    pub trait Everything: Sized {
        fn field<A, const N: ::core::primitive::usize>(self) -> ::core::result::Result<(), FlatError> {
            ::core::result::Result::Ok(())
        }
        fn fmt(self) {}
        fn eq(self) {}
        fn map(self) {}
        fn write(self) {}
        fn build(self) {}
        fn put(self) {}
        fn finish(self) {}
        fn unit(self) {}
        fn end(self) {}
        fn matches(self) {}
        fn retyped(self) {}
        fn debug_struct(self) {}
        fn serialize_struct(self) {}
        fn serialize_field(self) {}
    }
    impl<T> Everything for T {}

    mod record_ {
        #[allow(unused_imports, reason = "the generated code uses none of them")]
        use super::*;

        #[derive(::blockcast_flat_types::Flat, Clone, Debug)]
        pub struct Record {
            pub a: ::std::string::String,
            pub b: ::std::primitive::u8,
            pub c: ::std::option::Option<::std::primitive::bool>,
        }

        #[derive(::blockcast_flat_types::Flat, Clone, Debug)]
        pub enum Variant {
            A,
            B(::std::primitive::u8),
            C { text: ::std::string::String, number: ::std::primitive::u64 },
        }

        #[derive(::blockcast_flat_types::Flat, Clone, Copy, Debug)]
        pub enum Plain {
            A,
            B,
        }

        #[derive(::blockcast_flat_types::Flat, Clone, Debug)]
        pub struct Newtype(::std::string::String);
    }

    #[test]
    fn other_names_in_scope_do_not_matter() {
        use self::record_::Record;
        let record_ = Record { a: "text".to_owned(), b: 1, c: ::std::option::Option::Some(true) };
        let bytes = ::blockcast_flat_types::Flat::<Record>::to_vec(&record_).expect("it fits");
        let read = ::blockcast_flat_types::Flat::<Record>::access(&bytes).expect("just written");
        assert_eq!((read.a(), read.b(), read.c()), ("text", 1, ::std::option::Option::Some(true)));
    }
}

/// A scope without any imports.
#[rustfmt::skip]
mod bare {
    #![no_implicit_prelude]

    #[::std::prelude::v1::derive(::blockcast_flat_types::Flat)]
    pub struct Record {
        pub a: ::std::string::String,
        pub b: u8,
    }

    #[::std::prelude::v1::derive(::blockcast_flat_types::Flat)]
    pub enum Variant {
        A,
        B(u8),
        C { text: ::std::string::String },
    }
}
