//! Cases for `spdy`: each rule with what it takes and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..5)
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = 0..=STREAM_MASK;
    prop_oneof![
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynStream {
            stream,
            headers,
            fin
        }),
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
            stream,
            headers,
            fin
        }),
        (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Headers {
            stream,
            headers,
            fin
        }),
        (stream.clone(), prop::collection::vec(any::<u8>(), 0..300), any::<bool>())
            .prop_map(|(stream, data, fin)| Frame::Data { stream, data: data.into(), fin }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        (stream, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
    ]
}

/// Pieces of one data frame put together again.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut out: Vec<Frame> = Vec::new();
    let mut open = false;
    for frame in frames {
        match (frame, out.last_mut()) {
            (Frame::Data { stream, data, fin }, Some(Frame::Data { stream: s, data: d, fin: f }))
                if open && stream == *s && !*f =>
            {
                *d = [&d[..], &data[..]].concat().into();
                *f = fin;
            }
            (frame, _) => {
                open = matches!(frame, Frame::Data { .. });
                out.push(frame);
            }
        }
    }
    out
}

fn decode_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, SpdyError> {
    let (mut decoder, mut input, mut frames) = (Decoder::new(), BytesMut::new(), Vec::new());
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + cuts.next().copied().unwrap_or(7)));
        rest = behind;
        input.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        frames in prop::collection::vec(frame(), 0..12),
        cuts in prop::collection::vec(0_usize..200, 1..20),
    ) {
        let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut bytes).unwrap();
        }
        let read = decode_in_pieces(&bytes, &cuts).unwrap();
        prop_assert_eq!(joined(read), joined(frames));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_in_pieces(&bytes, &[50]);
    }

    #[test]
    fn damaged_frames_do_not_either(at in 0_usize..200, with: u8, frames in prop::collection::vec(frame(), 1..6)) {
        let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut bytes).unwrap();
        }
        let at = at % bytes.len();
        bytes[at] ^= with;
        let _ = decode_in_pieces(&bytes, &[1000]);
    }
}

#[test]
fn limits_hold() {
    let mut decoder = Decoder::new();
    let mut other_version = BytesMut::from(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1][..]);
    assert_eq!(decoder.decode(&mut other_version), Err(SpdyError::Version(2)));
    let mut long = BytesMut::from(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff][..]);
    assert_eq!(decoder.decode(&mut long), Err(SpdyError::Length(1, 0x00ff_ffff)));
    let mut short = BytesMut::from(&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0][..]);
    assert_eq!(decoder.decode(&mut short), Err(SpdyError::Length(6, 2)));
}

#[test]
fn long_data_is_split_and_ends_once() {
    let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
    let data = Bytes::from(vec![7; DATA_BYTES_MAX + 1]);
    encoder.encode(&Frame::Data { stream: 1, data, fin: true }, &mut bytes).unwrap();
    let frames = decode_in_pieces(&bytes, &[1 << 20]).unwrap();
    let fins: Vec<_> = frames.iter().map(|f| matches!(f, Frame::Data { fin: true, .. })).collect();
    assert_eq!(fins, [false, true]);
}

#[test]
fn settings_and_windows_are_passed_over() {
    let mut input = BytesMut::from(&[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0][..]);
    assert_eq!(Decoder::new().decode(&mut input), Ok(Some(Frame::Other { kind: 9 })));
    assert!(input.is_empty());
}
