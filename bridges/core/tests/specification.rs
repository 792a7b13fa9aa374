//! The vectors of `bridges/SPEC.md` are what this crate encodes and decodes.

use blockcast_bridge_core::{Attachment, Origin, Role, Token, encoding_of, key, schema_in};

const PAGE: &str = include_str!("../../SPEC.md");

/// The cells of the rows of the table whose head has these cells.
fn table(head: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let mut lines = PAGE.lines().map(str::trim).skip_while(|line| cells(line) != head);
    lines.next().expect("the table is there");
    let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == head.len()), "{rows:?}");
    rows
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|digit| *digit != ' ').collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn keys_are_those_of_the_page() {
    for row in table(&["topic", "key with the prefix `p"]) {
        assert_eq!(key::of_topic("p", &row[0]).as_deref(), Ok(&*row[1]));
        assert_eq!(key::to_topic("p", &row[1]).as_deref(), Ok(&*row[0]));
    }
}

#[test]
fn attachments_are_those_of_the_page() {
    let head = ["attachment", "origin", "publisher", "sequence", "fingerprint", "time", "end"];
    for row in table(&head) {
        let number = |cell: usize| row[cell].parse::<u64>().expect("a number");
        let hexadecimal = |cell: usize| u128::from_str_radix(&row[cell], 16).expect("a number");
        let (origin, publisher, sequence) = (Origin::new(hexadecimal(1)), number(2), number(3));
        let attachment = match &*row[6] {
            "yes" => Attachment::end(origin, publisher, sequence),
            "no" => Attachment::message(origin, publisher, sequence),
            other => panic!("{other}"),
        };
        let fingerprint = u64::try_from(hexadecimal(4)).expect("it fits");
        let attachment = attachment.fingerprint(fingerprint).time(number(5));
        assert_eq!(attachment.encode()[..], bytes(&row[0]));
        assert_eq!(Attachment::decode(&bytes(&row[0])), Ok(attachment));
    }
}

#[test]
fn attachments_that_the_page_refuses_are_refused() {
    for row in table(&["attachment", "because"]) {
        assert!(Attachment::decode(&bytes(&row[0])).is_err(), "{}", row[1]);
    }
}

#[test]
fn tokens_are_those_of_the_page() {
    for row in table(&["token", "role", "fingerprint", "key"]) {
        let token = Token::from_key(&row[0]).expect("a token");
        let role = if row[1] == "pub" { Role::Publisher } else { Role::Subscriber };
        assert_eq!(token.role, role);
        assert_eq!(format!("{:016x}", token.fingerprint), row[2]);
        assert_eq!(token.key, row[3]);
        assert_eq!(token.to_key(), row[0]);
    }
}

#[test]
fn the_encoding_is_that_of_the_page() {
    assert!(PAGE.contains(&encoding_of("SCHEMA")));
    assert_eq!(schema_in(&encoding_of("flat1/u32:list<string>")), Some("flat1/u32:list<string>"));
    assert_eq!(schema_in("application/json"), None);
}
