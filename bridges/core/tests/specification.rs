//! The vectors of `bridges/SPEC.md` are what this crate encodes and decodes.

use blockcast_bridge_core::{
    Attachment, AttachmentError, Origin, Packing, Role, Token, Unpacking, encoding_of, encoding_of_batches,
    key, schema_in,
};

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
    if text == "empty" {
        return Vec::new();
    }
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
    let head = "attachment payload origin publisher sequence fingerprint time messages check";
    for row in table(&head.split(' ').collect::<Vec<_>>()) {
        let number = |cell: usize| row[cell].parse::<u64>().expect("a number");
        let hexadecimal = |cell: usize| u128::from_str_radix(&row[cell], 16).expect("a number");
        let (origin, publisher, sequence) = (Origin::new(hexadecimal(2)), number(3), number(4));
        let attachment = match u32::try_from(number(7)).expect("it fits") {
            0 => Attachment::end(origin, publisher, sequence),
            messages => Attachment::message(origin, publisher, sequence).messages(messages),
        };
        let fingerprint = u64::try_from(hexadecimal(5)).expect("it fits");
        let attachment = attachment.fingerprint(fingerprint).time(number(6));
        let payload = bytes(&row[1]);
        let attachment = match &*row[8] {
            "yes" => attachment.checked([&payload[..]]),
            "no" => attachment,
            other => panic!("{other}"),
        };
        assert_eq!(attachment.encode()[..], bytes(&row[0]));
        assert_eq!(Attachment::decode(&bytes(&row[0])), Ok(attachment));
        assert_eq!(attachment.verify([&payload[..]]), Ok(()));
        if attachment.messages > 1 {
            assert!(Unpacking::new(&payload, attachment.messages).is_ok());
        }
    }
}

#[test]
fn attachments_that_the_page_refuses_are_refused() {
    for row in table(&["attachment", "because"]) {
        assert!(Attachment::decode(&bytes(&row[0])).is_err(), "{}", row[1]);
    }
    for row in table(&["attachment", "payload", "changed"]) {
        let attachment = Attachment::decode(&bytes(&row[0])).expect("it is correct by itself");
        let verified = attachment.verify([&bytes(&row[1])[..]]);
        assert!(matches!(verified, Err(AttachmentError::Check { .. })), "{}", row[2]);
    }
}

#[test]
fn batches_are_those_of_the_page() {
    for row in table(&["payload of a batch", "messages", "bytes of the messages"]) {
        let payload = bytes(&row[0]);
        let cells = row[2].split(", ").map(|message| bytes(message.trim_matches('`')));
        let messages: Vec<_> = cells.collect();
        let count = row[1].parse().expect("a number");
        let rest = Unpacking::new(&payload, count).expect("a batch");
        assert_eq!(rest.iter(&payload).collect::<Vec<_>>(), messages);
        let mut packing = Packing::default();
        assert!(messages.iter().all(|message| packing.push(message)));
        assert_eq!((packing.messages(), packing.take()), (count, (payload, 0)));
    }
    for row in table(&["payload of no batch", "messages", "because"]) {
        let count = row[1].parse().expect("a number");
        assert!(Unpacking::new(&bytes(&row[0]), count).is_err(), "{}", row[2]);
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
    assert!(PAGE.contains(&format!("`{}`", encoding_of("SCHEMA"))));
    assert!(PAGE.contains(&format!("`{}`", encoding_of_batches("SCHEMA"))));
    assert_eq!(schema_in(&encoding_of_batches("SCHEMA")), None);
    assert_eq!(schema_in(&encoding_of("flat1/u32:list<string>")), Some("flat1/u32:list<string>"));
    assert_eq!(schema_in("application/json"), None);
}
