//! Writing the items of an iterator in one call.

use blockcast_flat_types::{BuildError, Flat, Items};

type Lines = Flat<Vec<String>>;

#[test]
fn an_iterator_that_knows_its_length_is_written_as_a_list() {
    let words = ["to", "be"];
    let shouted = words.iter().map(|word| word.to_uppercase());
    let bytes = Lines::to_vec(Items(shouted.clone())).unwrap();
    assert_eq!(bytes, Lines::to_vec(["TO", "BE"]).unwrap());
    assert_eq!(Lines::encoded_len(Items(shouted)), bytes.len());
    let numbers = Flat::<Vec<u16>>::to_vec(Items(1..4_u16)).unwrap();
    assert_eq!(Flat::<Vec<u16>>::access(&numbers).unwrap(), [1, 2, 3]);
}

#[test]
fn an_iterator_that_announces_a_wrong_length_is_an_error() {
    #[derive(Clone)]
    struct Wrong {
        left: usize,
        announced: usize,
    }
    impl Iterator for Wrong {
        type Item = u8;
        fn next(&mut self) -> Option<u8> {
            self.left = self.left.checked_sub(1)?;
            Some(7)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.announced, Some(self.announced))
        }
    }
    impl ExactSizeIterator for Wrong {}

    let error = Flat::<Vec<u8>>::to_vec(Items(Wrong { left: 2, announced: 3 })).unwrap_err();
    assert_eq!(error, BuildError::TooFew { expected: 3, pushed: 2 });
    let error = Flat::<Vec<u8>>::to_vec(Items(Wrong { left: 3, announced: 2 })).unwrap_err();
    assert_eq!(error, BuildError::ListFull { capacity: 2 });
    // Lists of strings have their own code.
    for (left, announced) in [(2, 3), (3, 2), (1, 0)] {
        let error = Lines::to_vec(Items(Wrong { left, announced }.map(|_| "x"))).unwrap_err();
        match left < announced {
            true => assert_eq!(error, BuildError::TooFew { expected: announced, pushed: left }),
            false => assert_eq!(error, BuildError::ListFull { capacity: announced }),
        }
    }
}

#[test]
fn a_map_can_be_built_until_the_block_is_full() {
    use std::collections::BTreeMap;
    type Counts = Flat<BTreeMap<String, u32>>;
    let mut block = [0xaa; 128];
    let mut taken = 0;
    let length = Counts::build(&mut block, |map| {
        let mut map = map.until_full(5)?;
        while map.insert_if_fits(format!("{taken:05}"), taken)? {
            taken += 1;
        }
        map.finish()
    })
    .unwrap();
    assert!(taken >= 6, "{taken}");
    let view = Counts::access(&block[..length]).unwrap();
    assert_eq!(view.len(), taken as usize);
    assert_eq!(view.get("00003"), Some(3));
}

#[test]
fn a_block_that_was_too_small_can_be_reused_for_less() {
    let mut block = [0; 40];
    let all = ["one", "two", "three", "four", "five"];
    let error = Lines::write(all, &mut block).unwrap_err();
    let BuildError::NoRoom { needed, available: 40 } = error else { panic!("{error}") };
    assert!(needed > 40);
    let length = Lines::write(&all[..2], &mut block).unwrap();
    assert_eq!(Lines::access(&block[..length]).unwrap(), ["one", "two"]);
}
