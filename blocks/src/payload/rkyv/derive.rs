//! The expansion of `#[archive]`.
//!
//! A type's archives are read without validation, so somebody must vouch for the code that writes them. For a
//! type with `#[archive]`, this macro does: it derives rkyv's traits itself, by paths that nobody can
//! redirect (`$crate`), and only if somebody vouches for the archive of every field. So a hand-written
//! `rkyv::Archive`, which is safe code, cannot get in between. The `unsafe impl` is here and not in the
//! attribute, which only passes on the source of the type. Whatever tokens a program passes to this macro, it
//! is sound, and another macro of the same name has no `unsafe` to misuse.
//!
//! The attribute has checked the source and brought it into the form below: documentation, then derives. No
//! other attribute is accepted, as it could change the type, or what rkyv generates from it.

/// Defines a struct or enum with an archive. Use `#[archive]`, which explains what it refuses.
#[doc(hidden)]
#[macro_export]
macro_rules! __archive {
    (
        $(#[doc = $doc:expr])* $(#[derive($($derived:path),* $(,)?)])*
        $(#[rkyv(derive($($archived:path),* $(,)?))])* $(#[rkyv(compare($($compared:path),* $(,)?))])?
        $vis:vis struct $name:ident {
            $($(#[doc = $field_doc:expr])* $field_vis:vis $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[doc = $doc])* $(#[derive($($derived),*)])*
        #[derive($crate::rkyv::library::Archive, $crate::rkyv::library::Serialize)]
        #[rkyv(crate = $crate::rkyv::library)]
        $(#[rkyv(derive($($archived),*))])* $(#[rkyv(compare($($compared),*))])?
        $vis struct $name {
            $($(#[doc = $field_doc])* $field_vis $field: $type),*
        }

        // SAFETY: rkyv's own derive macros have just made the archive and what writes it, of fields that are
        // `ArchiveType` themselves: the text below is made of them. It names every field and its type in
        // their order, and starts with a word that no type of the library has for a name.
        unsafe impl $crate::ArchiveType for $name {
            const NAME: &'static str = $crate::rkyv::stringify!($name);

            fn layout(layout: &mut $crate::rkyv::Layout) {
                layout.structure(
                    $crate::rkyv::stringify!($name),
                    &[$(($crate::rkyv::stringify!($field), <$type as $crate::ArchiveType>::layout)),*],
                );
            }
        }
    };

    (
        $(#[doc = $doc:expr])* $(#[derive($($derived:path),* $(,)?)])*
        $(#[rkyv(derive($($archived:path),* $(,)?))])* $(#[rkyv(compare($($compared:path),* $(,)?))])?
        $vis:vis struct $name:ident($($(#[doc = $field_doc:expr])* $field_vis:vis $type:ty),* $(,)?);
    ) => {
        $(#[doc = $doc])* $(#[derive($($derived),*)])*
        #[derive($crate::rkyv::library::Archive, $crate::rkyv::library::Serialize)]
        #[rkyv(crate = $crate::rkyv::library)]
        $(#[rkyv(derive($($archived),*))])* $(#[rkyv(compare($($compared),*))])?
        $vis struct $name($($(#[doc = $field_doc])* $field_vis $type),*);

        // SAFETY: rkyv's own derive macros have just made the archive and what writes it, of fields that are
        // `ArchiveType` themselves: the text below is made of them. It names every field and its type in
        // their order, and starts with a word that no type of the library has for a name.
        unsafe impl $crate::ArchiveType for $name {
            const NAME: &'static str = $crate::rkyv::stringify!($name);

            fn layout(layout: &mut $crate::rkyv::Layout) {
                layout.structure(
                    $crate::rkyv::stringify!($name),
                    &[$(("", <$type as $crate::ArchiveType>::layout)),*],
                );
            }
        }
    };

    (
        $(#[doc = $doc:expr])* $(#[derive($($derived:path),* $(,)?)])*
        $(#[rkyv(derive($($archived:path),* $(,)?))])* $(#[rkyv(compare($($compared:path),* $(,)?))])?
        $vis:vis enum $name:ident {
            $(
                $(#[doc = $case_doc:expr])* $case:ident
                $(($($(#[doc = $part_doc:expr])* $part:ty),* $(,)?))?
                $({$($(#[doc = $field_doc:expr])* $field:ident: $type:ty),* $(,)?})?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])* $(#[derive($($derived),*)])*
        #[derive($crate::rkyv::library::Archive, $crate::rkyv::library::Serialize)]
        #[rkyv(crate = $crate::rkyv::library)]
        $(#[rkyv(derive($($archived),*))])* $(#[rkyv(compare($($compared),*))])?
        $vis enum $name {
            $(
                $(#[doc = $case_doc])* $case
                $(($($(#[doc = $part_doc])* $part),*))?
                $({$($(#[doc = $field_doc])* $field: $type),*})?
            ),*
        }

        // SAFETY: rkyv's own derive macros have just made the archive and what writes it, of fields that are
        // `ArchiveType` themselves: the text below is made of them. It names every field and its type in
        // their order, and starts with a word that no type of the library has for a name.
        unsafe impl $crate::ArchiveType for $name {
            const NAME: &'static str = $crate::rkyv::stringify!($name);

            fn layout(layout: &mut $crate::rkyv::Layout) {
                layout.cases(
                    $crate::rkyv::stringify!($name),
                    &[$((
                        $crate::rkyv::stringify!($case),
                        &[
                            $($(("", <$part as $crate::ArchiveType>::layout)),*)?
                            $($(($crate::rkyv::stringify!($field), <$type as $crate::ArchiveType>::layout)),*)?
                        ],
                    )),*],
                );
            }
        }
    };
}
