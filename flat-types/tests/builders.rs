//! Building in place: known and unknown lengths, nesting, and blocks that are too small.

use blockcast_flat_types::{BuildError, Flat};
use std::fmt::Write;

type Lines = Flat<Vec<String>>;

#[test]
fn a_list_can_be_built_until_the_block_is_full() {
    let mut block = [0xaa; 256];
    let mut taken = 0;
    let length = Lines::build(&mut block, |list| {
        let mut list = list.until_full(8)?;
        while list.push_if_fits("some words")? {
            taken += 1;
        }
        list.finish()
    })
    .unwrap();
    assert!(taken > 10 && length <= 256);
    assert_eq!(Lines::access(&block[..length]).unwrap(), vec!["some words"; taken]);
}

#[test]
fn unused_room_of_a_list_is_zero() {
    let mut block = [0xaa; 256];
    let length = Lines::build(&mut block, |list| {
        let mut list = list.with_capacity(3)?;
        list.push("x")?;
        list.finish()
    })
    .unwrap();
    assert_eq!(length, 8 + 3 * 8 + 1);
    assert_eq!(block[16..32], [0; 16]);
    assert_eq!(Lines::access(&block[..length]).unwrap(), ["x"]);
    block[20] = 1;
    assert!(Lines::validate(&block[..length]).is_err());
}

#[test]
fn unused_room_of_a_list_of_numbers_is_given_back() {
    let mut block = [0xaa; 256];
    let length = Flat::<Vec<u16>>::build(&mut block, |list| {
        let mut list = list.until_full(0)?;
        assert_eq!(list.capacity(), 124);
        list.push(1)?;
        list.push_numbers(&[2, 3])?;
        list.finish()
    })
    .unwrap();
    assert_eq!(block[..length], Flat::<Vec<u16>>::to_vec([1, 2, 3]).unwrap());
}

#[test]
fn a_list_without_elements_gives_back_all_its_room() {
    let mut block = [0xaa; 256];
    let length = Lines::build(&mut block, |list| list.until_full(0)?.finish()).unwrap();
    assert_eq!(block[..length], Lines::to_vec([""; 0]).unwrap());
}

#[test]
fn too_many_and_too_few_elements_are_errors() {
    let mut block = [0; 64];
    let error = Lines::build(&mut block, |list| list.with_len(2)?.finish()).unwrap_err();
    assert_eq!(error, BuildError::TooFew { expected: 2, pushed: 0 });
    let error = Lines::build(&mut block, |list| {
        let mut list = list.with_len(1)?;
        list.push("a")?;
        list.push("b")?;
        list.finish()
    })
    .unwrap_err();
    assert_eq!(error, BuildError::ListFull { capacity: 1 });
}

#[test]
fn a_block_of_any_size_holds_the_value_or_is_too_small() {
    let value = vec![(1_u8, vec!["one", "two"], 0.5), (2, vec![], 1.5), (3, vec!["three"], 2.5)];
    type Message = Flat<Vec<(u8, Vec<String>, f64)>>;
    let whole = Message::to_vec(&value).unwrap();
    for size in 0..whole.len() + 8 {
        let mut block = vec![0xaa; size];
        match Message::write(&value, &mut block) {
            Ok(length) => assert_eq!(block[..length], whole),
            Err(BuildError::NoRoom { needed, available }) => {
                assert!(size < whole.len() && available == size && needed > size && needed <= whole.len());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_element_that_does_not_fit_leaves_the_list_unchanged() {
    let mut block = [0; 48];
    let length = Lines::build(&mut block, |list| {
        let mut list = list.with_len(2)?;
        list.push("first")?;
        assert!(list.push("x".repeat(100)).unwrap_err().is_full());
        let abandoned = list.push_with(|text| {
            let _complete = text.set("written, then given up")?;
            Err(BuildError::Misaligned)
        });
        assert_eq!(abandoned, Err(BuildError::NoRoom { needed: 24 + 5 + 22, available: 48 }));
        list.push("second")?;
        list.finish()
    })
    .unwrap();
    assert_eq!(block[..length], Lines::to_vec(["first", "second"]).unwrap());
}

#[test]
fn text_can_be_formatted_in_place() {
    let mut block = [0; 64];
    let length = Flat::<(u32, String)>::build(&mut block, |tuple| {
        tuple
            .put(1)?
            .put_with(|mut text| {
                write!(text, "{}-{:02}", 2026, 7).expect("fits");
                text.push('!')?;
                text.finish()
            })?
            .finish()
    })
    .unwrap();
    assert_eq!(Flat::<(u32, String)>::access(&block[..length]), Ok((1, "2026-07!")));
}

#[test]
fn a_string_cannot_be_completed_after_a_failed_write() {
    let error = Flat::<String>::build(&mut [0; 16], |mut text| {
        let _ = write!(text, "{} {}", 1, u128::MAX);
        text.finish()
    })
    .unwrap_err();
    assert!(matches!(error, BuildError::NoRoom { .. }));
}

#[test]
fn numbers_can_be_filled_in_place_and_read_as_a_slice() {
    #[repr(align(64))]
    struct Block([u8; 4096]);
    let mut block = Block([0xaa; 4096]);
    let length = Flat::<(u8, Vec<f32>)>::build(&mut block.0, |tuple| {
        tuple
            .put(1)?
            .put_with(|list| {
                list.fill(100, |numbers| numbers.iter_mut().zip(0_u8..).for_each(|(x, n)| *x = n.into()))
            })?
            .finish()
    })
    .unwrap();
    let (_, numbers) = Flat::<(u8, Vec<f32>)>::access(&block.0[..length]).unwrap();
    let slice = numbers.as_slice().unwrap();
    assert_eq!((slice.len(), slice[99]), (100, 99.0));
    assert_eq!(numbers.iter().sum::<f32>(), 4950.0);
}

#[test]
fn a_closure_can_return_its_own_error_type() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        Build(BuildError),
        Input,
    }
    impl From<BuildError> for Mine {
        fn from(error: BuildError) -> Self {
            Mine::Build(error)
        }
    }
    let result = Lines::build(&mut [0; 64], |list| {
        let mut list = list.with_len(1)?;
        list.push_with(|_| Err(Mine::Input))?;
        Ok(list.finish()?)
    });
    assert_eq!(result, Err(Mine::Input));
}
