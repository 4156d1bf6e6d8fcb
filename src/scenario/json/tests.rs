//! Parsing against `serde_json`, over what is right, wrong and mutated; and the client's side against the server's.

use super::*;

/// Reads a message where more lies behind it than the parser may need, and where nothing does; both ways it must find the same.
fn parse(text: &[u8]) -> Result<Request, Refusal> {
    let mut parser = Parser::default();
    let mut alone = text.to_vec();
    let found = parser.parse(&mut alone, text.len());
    assert_eq!(alone, text, "the source is left as it was");
    for behind in [b' ', b'"', b'7', b'}', b'\\', 0, 0xFF] {
        let mut memory = [text, &[behind; INPUT_PADDING]].concat();
        assert_eq!(parser.parse(&mut memory, text.len()), found, "{:?}", String::from_utf8_lossy(text));
        assert_eq!(memory, [text, &[behind; INPUT_PADDING]].concat(), "nor is anything behind it changed");
    }
    found
}

/// What `serde_json` makes of the same, a name's last value counting.
fn oracle(text: &[u8]) -> Result<(bool, Option<serde_json::Value>), Refusal> {
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|_| Refusal::Malformed)?;
    let object = value.as_object().ok_or(Refusal::NotAnObject)?;
    match object.get("type").and_then(serde_json::Value::as_str) {
        Some("echo") => Ok((false, None)),
        Some("broadcast") => Ok((true, object.get("payload").cloned())),
        Some(_) => Err(Refusal::UnknownType),
        None => Err(Refusal::NoType),
    }
}

fn compare(text: &[u8]) -> bool {
    let found = parse(text).map(|request| match request {
        Request::Echo => (false, None),
        Request::Broadcast(payload) => {
            let payload = payload.map(|range| {
                let source = &text[range];
                assert_eq!(source.trim_ascii(), source, "a payload has no space around it");
                serde_json::from_slice(source).expect("a payload is JSON by itself")
            });
            (true, payload)
        }
    });
    let is_right = found.is_ok();
    assert_eq!(found, oracle(text), "{}", String::from_utf8_lossy(text));
    is_right
}

const CORPUS: [&str; 34] = [
    r#"{"type":"echo","payload":{"a":1}}"#,
    r#"{"type":"broadcast","payload":{"sendTime":"1234567890","padding":"AAAA"}}"#,
    r#"{"payload":[1,2,{"type":"echo"}],"type":"broadcast"}"#,
    "  {\n\t\"type\" : \"broadcast\" ,\r\n \"payload\"  :  [ 1 , 2 ]  ,  \"x\" : 3 } \n",
    r#"{"type":"broadcast"}"#,
    r#"{"type":"broadcast","payload":null}"#,
    r#"{"type":"broadcast","payload":""}"#,
    r#"{"type":"broadcast","payload":-1.5e-7,"":0}"#,
    r#"{"type":"broadcast","payload":true,"payload":"second"}"#,
    r#"{"payload":1,"type":"echo","type":"broadcast","payload":{"payload":2}}"#,
    r#"{"type":"broadcast","payload":"a\"b\\c\u00e9\ud83e\udd80\/\n"}"#,
    r#"{"t\u0079pe":"broad\u0063ast","pay\u006coad":"}\","}"#,
    r#"{"type":"broadcast","pay\"load":1,"payload":[],"\\":{}}"#,
    r#"{"type":"broadcast","payload":{"deep":[[[[[[{"x":[]}]]]]]]},"z":[{}]}"#,
    r#"{"type":"broadcast","payload":"ünï 🦀"}"#,
    r#"{"type":"Echo"}"#,
    r#"{"type":"echo "}"#,
    r#"{"type":1}"#,
    r#"{"type":null,"payload":1}"#,
    r#"{"type":["echo"]}"#,
    r#"{"payload":{"type":"echo"}}"#,
    r#"{}"#,
    r#"[]"#,
    r#""echo""#,
    r#"12"#,
    r#"null"#,
    r#""#,
    r#" "#,
    r#"{"#,
    r#"{"type":"echo"}}"#,
    r#"{"type":"echo",}"#,
    r#"{"type":"echo"} {"#,
    r#"{'type':'echo'}"#,
    r#"{"type":"echo","payload":01}"#,
];

#[test]
fn what_is_right_and_what_is_wrong_is_so_by_the_oracle_too() {
    let right = CORPUS.iter().filter(|text| compare(text.as_bytes())).count();
    assert_eq!(right, 15);
}

#[test]
fn a_payload_is_its_source_text() {
    let source = r#"{ "a" : [ 1.0 , 1e2 ],"é":"\u00e9\/" }"#;
    for around in [("", ""), (" ", "\n"), ("\t\r\n", "  ,\"more\":[1]")] {
        let text = format!("{{\"type\":\"broadcast\",\"payload\":{}{source}{}}}", around.0, around.1);
        let Ok(Request::Broadcast(Some(range))) = parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(&text[range], source);
    }
}

