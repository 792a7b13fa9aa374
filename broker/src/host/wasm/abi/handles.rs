//! The handles of guests that are core modules. The engine checks those of components.

use std::any::TypeId;

use crate::hosting::handles;

/// A type of value that guests have handles on.
pub(crate) trait HostResource: 'static {
    /// Its name in the interface.
    const NAME: &'static str;
}

/// All handles of a guest: each names a value of some type by its number in the guest's state.
///
/// The highest bit of a handle stays 0. A handle comes again only after about two thousand million others,
/// and a guest can keep creating handles forever.
#[derive(Debug)]
pub(crate) struct Handles(handles::Handles<(TypeId, u32), 20, 11>);

impl Default for Handles {
    fn default() -> Self {
        Self(handles::Handles::new())
    }
}

impl Handles {
    /// A new handle on the `T` with the number `rep`. Never 0.
    pub(crate) fn insert<T: HostResource>(&mut self, rep: u32) -> wasmtime::Result<u32> {
        let handle = self.0.insert((TypeId::of::<T>(), rep));
        // Fits: a handle has 31 bits.
        handle
            .map(|handle| handle as u32)
            .ok_or_else(|| wasmtime::Error::msg("the guest has too many handles"))
    }

    /// The number of the `T` that `handle` names.
    #[inline]
    pub(crate) fn rep<T: HostResource>(&self, handle: u32) -> wasmtime::Result<u32> {
        match self.0.get(u64::from(handle)) {
            Some((kind, rep)) if *kind == TypeId::of::<T>() => Ok(*rep),
            _ => Err(unknown::<T>(handle)),
        }
    }

    /// Like [`rep`](Self::rep), but also closes the handle.
    pub(crate) fn remove<T: HostResource>(&mut self, handle: u32) -> wasmtime::Result<u32> {
        let rep = self.rep::<T>(handle)?;
        self.0.remove(u64::from(handle));
        Ok(rep)
    }
}

#[cold]
fn unknown<T: HostResource>(handle: u32) -> wasmtime::Error {
    wasmtime::Error::msg(format!("handle {handle} stands for no {}", T::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Cup;
    impl HostResource for Cup {
        const NAME: &'static str = "cup";
    }

    #[derive(Debug)]
    struct Plate;
    impl HostResource for Plate {
        const NAME: &'static str = "plate";
    }

    #[test]
    fn a_handle_names_a_value_of_its_type_until_it_is_dropped() {
        let mut handles = Handles::default();
        let (cup, plate) =
            (handles.insert::<Cup>(7).expect("room"), handles.insert::<Plate>(7).expect("room"));
        assert_eq!(handles.rep::<Cup>(cup).expect("known"), 7);
        assert_eq!(
            handles.rep::<Cup>(plate).expect_err("a plate").to_string(),
            format!("handle {plate} stands for no cup")
        );
        handles.remove::<Cup>(plate).expect_err("a plate");
        assert_eq!(handles.remove::<Cup>(cup).expect("known"), 7);
        assert!(handles.rep::<Cup>(cup).is_err());
        assert!(handles.remove::<Cup>(cup).is_err());
        assert_eq!(handles.rep::<Plate>(plate).expect("known"), 7);
    }
}