#[test]
fn mutations_of_requests_are_judged_as_the_oracle_judges_them() {
    let mut random = fastrand::Rng::with_seed(7);
    let pieces: [&[u8]; 16] = [
        b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\", b"\\u00", b"type", b"payload", b"echo", b" ", b"1",
        b"null", b"\xC3",
    ];
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..30_000 {
        let mut text = random.choice(CORPUS).unwrap().as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..=text.len());
            match random.u8(0..4) {
                0 => drop(text.splice(at..at, random.choice(pieces).unwrap().iter().copied())),
                1 if at < text.len() => drop(text.remove(at)),
                2 if at < text.len() => text[at] = random.u8(..),
                _ => {
                    let end = random.usize(at..=text.len());
                    let part = text[at..end].to_vec();
                    let to = random.usize(0..=text.len());
                    text.splice(to..to, part);
                }
            }
        }
        if tells_them_apart(&text) {
            continue;
        }
        *(if compare(&text) { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 1000 && wrong > 10_000, "{right} right, {wrong} wrong");
}

/// What parsers may differ on by RFC 8259: numbers beyond any range, and halves of surrogate pairs.
fn tells_them_apart(text: &[u8]) -> bool {
    let digits = text.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    digits > 15
        || text.windows(4).any(|four| {
            four[..2] == *b"\\u"
                && four[2].eq_ignore_ascii_case(&b'd')
                && four[3].to_ascii_lowercase() >= b'8'
        })
}

#[test]
fn depth_is_bounded_and_takes_no_stack() {
    let nested = |depth: usize, open: &str, close: &str| {
        format!("{{\"type\":\"broadcast\",\"payload\":{}1{}}}", open.repeat(depth), close.repeat(depth))
    };
    let judge = |text: String| Parser::default().parse(&mut text.clone().into_bytes(), text.len());
    // A thread with little of it, so that any that is taken shows.
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let levels = open.matches(['[', '{']).count();
            assert!(judge(nested(JSON_DEPTH / levels - 1, open, close)).is_ok(), "{open}");
            assert_eq!(judge(nested(JSON_DEPTH, open, close)), Err(Refusal::TooDeep), "{open}");
            assert_eq!(judge(nested(100_000, open, close)), Err(Refusal::TooDeep), "{open}");
        }
        assert!(judge("[".repeat(500_000)).is_err());
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_long_message_is_parsed_a_longer_one_is_not_and_memory_is_given_back() {
    let of_length = |byte_count: usize| {
        let around = r#"{"type":"broadcast","payload":[""]}"#.len();
        format!("{{\"type\":\"broadcast\",\"payload\":[\"{}\"]}}", "x".repeat(byte_count - around))
    };
    let mut parser = Parser::default();
    let mut judge = |byte_count| {
        let mut text = of_length(byte_count).into_bytes();
        let judged = parser.parse(&mut text, byte_count);
        (judged.map(|request| request != Request::Echo), parser.tape.capacity() + parser.copy.capacity())
    };
    assert_eq!(judge(JSON_BYTES), (Ok(true), 0));
    assert_eq!(judge(JSON_BYTES + 1), (Err(Refusal::TooLong), 0));
    let (short, kept) = judge(100);
    assert!(short == Ok(true) && kept > 0, "what short ones take is used again");
}

#[test]
fn every_refusal_is_json_that_says_what_is_wrong() {
    use Refusal::{Binary, Malformed, NoType, NotAnObject, TooDeep, TooLong, UnknownType};
    for refusal in [Binary, TooLong, Malformed, TooDeep, NotAnObject, NoType, UnknownType] {
        let reply: serde_json::Value = serde_json::from_str(&refusal.reply()).expect("JSON");
        assert_eq!(reply["type"], "error");
        assert_eq!(reply["message"], refusal.to_string());
    }
}

#[test]
fn a_client_reads_its_own_messages_back_and_no_others() {
    for (requests, is_echo) in [(Requests::echo(256), true), (Requests::broadcast(0), false)] {
        for number in [0, 25, 26, u64::MAX] {
            let mut text = Vec::new();
            requests.compose(number, &mut text);
            assert!(text.len() == 256 || !is_echo);
            assert!(parse(&text).is_ok());
            let reply = if is_echo { Reply::Echo(number) } else { Reply::Broadcast(number) };
            assert_eq!(requests.read(&text), Some(reply.clone()));
            // Others compose anew what they have parsed.
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(requests.read(serde_json::to_string_pretty(&value).unwrap().as_bytes()), Some(reply));
            let other = String::from_utf8(text).unwrap().replace("\"}}", "x\"}}");
            assert_eq!(requests.read(other.as_bytes()), None, "another filling");
        }
    }
    let broadcast = Requests::broadcast(0);
    let result = br#"{"type":"broadcastResult","payload":{"number":3,"filling":""},"listenCount":4}"#;
    assert_eq!(broadcast.read(result), Some(Reply::BroadcastResult(3, Some(4))));
    assert_eq!(Requests::echo(0).read(result), None, "nothing that was asked");
    let error = Reply::Error(Refusal::NoType.to_string());
    assert_eq!(broadcast.read(Refusal::NoType.reply().as_bytes()), Some(error));
    assert_eq!(broadcast.read(b"{}"), None);
}
